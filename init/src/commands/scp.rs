//! `scp -t` and `scp -f`: what an `scp` that speaks its old protocol (`scp -O`) starts over SSH.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Command, Usage};
use crate::ssh::subsystem::scp::{Options, receive, send};
use crate::sys::stdio;

pub(super) const COMMAND: Command =
    Command { name: "scp", links: &["scp"], usage: "-t|-f [-r] [-p] [-d] PATH…", about: "", run };

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    use lexopt::prelude::{Short, Value};
    let mut options = Options::default();
    let (mut to, mut from) = (false, false);
    let mut paths: Vec<PathBuf> = Vec::new();
    // Names of files are bytes: as they came, not as text.
    let mut given: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let own = given.split_off(given.len().saturating_sub(args.len()));
    let mut parser = lexopt::Parser::from_args(own);
    while let Some(argument) = parser.next().map_err(|e| Usage(e.to_string()))? {
        match argument {
            Short('t') => to = true,
            Short('f') => from = true,
            Short('r') => options.recursive = true,
            Short('p') => options.preserve = true,
            Short('d') => options.folder = true,
            // Words for people, of which there are none here.
            Short('v' | 'q') => {}
            Value(path) => paths.push(path.into()),
            other => return Err(Usage(other.unexpected().to_string()).into()),
        }
    }
    let well = match (to, from, paths.as_slice()) {
        (true, false, [target]) => receive(options, target, stdio::Input, stdio::Output)?,
        (false, true, [_, ..]) => send(options, &paths, stdio::Input, stdio::Output)?,
        _ => {
            let why = "there is no SSH client in here: start scp on the other machine, which is served";
            return Err(Usage(why.into()).into());
        }
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
