//! Files that are packed by themselves in the image, kept in the cache from build to build: most of what a
//! build would compute, and the same every time.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::build::read;
use crate::compress;
use crate::observe::{Content, Packs};
use crate::packages::hex;

/// Version of how they are kept and of what packs them; others are left alone.
const LAYOUT: u32 = 1;
/// Bytes of the check behind a kept file.
const CHECK_BYTES: usize = 4;

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
        let mut plain = None;
        let mut hash = Sha256::new();
        hash.update(LAYOUT.to_le_bytes());
        hash.update(self.level.to_le_bytes());
        match content {
            // A package is what its digest says: its files need not be read to be known.
            Content::Packed { package, path } => {
                let pack = packs.get(package).with_context(|| format!("package {package}"))?;
                hash.update(pack.sha256());
                hash.update(path);
            }
            Content::Host(..) | Content::Inline(_) => {
                let bytes = read(content, packs)?;
                hash.update(Sha256::digest(&bytes));
                plain = Some(bytes);
            }
        }
        let place = self.folder.join(hex(&hash.finalize()));
        if let Some(kept) = kept(&place) {
            return Ok(kept);
        }
        let plain = match plain {
            Some(bytes) => bytes,
            None => read(content, packs)?,
        };
        let packed = compress::packed_at(&plain, self.level)?;
        keep(&self.folder, &place, &packed);
        Ok(packed)
    }
}

/// What is kept there, if it is whole: a machine may have lost its power while it was written.
fn kept(place: &Path) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(place).ok()?;
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
        std::fs::remove_dir_all(&cache).unwrap();
        assert_eq!(zstd::decode_all(&packed(3)[..]).unwrap(), b"changed", "without a cache");
    }
}
