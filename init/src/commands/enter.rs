//! `rescue enter`: into a system, to run its own programs. A chroot in namespaces of mounts and of
//! processes: when the shell ends, in whatever way, everything that was mounted for it and everything it
//! left running ends with it.

use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use rescue_schema::report::MountReport;

use super::wrapped::{complain, tell};
use super::{Command, Usage, disks, mount};
use crate::disk::mount::Leave;
use crate::disk::{enter, mountinfo, system, unmount};
use crate::sys::process::How;
use crate::sys::{ending, inside, mounts, namespace, spawn};

/// How the command calls itself once it is in namespaces of its own.
const INSIDE: &str = "--inside";
/// Programs of NixOS, which /run/current-system leads to once it has booted.
const NIX: &str = "/nix/var/nix/profiles/system/sw/bin";
/// What a program that was left behind may take to end.
const GRACE: Duration = Duration::from_secs(2);

pub(super) const COMMAND: Command = Command {
    name: "enter",
    links: &[],
    usage: "[SYSTEM|DEV] [--rw] [--key-file FILE] [--degraded] [--only DEV]… [--dry-run] [-- COMMAND…]",
    about: "into a system, with its own shell and programs; all undone at the end",
    run,
};

#[derive(Default)]
struct Wish {
    name: Option<String>,
    leave: Leave,
    dry_run: bool,
    only: Vec<String>,
    key_file: Option<std::ffi::OsString>,
    command: Vec<String>,
}

fn parse(args: &[String]) -> Result<Wish, Usage> {
    let mut wish = Wish::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rw" => wish.leave.write = true,
            "--degraded" => wish.leave.degraded = true,
            "--dry-run" => wish.dry_run = true,
            "--only" => {
                wish.only.push(args.next().ok_or_else(|| Usage("--only wants a device".into()))?.clone());
            }
            "--key-file" => {
                let file = args.next().ok_or_else(|| Usage("--key-file wants a file".into()))?;
                wish.key_file = Some(file.into());
            }
            "--" => {
                wish.command = args.cloned().collect();
                break;
            }
            option if option.starts_with('-') => return Err(Usage(format!("{option:?} is not an option"))),
            name if wish.name.is_none() => wish.name = Some(name.into()),
            word => return Err(Usage(format!("a command goes behind --: -- {word} …"))),
        }
    }
    Ok(wish)
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    if let [first, folder, mode, command @ ..] = args
        && first == INSIDE
    {
        return first_process(Path::new(folder), mode == "ro", command);
    }
    let wish = parse(args)?;
    if wish.dry_run {
        enter::plan(!wish.leave.write, &mountinfo::parse(&disks::mountinfo()?))
            .iter()
            .for_each(|step| tell!("{step}"));
        return Ok(ExitCode::SUCCESS);
    }
    let (report, fresh, facts) =
        mount::ensure(wish.name.as_deref(), wish.leave, &wish.only, wish.key_file.as_deref())?;
    let ended = if facts.family == "linux" {
        within(&report, &facts, &wish)
    } else {
        let what = facts.pretty_name.as_deref().unwrap_or(facts.family);
        Err(anyhow::anyhow!(
            "{what} is no Linux: its programs do not run here; it is mounted by rescue mount"
        ))
    };
    if fresh {
        undo(&report)?;
    }
    ended
}

/// Unmounts what was mounted for this alone.
fn undo(report: &MountReport) -> anyhow::Result<()> {
    let _alone = mount::alone()?;
    let plan = unmount::plan(&disks::mountinfo()?, Path::new(&report.target));
    let done = unmount::apply(&plan, false)?;
    complain!("{}", unmount::explain(&done.busy, "rescue umount --kill"));
    Ok(())
}

fn within(report: &MountReport, facts: &system::Facts, wish: &Wish) -> anyhow::Result<ExitCode> {
    runs_here(facts)?;
    let on_terminal = std::io::stdin().is_terminal();
    if report.read_only && on_terminal && wish.command.is_empty() {
        complain!(
            "{} is read-only (/tmp, /run and /var/tmp are not); to change it: rescue enter --rw {}",
            report.system,
            report.system
        );
    }
    namespace::next_child_is_first().context("making a namespace of processes")?;
    let mut child = std::process::Command::new("/proc/self/exe");
    child.arg0("rescue").args(["enter", INSIDE, &report.target, if report.read_only { "ro" } else { "rw" }]);
    child.args(&wish.command);
    namespace::die_with_parent(&mut child);
    // The keyboard's signals are for what runs in there.
    namespace::deaf_to_keyboard();
    let status = child.status().context("starting rescue enter again")?;
    if on_terminal {
        namespace::take_terminal();
    }
    if !report.read_only && !facts.notes.is_empty() {
        facts.notes.iter().for_each(|note| complain!("{}: {note}", report.system));
    }
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)))
}

