//! What opens an encrypted volume: typed on the terminal, from a key file, or on stdin.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use super::wrapped::complain;
use crate::disk::assemble::{self, Opening, VolumeKey, With};
use crate::sys::{files, passphrase};

/// cryptsetup(8) takes key files of up to 8 MiB.
const LONGEST: usize = 8 << 20;
/// Times that a passphrase is asked for.
const TRIES: usize = 3;

/// Where a key comes from, the one that was read last (several volumes often have the same), and what is known to
/// open which volume.
#[derive(Default)]
pub(super) struct Key {
    file: Option<OsString>,
    /// Whether stdin is for something else.
    no_stdin: bool,
    read: Option<Zeroizing<Vec<u8>>>,
    proven: Vec<Proven>,
}

struct Proven {
    device: String,
    secret: Zeroizing<Vec<u8>>,
    /// The volume's own key, which opens it without deriving it again.
    key: Option<VolumeKey>,
}

impl Key {
    pub(super) fn new(file: Option<OsString>) -> Self {
        Self { file, ..Self::default() }
    }

    /// One that is typed or not had at all: stdin is a command's.
    pub(super) fn typed() -> Self {
        Self { no_stdin: true, ..Self::default() }
    }

    /// Whether it is typed on the terminal.
    pub(super) fn asks(&self) -> bool {
        self.file.is_none() && std::io::stdin().is_terminal()
    }

    /// Reads it, where that has not been done.
    fn prepare(&mut self, device: &str) -> anyhow::Result<()> {
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
                bail!(
                    "{device} is open read-only, and its key is wanted again: --key-file FILE, or first: \
                     rescue unlock --rw {device}"
                )
            }
            None => from_stdin()?,
        };
        self.read = Some(secret);
        Ok(())
    }

    /// Reads a key file before anything is done: without it nothing is.
    pub(super) fn read_file(&mut self) -> anyhow::Result<()> {
        if self.file.is_some() { self.prepare("") } else { Ok(()) }
    }

    /// Finds what opens a volume and opens nothing, so that what is in its way is taken down only for a key that
    /// fits.
    pub(super) fn prove(&mut self, opening: Opening<'_>) -> anyhow::Result<()> {
        if !self.proven.iter().any(|p| p.device == opening.device) {
            let key = self.tried(opening.device, &|secret| assemble::prove(opening, secret))?;
            let secret = self.read.clone().unwrap_or_default();
            self.proven.push(Proven { device: opening.device.into(), secret, key });
        }
        Ok(())
    }

    /// Opens a volume.
    pub(super) fn open(&mut self, opening: Opening<'_>, load: &dyn Fn(&str)) -> anyhow::Result<String> {
        let Some(proven) = self.proven.iter().find(|p| p.device == opening.device) else {
            return self
                .tried(opening.device, &|secret| assemble::open(opening, &With::Secret(secret), load));
        };
        if let Some(key) = &proven.key
            && let Ok(node) = assemble::open(opening, &With::Key(key), load)
        {
            return Ok(node);
        }
        assemble::open(opening, &With::Secret(&proven.secret), load)
            .with_context(|| format!("unlocking {}", opening.device))
    }

    /// Does something with a secret; what is typed may be wrong a few times.
    fn tried<T>(&mut self, device: &str, act: &dyn Fn(&[u8]) -> io::Result<T>) -> anyhow::Result<T> {
        let mut tries = if self.asks() { TRIES } else { 1 };
        loop {
            tries -= 1;
            self.prepare(device)?;
            let secret = self.read.as_ref().map(|s| s.as_slice()).unwrap_or_default();
            match act(secret) {
                Ok(done) => return Ok(done),
                Err(error) if tries > 0 => {
                    complain!("rescue: {error}");
                    self.read = None;
                }
                Err(error) => bail!("unlocking {device}: {error}"),
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
