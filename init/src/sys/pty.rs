//! Pseudo-terminals: opened, given the modes that a client asks for (RFC 4254 section 8), resized.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex as Code, Termios,
    Winsize, tcgetattr, tcsetattr, tcsetwinsize,
};

/// A pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// The side that speaks to the client.
    pub master: OwnedFd,
    /// The side that the session's processes have as their terminal.
    pub slave: OwnedFd,
    /// Name of the slave, `/dev/pts/N`.
    pub name: PathBuf,
}

/// Size of a terminal, in characters and in pixels (0: unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Characters in a line.
    pub columns: u32,
    /// Lines.
    pub rows: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Opens a pseudo-terminal; neither side becomes this process's own terminal.
///
/// # Errors
/// Those of the kernel: no devpts, or no terminal left.
pub fn open() -> io::Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    // By descriptor and not by name: right in any mount namespace.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok(Pty { master, slave, name: PathBuf::from(OsString::from_vec(name.into_bytes())) })
}

/// Sets the size; the kernel tells the foreground processes (SIGWINCH) when it differs.
///
/// # Errors
/// Those of the kernel.
pub fn resize(terminal: impl AsFd, size: Size) -> io::Result<()> {
    let cells = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    tcsetwinsize(
        terminal,
        Winsize {
            ws_row: cells(size.rows),
            ws_col: cells(size.columns),
            ws_xpixel: cells(size.width),
            ws_ypixel: cells(size.height),
        },
    )?;
    Ok(())
}

/// Applies encoded terminal modes, opcode and argument (RFC 4254 section 8, RFC 8160). Opcodes that
/// Linux has no mode for are passed over, as the RFC asks.
///
/// # Errors
/// Those of the kernel.
pub fn apply_modes(terminal: impl AsFd, modes: &[(u8, u32)]) -> io::Result<()> {
    let mut termios = tcgetattr(&terminal)?;
    for (opcode, argument) in modes {
        apply(&mut termios, *opcode, *argument);
    }
    tcsetattr(&terminal, OptionalActions::Now, &termios)?;
    Ok(())
}

fn apply(termios: &mut Termios, opcode: u8, argument: u32) {
    if let Some(index) = special_code(opcode) {
        // 255 stands for "undefined" on the wire; Linux's _POSIX_VDISABLE is 0.
        let value = u8::try_from(argument).unwrap_or(255);
        termios.special_codes[index] = if value == 255 { 0 } else { value };
        return;
    }
    let on = argument != 0;
    if let Some(mode) = input_mode(opcode) {
        termios.input_modes.set(mode, on);
    } else if let Some(mode) = local_mode(opcode) {
        termios.local_modes.set(mode, on);
    } else if let Some(mode) = output_mode(opcode) {
        termios.output_modes.set(mode, on);
    } else {
        match opcode {
            90 if on => {
                termios.control_modes.remove(ControlModes::CSIZE);
                termios.control_modes.insert(ControlModes::CS7);
            }
            91 if on => {
                termios.control_modes.remove(ControlModes::CSIZE);
                termios.control_modes.insert(ControlModes::CS8);
            }
            92 => termios.control_modes.set(ControlModes::PARENB, on),
            93 => termios.control_modes.set(ControlModes::PARODD, on),
            // B0 would hang up the line.
            128 if on => drop(termios.set_input_speed(argument)),
            129 if on => drop(termios.set_output_speed(argument)),
            _ => {}
        }
    }
}

fn special_code(opcode: u8) -> Option<Code> {
    Some(match opcode {
        1 => Code::VINTR,
        2 => Code::VQUIT,
        3 => Code::VERASE,
        4 => Code::VKILL,
        5 => Code::VEOF,
        6 => Code::VEOL,
        7 => Code::VEOL2,
        8 => Code::VSTART,
        9 => Code::VSTOP,
        10 => Code::VSUSP,
        12 => Code::VREPRINT,
        13 => Code::VWERASE,
        14 => Code::VLNEXT,
        16 => Code::VSWTC,
        18 => Code::VDISCARD,
        _ => return None,
    })
}

fn input_mode(opcode: u8) -> Option<InputModes> {
    Some(match opcode {
        30 => InputModes::IGNPAR,
        31 => InputModes::PARMRK,
        32 => InputModes::INPCK,
        33 => InputModes::ISTRIP,
        34 => InputModes::INLCR,
        35 => InputModes::IGNCR,
        36 => InputModes::ICRNL,
        37 => InputModes::IUCLC,
        38 => InputModes::IXON,
        39 => InputModes::IXANY,
        40 => InputModes::IXOFF,
        41 => InputModes::IMAXBEL,
        42 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local_mode(opcode: u8) -> Option<LocalModes> {
    Some(match opcode {
        50 => LocalModes::ISIG,
        51 => LocalModes::ICANON,
        52 => LocalModes::XCASE,
        53 => LocalModes::ECHO,
        54 => LocalModes::ECHOE,
        55 => LocalModes::ECHOK,
        56 => LocalModes::ECHONL,
        57 => LocalModes::NOFLSH,
        58 => LocalModes::TOSTOP,
        59 => LocalModes::IEXTEN,
        60 => LocalModes::ECHOCTL,
        61 => LocalModes::ECHOKE,
        62 => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output_mode(opcode: u8) -> Option<OutputModes> {
    Some(match opcode {
        70 => OutputModes::OPOST,
        71 => OutputModes::OLCUC,
        72 => OutputModes::ONLCR,
        73 => OutputModes::OCRNL,
        74 => OutputModes::ONOCR,
        75 => OutputModes::ONLRET,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_size_are_applied() {
        let pty = open().unwrap();
        assert!(pty.name.starts_with("/dev/pts"));
        // ECHO off, VINTR = ^B, VQUIT undefined, an opcode nobody has, and the longest argument.
        apply_modes(&pty.slave, &[(53, 0), (1, 2), (2, 255), (200, 1), (3, u32::MAX)]).unwrap();
        let termios = tcgetattr(&pty.slave).unwrap();
        assert!(!termios.local_modes.contains(LocalModes::ECHO));
        assert_eq!(termios.special_codes[Code::VINTR], 2);
        assert_eq!(termios.special_codes[Code::VQUIT], 0);
        assert_eq!(termios.special_codes[Code::VERASE], 0);
        resize(&pty.master, Size { columns: 99, rows: 70_000, width: 0, height: 0 }).unwrap();
        let size = rustix::termios::tcgetwinsize(&pty.slave).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (99, u16::MAX));
    }
}