/// Refuses a system whose programs this machine cannot run.
fn runs_here(facts: &system::Facts) -> anyhow::Result<()> {
    let ours = std::env::consts::ARCH;
    match facts.architecture.as_deref() {
        None if !facts.notes.is_empty() => {
            bail!("no program was found in it that could be run: {}", facts.notes.join("; "))
        }
        None => {
            bail!("no program was found in it that could be run: is /usr missing? `rescue systems` says more")
        }
        Some(theirs) if theirs == ours || (theirs == "i686" && ours == "x86_64") => Ok(()),
        Some(theirs) => {
            bail!("its programs are for {theirs}, and this machine is {ours}: it can be mounted only")
        }
    }
}

/// The first process of the namespace: prepares it, starts the shell, and ends what that leaves behind. It
/// keeps the rescue's root, so that programs see by /proc/1/root that they are in a chroot.
fn first_process(folder: &Path, read_only: bool, command: &[String]) -> anyhow::Result<ExitCode> {
    namespace::own_mounts().context("making a namespace of mounts")?;
    for line in
        enter::prepare(folder, read_only).with_context(|| format!("preparing {}", folder.display()))?
    {
        complain!("rescue enter: {line}");
    }
    std::env::set_current_dir("/")?;
    let root = mounts::folder(folder).with_context(|| format!("opening {}", folder.display()))?;
    use std::os::fd::AsFd;
    let passwd = mounts::read_inside(root.as_fd(), "etc/passwd", 1 << 20).unwrap_or_default();
    let (shell, home) =
        system::shell_of_root(&passwd).unwrap_or_else(|| ("/bin/sh".to_string(), "/root".to_string()));
    let usable = |path: &&str| inside::known(root.as_fd(), path).is_ok_and(|k| k.regular);
    let tried = [shell.as_str(), "/bin/bash", "/bin/sh", "/usr/bin/sh", "/bin/busybox"];
    let path = match inside::known(root.as_fd(), NIX) {
        Ok(known) if known.folder => format!("{NIX}:{}", spawn::PATH),
        _ => spawn::PATH.to_string(),
    };
    let shell = tried.into_iter().find(usable).context("there is no shell in it")?;
    let mut program = match command {
        [] => {
            let mut program = std::process::Command::new(shell);
            let name = shell.rsplit('/').next().unwrap_or("sh");
            // A login shell reads its profile, which sets its own path.
            program.arg0(format!("-{name}"));
            program
        }
        [first, rest @ ..] => {
            let mut program = std::process::Command::new(first);
            program.args(rest);
            program
        }
    };
    program.env_clear();
    for kept in ["TERM", "COLORTERM", "LANG", "DEBIAN_FRONTEND"] {
        if let Some(value) = std::env::var_os(kept) {
            program.env(kept, value);
        }
    }
    program.envs([
        ("PATH", path.as_str()),
        ("HOME", &home),
        ("SHELL", shell),
        ("USER", "root"),
        ("LOGNAME", "root"),
    ]);
    program.env("RESCUE_SYSTEM", folder.file_name().unwrap_or_default());
    let kept = root.try_clone().context("keeping the root open")?;
    namespace::rooted(&mut program, root);
    let child = match program.spawn() {
        Ok(child) => child,
        Err(error) => {
            let what = command.first().map_or(shell, |c| c);
            complain!("rescue enter: starting {what} in {}: {error}", folder.display());
            // As a shell says it: not found, or found and not to be run.
            return Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }));
        }
    };
    let how = namespace::wait(child.id()).context("waiting for its shell")?;
    let proc = folder.join("proc");
    let left = enter::left(&proc);
    if !left.is_empty() {
        let names: Vec<String> = left.iter().map(|(pid, name)| format!("{name} ({pid})")).collect();
        complain!("rescue enter: ending what was left running in there: {}", names.join(", "));
        let pids: Vec<i32> = left.iter().map(|(pid, _)| *pid).collect();
        ending::end(&pids, GRACE, &|_| true);
    }
    if !read_only {
        let _ = File::from(mounts::folder_inside(kept.as_fd(), ".")?).sync_all();
        rustix::fs::sync();
    }
    let code = match how {
        How::Exit(code) => code,
        How::Signal(number) => 128 + number,
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Wish, Usage> {
        parse(&args.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn what_follows_the_dashes_is_the_command() {
        let wish = parsed(&["db7", "--rw", "--", "ls", "--rw", "-l"]).ok().unwrap();
        assert!(wish.leave.write && wish.name.as_deref() == Some("db7"));
        assert_eq!(wish.command, ["ls", "--rw", "-l"]);
        assert!(parsed(&["db7", "ls"]).is_err() && parsed(&["-x"]).is_err() && parsed(&["--only"]).is_err());
    }

    #[test]
    fn a_foreign_machine_is_refused_by_name() {
        let facts =
            |arch: &str| system::Facts { architecture: Some(arch.into()), ..system::Facts::default() };
        assert!(runs_here(&facts(std::env::consts::ARCH)).is_ok());
        let said = runs_here(&facts("s390x")).unwrap_err().to_string();
        assert!(said.contains("s390x") && said.contains(std::env::consts::ARCH), "{said}");
        assert!(runs_here(&system::Facts::default()).is_err());
    }
}
