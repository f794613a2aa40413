//! Encrypted volumes, opened by cryptsetup(8): LUKS and BitLocker.
//!
//! What opens a volume can be tried before anything is taken down for it. That yields the volume's own key, so that
//! the slow derivation, which takes seconds by design, is done once.

use std::io;
use std::process::Stdio;

use rescue_schema::report::{BlockReport, ProbeResult};
use zeroize::Zeroizing;

use super::apply::{program, run, run_for};
use super::record::{note, take};
use super::zfs as pool;
use crate::disk::resolve::flat;
use crate::disk::zfs;

/// Longest key of a volume, in bytes: cryptsetup(8) takes up to 512 bits, and twice that with integrity.
const LONGEST: usize = 128;

/// Encrypted volumes that are not open.
pub fn locked(disks: &[BlockReport]) -> Vec<&BlockReport> {
    let is = |b: &&BlockReport| {
        b.probe.result == ProbeResult::Found
            && matches!(b.probe.kind.as_deref(), Some("crypto_LUKS" | "BitLocker"))
            && b.children.iter().all(|c| c.partition.is_some())
    };
    flat(disks).into_iter().filter(is).collect()
}

/// The same, without those of guests, whose disks are volumes of this machine's pools.
pub fn locked_here(disks: &[BlockReport]) -> Vec<&BlockReport> {
    let mut locked = locked(disks);
    locked.retain(|b| zfs::guest(&b.path, disks).is_none());
    locked
}

/// What is encrypted how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// LUKS.
    #[default]
    Luks,
    /// BitLocker.
    BitLocker,
    /// Datasets of a pool, which have the key of one of them.
    Dataset,
}

impl Format {
    /// That of a device.
    pub fn of(block: &BlockReport) -> Self {
        if block.probe.kind.as_deref() == Some("BitLocker") { Self::BitLocker } else { Self::Luks }
    }
}

/// How an encrypted volume is opened.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// The device, or the dataset that a key is of.
    pub device: &'a str,
    /// What it is.
    pub format: Format,
    /// Where the header is, when it is apart.
    pub header: Option<&'a str>,
    /// Whether it may be written to.
    pub write: bool,
}

/// A volume's own key, which is derived from nothing.
pub struct VolumeKey(Zeroizing<Vec<u8>>);

/// What opens a volume.
pub enum With<'a> {
    /// What its user knows.
    Secret(&'a [u8]),
    /// What [`prove`] gave.
    Key(&'a VolumeKey),
}

/// What an opened volume is called: by its device, so that two copies are told apart.
pub fn opened_name(device: &str) -> String {
    format!("luks-{}", device.trim_start_matches("/dev/").replace(['/', ' '], "-"))
}

/// Tries what `secret` holds on a volume, and opens nothing; gives the volume's key, where that can be had.
///
/// # Errors
/// What cryptsetup said: a wrong passphrase is exit status 2.
pub fn prove(opening: Opening<'_>, secret: &[u8]) -> io::Result<Option<VolumeKey>> {
    let dump = match opening.format {
        Format::Dataset => return pool::key(opening.device, secret, pool::Key::Try).map(|()| None),
        Format::BitLocker => "bitlkDump",
        Format::Luks => "luksDump",
    };
    let mut command = program("cryptsetup");
    command.arg(dump);
    command.args(["--dump-volume-key", "--batch-mode", "--key-file", "-"]);
    if let Some(header) = opening.header {
        command.args(["--header", header]);
    }
    let said = run_for(command.arg("--").arg(opening.device).stdout(Stdio::piped()), Some(secret))?;
    Ok(dumped(&said))
}

/// The key in what cryptsetup prints of a volume, behind all else: `MK dump:` and pairs of digits.
fn dumped(said: &[u8]) -> Option<VolumeKey> {
    let start = said.iter().rposition(|b| *b == b':')? + 1;
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut key = Zeroizing::new(Vec::with_capacity(LONGEST));
    let words = said.get(start..)?.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
    for word in words.take(LONGEST + 1) {
        let [high, low] = word else { return None };
        key.push(digit(*high)? << 4 | digit(*low)?);
    }
    (key.len() >= 16 && key.len() <= LONGEST).then_some(VolumeKey(key))
}

/// Opens an encrypted volume; gives its node, or the dataset's name.
///
/// # Errors
/// What cryptsetup said: a wrong passphrase is exit status 2.
pub fn open(opening: Opening<'_>, with: &With<'_>, load: &dyn Fn(&str)) -> io::Result<String> {
    let kind = match (opening.format, with) {
        (Format::Dataset, With::Secret(secret)) => {
            pool::key(opening.device, secret, pool::Key::Load)?;
            return Ok(opening.device.into());
        }
        (Format::BitLocker, _) => "bitlk",
        _ => "luks",
    };
    load("dm-crypt");
    take(opening.device, opening.write)?;
    let name = opened_name(opening.device);
    let mut command = program("cryptsetup");
    command.args(["open", "--batch-mode", "--tries", "1", "--type", kind]);
    let secret = match with {
        With::Secret(secret) => {
            command.args(["--key-file", "-"]);
            *secret
        }
        With::Key(VolumeKey(key)) => {
            command.args(["--volume-key-file", "/proc/self/fd/0"]);
            key.as_slice()
        }
    };
    if !opening.write {
        command.arg("--readonly");
    }
    if let Some(header) = opening.header {
        command.args(["--header", header]);
    }
    run(command.arg("--").arg(opening.device).arg(&name), Some(secret))?;
    note(&format!("crypt {name}"))?;
    Ok(format!("/dev/mapper/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_key_is_found_behind_the_rest() {
        let text = |said: &str| dumped(said.as_bytes()).map(|key| key.0.to_vec());
        let pairs: String =
            (0..64).map(|n| format!("{n:02x}{}", if n % 16 == 15 { "\n\t\t" } else { " " })).collect();
        let said =
            format!("LUKS header information for /dev/vda\nUUID:\ta-b\nMK bits:  \t512\nMK dump:\t{pairs}\n");
        assert_eq!(text(&said), Some((0..64).collect()));
        for none in
            ["", "MK dump:", "MK dump:\t00 01", "MK bits:\t512\n", "no key at all", ": 0g 00", ": 000"]
        {
            assert_eq!(text(none), None, "{none}");
        }
        assert_eq!(text(&format!("MK dump: {}", "00 ".repeat(LONGEST + 1))), None);
    }
}
