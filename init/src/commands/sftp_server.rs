//! `rescue sftp-server`: SFTP on standard input and output, for the SSH server's subsystem and for
//! `command="rescue sftp-server -R"` in a line of `authorized_keys`.

use std::process::ExitCode;

use super::{Command, Usage};
use crate::ssh::subsystem::sftp;
use crate::sys::stdio;

pub(super) const COMMAND: Command =
    Command { name: "sftp-server", links: &[], usage: "[-R] [-d FOLDER]", about: "", run };

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    use lexopt::prelude::Short;
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/".into());
    let mut options = sftp::Options { home: home.into(), ..sftp::Options::default() };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(|e| Usage(e.to_string()))? {
        match argument {
            Short('R') => options.read_only = true,
            Short('d') => {
                let folder = parser.value().map_err(|e| Usage(e.to_string()))?;
                std::env::set_current_dir(&folder)
                    .map_err(|error| anyhow::anyhow!("entering {}: {error}", folder.display()))?;
            }
            other => return Err(Usage(other.unexpected().to_string()).into()),
        }
    }
    sftp::serve(options, stdio::Input, stdio::Output)?;
    Ok(ExitCode::SUCCESS)
}
