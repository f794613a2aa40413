//! Ending the machine's run.

use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};

use super::notify::Down;

/// Makes Ctrl-Alt-Del a SIGINT to PID 1 instead of an immediate reset (reboot(2), `CAD_OFF`).
pub fn ctrl_alt_del_to_init() {
    let _ = set_cad_enabled(false);
}

/// Goes down now: nothing is told, unmounted or synced. Returns only when the kernel refuses.
pub fn down_now(way: Down) -> nix::Error {
    let mode = match way {
        Down::Reboot => RebootMode::RB_AUTOBOOT,
        Down::PowerOff => RebootMode::RB_POWER_OFF,
        Down::Halt => RebootMode::RB_HALT_SYSTEM,
    };
    match reboot(mode) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}
