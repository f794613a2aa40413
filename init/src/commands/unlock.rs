//! `rescue unlock`: an encrypted volume opened read-only, and what is on it put together.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use super::{Command, Usage, disks};
use crate::disk::{assemble, resolve};
use crate::sys::{files, passphrase};

pub(super) const COMMAND: Command = Command {
    name: "unlock",
    links: &[],
    usage: "DEVICE [--key-file FILE] [--header FILE|DEVICE] [--json]",
    about: "LUKS or BitLocker, read-only: asks, or reads the passphrase on stdin",
    run,
};

/// cryptsetup(8) takes key files of up to 8 MiB.
const LONGEST: usize = 8 << 20;
/// Times that a passphrase is asked for.
const TRIES: usize = 3;

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    use lexopt::prelude::*;
    let (mut device, mut key, mut header, mut json) = (None, None, None, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("key-file") => key = Some(parser.value()?),
            Long("header") => header = Some(parser.value()?.to_string_lossy().into_owned()),
            Long("json") => json = true,
            Value(value) if device.is_none() => device = Some(value.to_string_lossy().into_owned()),
            other => return Err(Usage(other.unexpected().to_string()).into()),
        }
    }
    let Some(device) = device else { return Err(Usage("it wants a device".into()).into()) };
    let _alone = super::mount::alone()?;
    let tree = disks::look(&[])?;
    let block = resolve::flat(&tree).into_iter().find(|b| b.path == device);
    let block = block.with_context(|| format!("{device} is not here: `rescue disks` lists what is"))?;
    if header.is_none() && !assemble::locked(&tree).iter().any(|b| b.path == device) {
        bail!("{device} holds nothing that is locked: `rescue probe {device}` says what it holds");
    }
    let load = |module: &str| drop(crate::modules::load(module));
    let asked = key.is_none() && std::io::stdin().is_terminal();
    let mut tries = if asked { TRIES } else { 1 };
    let node = loop {
        tries -= 1;
        let secret = match &key {
            Some(path) => Zeroizing::new(
                files::read_capped(Path::new(path), LONGEST)
                    .with_context(|| format!("reading the key file {}", Path::new(path).display()))?,
            ),
            None if asked => {
                let typed = passphrase::ask(&format!("Passphrase for {device}: "))?;
                typed.context("no passphrase was typed")?
            }
            None => from_stdin()?,
        };
        match assemble::open(block, &secret, header.as_deref(), &load) {
            Ok(node) => break node,
            Err(error) if tries > 0 => eprintln!("rescue unlock: {error}"),
            Err(error) => bail!("unlocking {device}: {error}"),
        }
    };
    if !json {
        println!("{device} is open, read-only: {node}");
    }
    let report =
        super::assemble::everything(&assemble::Wish { only: vec![node], ..Default::default() }, false)?;
    super::assemble::say(&report, json)?;
    Ok(if report.trouble.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All of it but the newline at its end, which `echo` adds.
fn from_stdin() -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    std::io::stdin().take(LONGEST as u64).read_to_end(&mut bytes).context("reading the passphrase")?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes)
}
