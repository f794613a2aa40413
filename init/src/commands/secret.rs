//! What opens an encrypted volume: typed on the terminal, from a key file, or on stdin.

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use crate::disk::assemble::{self, Opening};
use crate::sys::{files, passphrase};

/// cryptsetup(8) takes key files of up to 8 MiB.
const LONGEST: usize = 8 << 20;
/// Times that a passphrase is asked for.
const TRIES: usize = 3;

/// Where a key comes from, and the one that was read last: several volumes often have the same.
#[derive(Default)]
pub(super) struct Key {
    file: Option<OsString>,
    /// Whether stdin is for something else.
    no_stdin: bool,
    read: Option<Zeroizing<Vec<u8>>>,
}

impl Key {
    pub(super) fn new(file: Option<OsString>) -> Self {
        Self { file, ..Self::default() }
    }

    /// One that is typed or not had at all: stdin is a command's.
    pub(super) fn typed() -> Self {
        Self { no_stdin: true, ..Self::default() }
    }

    fn asks(&self) -> bool {
        self.file.is_none() && std::io::stdin().is_terminal()
    }

    /// Reads it, where that has not been done.
    pub(super) fn prepare(&mut self, device: &str) -> anyhow::Result<()> {
        if self.read.is_some() {
            return Ok(());
        }
        let secret = match &self.file {
            Some(path) => Zeroizing::new(
                files::read_capped(Path::new(path), LONGEST)
                    .with_context(|| format!("reading the key file {}", Path::new(path).display()))?,
            ),
            None if self.asks() => {
                let typed = passphrase::ask(&format!("Passphrase for {device}: "))?;
                typed.context("no passphrase was typed")?
            }
            None if self.no_stdin => {
                bail!("{device} is open read-only, and its key is wanted again: rescue unlock --rw {device}")
            }
            None => from_stdin()?,
        };
        self.read = Some(secret);
        Ok(())
    }

    /// Opens a volume with it; what is typed may be wrong a few times.
    pub(super) fn open(&mut self, opening: Opening<'_>, load: &dyn Fn(&str)) -> anyhow::Result<String> {
        let mut tries = if self.asks() { TRIES } else { 1 };
        loop {
            tries -= 1;
            self.prepare(opening.device)?;
            let secret = self.read.as_ref().map(|s| s.as_slice()).unwrap_or_default();
            match assemble::open(opening, secret, load) {
                Ok(node) => return Ok(node),
                Err(error) if tries > 0 => {
                    eprintln!("rescue: {error}");
                    self.read = None;
                }
                Err(error) => bail!("unlocking {}: {error}", opening.device),
            }
        }
    }
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
