//! The `rescue` verbs, one file each: arguments in, report out. This is also where domains that
//! must not know one another are put together.
//!
//! To add a verb: write `commands/<verb>.rs` with a `pub(super) const COMMAND: Command`, and add it
//! to [`COMMANDS`].
//!
//! Exit status: 0 done, 1 it failed (one line on stderr says what, and what to do), 2 wrong usage.

mod apart;
mod assemble;
mod beacon;
mod completions;
mod console;
mod disks;
mod disks_text;
mod disks_words;
mod disks_worker;
mod drivers;
mod enter;
mod farewell;
mod find;
mod find_inside;
mod find_kept;
mod https;
mod log;
mod modprobe;
mod modules;
mod mount;
mod mount_choose;
mod mount_key;
mod mount_not;
mod mount_one;
mod mount_text;
mod net;
mod net_disk;
mod net_text;
mod net_wishes;
mod netd;
mod notify;
mod packed;
mod power;
mod probe;
mod scp;
mod secret;
mod sftp_server;
mod sources;
mod sources_asking;
mod sources_media;
mod sources_metadata;
mod sources_softlayer;
mod sources_url;
mod sources_vmware;
mod sshd;
mod status;
mod systems;
mod umount;
mod unlock;
mod unlock_dataset;
mod who;
mod wrapped;
mod writable;

use std::process::ExitCode;

pub use https::run as run_https;
pub use packed::become_it;
use wrapped::{complain, put, tell};

/// A verb.
pub struct Command {
    /// What is typed.
    pub name: &'static str,
    /// Other names: links to this binary by which it is called as a program of its own.
    pub links: &'static [&'static str],
    /// What follows the name.
    pub usage: &'static str,
    /// One line for `rescue help`; empty for the services that PID 1 starts.
    pub about: &'static str,
    /// Does it. Called with the name that was typed and the arguments after it.
    pub run: fn(&str, &[String]) -> anyhow::Result<ExitCode>,
}

/// Every verb, in the order in which `rescue help` lists them.
#[rustfmt::skip]
const COMMANDS: &[Command] = &[
    status::COMMAND,
    disks::COMMAND,
    probe::COMMAND,
    assemble::COMMAND,
    unlock::COMMAND,
    systems::COMMAND,
    mount::COMMAND,
    enter::COMMAND,
    umount::COMMAND,
    net::COMMAND,
    log::COMMAND,
    who::COMMAND,
    power::REBOOT,
    power::POWEROFF,
    power::HALT,
    completions::COMMAND,
    sshd::COMMAND,
    sshd::CONNECTION,
    sftp_server::COMMAND,
    scp::COMMAND,
    modprobe::COMMAND,
    modules::COMMAND,
    netd::COMMAND,
    net_disk::COMMAND,
    sources::COMMAND,
    console::COMMAND,
    farewell::COMMAND,
    notify::COMMAND,
    beacon::COMMAND,
];

/// A mistake of the one who typed: exit status 2 instead of 1.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Whether a link of this name stands for a verb.
pub fn is_link(name: &str) -> bool {
    COMMANDS.iter().any(|c| c.links.contains(&name))
}

/// Runs `rescue NAME ARGS…`.
pub fn run(name: &str, args: &[String]) -> ExitCode {
    if matches!(name, "help" | "--help" | "-h") {
        put!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|c| c.name == name || c.links.contains(&name)) else {
        complain!("rescue: no verb {name:?}; `rescue help` lists them");
        return ExitCode::from(2);
    };
    // `shutdown -h now` asks for something else.
    let asked =
        args.iter().any(|a| a == "--help") || (name == command.name && matches!(args, [a] if a == "-h"));
    if asked {
        tell!("usage: rescue {} {}\n{}", command.name, command.usage, command.about);
        return ExitCode::SUCCESS;
    }
    match (command.run)(name, args) {
        Ok(code) => code,
        Err(error) => {
            complain!("rescue {}: {error:#}", command.name);
            if error.is::<Usage>() {
                complain!("usage: rescue {} {}", command.name, command.usage);
                return ExitCode::from(2);
            }
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let mut text = String::from("rescue: see what is on the disks, repair it, and boot back into it\n\n");
    for command in COMMANDS.iter().filter(|c| !c.about.is_empty()) {
        text.push_str(&format!("  {:<12} {}\n", command.name, command.about));
    }
    text.push_str("\nEvery verb has --help; those that report have --json.\n");
    text
}
