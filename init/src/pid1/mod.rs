//! PID 1: brings the rescue up, keeps its services running, reaps, and takes the machine down in
//! order.
//!
//! It is synchronous, has one thread, and parses nothing that came over the network. A boot is the
//! table in [`stages`]; after it has been walked, [`run`] is one `poll` over signals, the notice
//! socket and the power button.
//!
//! To add a stage: a row in [`stages::STAGES`] and the function it names. To add a service: a row in
//! [`supervise::SERVICES`].

mod boot;
mod confirm;
mod consoles;
mod fatal;
mod mounts;
mod session;
mod shutdown;
mod stages;
mod supervise;

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::sys::log;
use crate::sys::notify::{Down, Notice};
use crate::sys::power::ctrl_alt_del_to_init;
use crate::sys::process::reap;
use crate::sys::signals::Signals;
use boot::Boot;

/// What PID 1 answers to. The user signals are those that busybox's `halt` and `poweroff` send,
/// SIGPWR is the kernel's word for a failing supply.
const SIGNALS: [(Signal, Option<Down>); 6] = [
    (Signal::SIGCHLD, None),
    (Signal::SIGTERM, Some(Down::Reboot)),
    (Signal::SIGINT, Some(Down::Reboot)),
    (Signal::SIGUSR1, Some(Down::Halt)),
    (Signal::SIGUSR2, Some(Down::PowerOff)),
    (Signal::SIGPWR, Some(Down::PowerOff)),
];

/// Longest notice in bytes; the longest of ours is below 100.
const MAX_NOTICE: usize = 512;

/// Runs the boot and then serves until the machine is told to go down. Never returns on a machine
/// that can.
pub fn run() -> ExitCode {
    let started = Instant::now();
    fatal::install();
    ctrl_alt_del_to_init();
    let mut signals = match Signals::open(&SIGNALS.map(|(signal, _)| signal)) {
        Ok(signals) => signals,
        Err(error) => fatal::end(&format!("taking signals from a descriptor: {error}")),
    };
    let mut boot = Boot::new(started);
    stages::walk(&mut boot);
    loop {
        if let Some(way) = turn(&mut boot, &mut signals) {
            shutdown::go_down(&mut boot, way);
        }
    }
}

/// Waits for the next thing to happen and deals with it; says when the machine is to go down.
fn turn(boot: &mut Boot, signals: &mut Signals) -> Option<Down> {
    let now = Instant::now();
    let timeout = boot.next_deadline().map_or(PollTimeout::NONE, |at| {
        // Rounded up, so that the deadline has passed when poll returns.
        let wait = at.saturating_duration_since(now) + Duration::from_millis(1);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    });
    {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(boot.notices.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        fds.extend(boot.power_button.as_ref().map(|button| PollFd::new(button.as_fd(), PollFlags::POLLIN)));
        let _ = poll(&mut fds, timeout);
    }
    let mut down = None;
    while let Some(signal) = signals.pending() {
        if let Some((_, Some(way))) = SIGNALS.iter().find(|(s, _)| *s == signal) {
            log::kmsg(&format!("rescue: {signal}: {}", way.word()));
            down = Some(*way);
        }
    }
    while let Some(ended) = reap() {
        boot.services.ended(ended, Instant::now());
    }
    let notices: Vec<Notice> = boot.notices.as_ref().map(pending_notices).unwrap_or_default();
    for notice in notices {
        match notice {
            Notice::GoDown(way) => down = Some(way),
            notice => boot.note(notice),
        }
    }
    if boot.power_button_pressed() {
        log::kmsg("rescue: power button: poweroff");
        down = Some(Down::PowerOff);
    }
    down.or(boot.tick(Instant::now()))
}

/// What has been said since the last look: bounded, so that a flood cannot keep PID 1 from reaping.
fn pending_notices(socket: &UnixDatagram) -> Vec<Notice> {
    let mut buffer = [0; MAX_NOTICE];
    let mut notices = Vec::new();
    for _ in 0..64 {
        let Ok(length) = socket.recv(&mut buffer) else { break };
        notices.extend(buffer.get(..length).and_then(Notice::parse));
    }
    notices
}
