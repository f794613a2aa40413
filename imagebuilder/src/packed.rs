//! What is packed by itself, files and archives of an image, kept in the cache from build to build: most of what a
//! build would compute, and the same every time.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::build::read;
use crate::compress;
use crate::observe::{Content, Packs};
use crate::packages::{age, hex};

/// Version of how they are kept and of what packs them; others are left alone.
const LAYOUT: u32 = 2;
/// Bytes of the check behind a kept file.
const CHECK_BYTES: usize = 4;
/// How long what no build takes is kept.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where they are kept.
pub(crate) struct Kept {
    folder: PathBuf,
    level: i32,
}

impl Kept {
    /// Keeps them in `folder`, packed at zstd's `level`.
    pub(crate) fn new(folder: PathBuf, level: i32) -> Self {
        Self { folder, level }
    }

    /// A content, packed: from the cache if it is there, and else put there.
    ///
    /// # Errors
    /// When the content cannot be read. A cache that cannot be written costs time and nothing else.
    pub(crate) fn packed(&self, content: &Content, packs: &Packs) -> Result<Vec<u8>> {
        match content {
            // A package is what its digest says: its files need not be read to be known.
            Content::Packed { package, path } => {
                let pack = packs.get(package).with_context(|| format!("package {package}"))?;
                self.made(&[pack.sha256().as_bytes(), path.as_bytes()], || read(content, packs))
            }
            Content::Host(..) | Content::Inline(_) => self.packed_bytes(read(content, packs)?),
        }
    }

    /// Bytes, packed: from the cache if they are there, and else put there.
    ///
    /// # Errors
    /// When zstd has no memory left.
    pub(crate) fn packed_bytes(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        self.made(&[&Sha256::digest(&bytes)], || Ok(bytes))
    }

    fn made(&self, name: &[&[u8]], plain: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let mut hash = Sha256::new();
        hash.update(LAYOUT.to_le_bytes());
        hash.update(self.level.to_le_bytes());
        name.iter().for_each(|part| hash.update(part));
        let place = self.folder.join(hex(&hash.finalize()));
        if let Some(kept) = kept(&place) {
            return Ok(kept);
        }
        let packed = compress::packed_at(&plain()?, self.level)?;
        keep(&self.folder, &place, &packed);
        Ok(packed)
    }

    /// Forgets what no build has taken for a month.
    pub(crate) fn forget_old(&self) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if age(&entry).is_some_and(|age| age > UNUSED) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// What is kept there, if it is whole: a machine may have lost its power while it was written.
fn kept(place: &Path) -> Option<Vec<u8>> {
    let mut file = std::fs::File::open(place).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    // That it was of use, for whoever forgets what is not.
    let _ = file.set_modified(SystemTime::now());
    let at = bytes.len().checked_sub(CHECK_BYTES)?;
    let check = bytes.split_off(at);
    // What is packed is never nothing, whose check is that of four zeros.
    (check == check_of(&bytes) && !bytes.is_empty()).then_some(bytes)
}

fn keep(folder: &Path, place: &Path, bytes: &[u8]) {
    let Ok(mut file) = tempfile::NamedTempFile::new_in(folder) else { return };
    if file.write_all(bytes).and_then(|()| file.write_all(&check_of(bytes))).is_ok() {
        let _ = file.persist(place);
    }
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kmod::Packing;

    #[test]
    fn it_is_packed_once_and_a_damaged_one_again() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::write(&from, b"program ".repeat(64)).unwrap();
        let content = Content::Host(from.clone(), Packing::Plain);
        let cache = folder.path().join("cache");
        std::fs::create_dir(&cache).unwrap();
        let packed = |level| Kept::new(cache.clone(), level).packed(&content, &Packs::new()).unwrap();
        let places = || -> Vec<PathBuf> {
            let entries = std::fs::read_dir(&cache).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        };
        let first = packed(3);
        assert_eq!(zstd::decode_all(&first[..]).unwrap(), b"program ".repeat(64));
        let [place] = &places()[..] else { panic!("{:?}", places()) };
        assert_eq!(kept(place).as_ref(), Some(&first));

        // What is kept is what is taken: another content under the same name shows it.
        keep(&cache, place, b"kept");
        assert_eq!(packed(3), b"kept");
        for damaged in [&b""[..], b"kep", b"keptkept", &[0; 4], &[0; 4096]] {
            std::fs::write(place, damaged).unwrap();
            assert_eq!(packed(3), first, "{damaged:?}");
        }
        assert!(!packed(4).is_empty());
        assert_eq!(places().len(), 2, "another level is another file");
        std::fs::write(&from, "changed").unwrap();
        assert_eq!(zstd::decode_all(&packed(3)[..]).unwrap(), b"changed");

        let month_ago = SystemTime::now() - UNUSED;
        let [one, two, three] = &places()[..] else { panic!("{:?}", places()) };
        let dated = |place: &Path, date| std::fs::File::open(place).unwrap().set_modified(date).unwrap();
        dated(one, month_ago - Duration::from_secs(60));
        dated(two, month_ago + Duration::from_secs(60));
        dated(three, month_ago - Duration::from_secs(60));
        assert!(kept(three).is_some(), "of use again");
        Kept::new(cache.clone(), 3).forget_old();
        assert!(!one.exists() && two.exists() && three.exists());

        std::fs::remove_dir_all(&cache).unwrap();
        assert_eq!(zstd::decode_all(&packed(3)[..]).unwrap(), b"changed", "without a cache");
    }
}
