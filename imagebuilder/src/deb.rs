//! Reads a `.deb` (deb(5)) in process: an `ar` archive whose member `data.tar.*` holds the files.
//!
//! Packages are checked before they are read (`packages`), but nothing here relies on it: only
//! regular files, hard links to them and symbolic links are taken, paths may not climb, and what
//! elevates (setuid, setgid, sticky) is dropped.

use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tar::EntryType;

use crate::kmod;
use crate::store::PackWriter;

/// Most bytes that a package may unpack to. The largest kernel package is below 0.5 GiB.
const MAX_BYTES: u64 = 4 << 30;
/// Most entries of a package.
const MAX_ENTRIES: usize = 200_000;
/// Longest path or link target in bytes (PATH_MAX of Linux, without its NUL).
const MAX_PATH: usize = 4095;

/// Unpacks the files of a package. `passed` hears how many bytes of the package have been read.
///
/// # Errors
/// When it is no `.deb`, is damaged, or holds what no package of ours should.
pub(crate) fn unpack(deb: impl Read, into: &mut PackWriter) -> Result<()> {
    let mut archive = ar::Archive::new(BufReader::with_capacity(1 << 18, deb));
    let mut first = true;
    while let Some(member) = archive.next_entry() {
        let member = member.context("not a .deb: damaged ar archive")?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if std::mem::take(&mut first) {
            ensure!(name == "debian-binary", "not a .deb: begins with {name:?}, not debian-binary");
        }
        let Some(packing) = name.strip_prefix("data.tar") else { continue };
        let plain: Box<dyn Read> = match packing {
            "" => Box::new(member),
            ".xz" => Box::new(liblzma::read::XzDecoder::new(member)),
            ".zst" => Box::new(zstd::stream::read::Decoder::new(member)?),
            ".gz" => Box::new(flate2::read::GzDecoder::new(member)),
            other => bail!("its data is packed as {other:?}, which is neither xz, zst nor gz"),
        };
        return unpack_tar(plain, into);
    }
    bail!("not a .deb: no data.tar inside")
}

fn unpack_tar(plain: impl Read, into: &mut PackWriter) -> Result<()> {
    let mut archive = tar::Archive::new(plain);
    for entry in archive.entries().context("damaged tar archive")? {
        let mut entry = entry.context("damaged tar archive")?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            continue;
        }
        let path = clean_path(&entry.path_bytes())?;
        if kind == EntryType::Directory {
            continue;
        }
        ensure!(!path.is_empty(), "a file without a name");
        ensure!(into.len() < MAX_ENTRIES, "over {MAX_ENTRIES} entries");
        // What an extended header says counts, not the field that it replaces.
        let size = entry.size();
        ensure!(into.bytes().saturating_add(size) <= MAX_BYTES, "unpacks to over {} GiB", MAX_BYTES >> 30);
        let target = match entry.link_name_bytes() {
            Some(bytes) => Some(String::from_utf8(bytes.into_owned()).context("link target is not UTF-8")?),
            None => None,
        };
        match (kind, target) {
            (EntryType::Regular | EntryType::Continuous, _) => {
                // Permission bits alone: nothing in the image needs setuid, all its logins are uid 0.
                let mode = entry.header().mode().with_context(|| format!("{path}: no mode"))? & 0o777;
                match kmod::packing(&path) {
                    // Kept plain, because the image as a whole is compressed and because every
                    // build reads what modules say.
                    Some((plain, packing)) if packing != kmod::Packing::Plain => {
                        ensure!(size <= kmod::MAX_MODULE, "{path}: a module of {size} bytes");
                        let mut bytes = Vec::new();
                        entry.read_to_end(&mut bytes).with_context(|| format!("unpacking {path}"))?;
                        let bytes =
                            kmod::unpack(packing, bytes).with_context(|| format!("unpacking {path}"))?;
                        into.file(plain, mode, &mut &bytes[..])?;
                    }
                    _ => into.file(&path, mode, &mut entry)?,
                }
            }
            (EntryType::Symlink, Some(target)) => {
                check_target(&path, &target)?;
                into.symlink(&path, &target);
            }
            (EntryType::Link, Some(target)) => into.link(&path, &clean_path(target.as_bytes())?)?,
            (EntryType::Char | EntryType::Block | EntryType::Fifo, _) => {
                bail!("{path}: a device node or FIFO, which a package must not bring")
            }
            (kind, _) => bail!("{path}: an entry of type {kind:?}, which is not supported"),
        }
    }
    Ok(())
}

/// `./usr/bin/x` and `usr/bin/x` become `usr/bin/x`.
fn clean_path(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).context("a path is not UTF-8")?;
    ensure!(text.len() <= MAX_PATH, "a path of over {MAX_PATH} bytes");
    ensure!(!text.contains('\0'), "{text:?}: NUL in a path");
    ensure!(!text.starts_with('/'), "{text:?}: an absolute path");
    let parts: Vec<&str> = text.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    ensure!(!parts.contains(&".."), "{text:?}: a path that climbs out of the package");
    Ok(parts.join("/"))
}

/// A target may be absolute (it is taken from the root of the image) but not climb above it.
fn check_target(path: &str, target: &str) -> Result<()> {
    ensure!(!target.is_empty() && target.len() <= MAX_PATH, "{path}: link target is empty or too long");
    ensure!(!target.contains('\0'), "{path}: NUL in the link target");
    resolve_link(path, target).with_context(|| format!("{path} -> {target:?}: climbs out of the image"))?;
    Ok(())
}

/// Where a link of the image leads, without leading slash; `None` when above its root.
pub(crate) fn resolve_link(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => path.split('/').collect(),
    };
    // The link's own name is not part of where it starts from.
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Unpacks the package file `deb` into `folder`.
///
/// # Errors
/// As [`unpack`], with the path of the package.
pub(crate) fn unpack_file(deb: &Path, folder: &Path, bar: &indicatif::ProgressBar) -> Result<()> {
    let file = std::fs::File::open(deb).with_context(|| format!("opening {}", deb.display()))?;
    let mut writer = PackWriter::create(folder)?;
    unpack(bar.wrap_read(file), &mut writer)?;
    writer.finish(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Pack, Packed};

    fn header(kind: EntryType, name: &[u8], size: u64, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_size(size);
        header.set_mode(mode);
        header.set_cksum();
        header
    }

    /// A .deb of one entry.
    fn deb(header: &tar::Header, content: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append(header, content).unwrap();
        wrap("data.tar", &tar.into_inner().unwrap())
    }

    fn wrap(member: &str, data: &[u8]) -> Vec<u8> {
        let mut archive = ar::Builder::new(Vec::new());
        archive.append(&ar::Header::new(b"debian-binary".to_vec(), 4), &b"2.0\n"[..]).unwrap();
        archive.append(&ar::Header::new(member.as_bytes().to_vec(), data.len() as u64), data).unwrap();
        archive.into_inner().unwrap()
    }

    fn take(bytes: &[u8]) -> Result<Pack> {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = PackWriter::create(folder.path())?;
        unpack(bytes, &mut writer)?;
        writer.finish(folder.path())?;
        Ok(Pack::open(folder.path()).unwrap())
    }

    fn refusal(bytes: &[u8]) -> String {
        format!("{:#}", take(bytes).unwrap_err())
    }

    #[test]
    fn an_ordinary_file_and_no_setuid() {
        let pack = take(&deb(&header(EntryType::Regular, b"./usr/bin/su", 3, 0o6755), b"abc")).unwrap();
        assert_eq!(pack.read("usr/bin/su").unwrap(), b"abc");
        assert!(matches!(pack.entries()["usr/bin/su"], Packed::File { mode: 0o755, len: 3, .. }));
    }

    #[test]
    fn every_packing_is_read() {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append(&header(EntryType::Regular, b"./x", 1, 0o644), &b"x"[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let mut xz = liblzma::read::XzEncoder::new(&tar[..], 1);
        let mut packed = Vec::new();
        xz.read_to_end(&mut packed).unwrap();
        assert!(take(&wrap("data.tar.xz", &packed)).is_ok());
        assert!(take(&wrap("data.tar.zst", &zstd::encode_all(&tar[..], 1).unwrap())).is_ok());
        assert!(refusal(&wrap("data.tar.bz9", &tar)).contains("bz9"));
    }

    #[test]
    fn traversal_is_refused() {
        for name in [&b"../etc/passwd"[..], b"./usr/../../x", b"/etc/passwd", b"a/.."] {
            let text = refusal(&deb(&header(EntryType::Regular, name, 1, 0o644), b"x"));
            assert!(text.contains("climbs") || text.contains("absolute"), "{text}");
        }
    }

    #[test]
    fn device_nodes_are_refused() {
        for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
            assert!(refusal(&deb(&header(kind, b"./dev/sda", 0, 0o666), b"")).contains("device node"));
        }
    }

    #[test]
    fn links_stay_inside() {
        let link = |name: &[u8], target: &str| {
            let mut header = header(EntryType::Symlink, name, 0, 0o777);
            header.set_link_name(target).unwrap();
            header.set_cksum();
            deb(&header, b"")
        };
        assert!(refusal(&link(b"./usr/lib/x", "../../../etc/shadow")).contains("climbs"));
        assert!(take(&link(b"./usr/lib/x", "../../lib/x")).is_ok());
        assert!(take(&link(b"./usr/lib/x", "/lib/x")).is_ok());
        let mut hard = header(EntryType::Link, b"./x", 0, 0o644);
        hard.set_link_name("etc/shadow").unwrap();
        hard.set_cksum();
        assert!(refusal(&deb(&hard, b"")).contains("no file"));
    }

    #[test]
    fn a_bomb_is_refused_by_the_size_that_it_says() {
        // The size that counts is in an extended header; the plain field says 1.
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_pax_extensions([("size", &b"99999999999999"[..])]).unwrap();
        tar.append(&header(EntryType::Regular, b"./x", 1, 0o644), &b"x"[..]).unwrap();
        assert!(refusal(&wrap("data.tar", &tar.into_inner().unwrap())).contains("over 4 GiB"));
        let huge = header(EntryType::Regular, b"./lib/modules/1/kernel/x.ko.xz", 3 << 30, 0o644);
        let mut bytes = Vec::new();
        bytes.extend_from_slice(huge.as_bytes());
        assert!(refusal(&wrap("data.tar", &bytes)).contains("a module of"));
    }

    #[test]
    fn a_file_below_a_link_or_a_file_is_no_path_of_this_machine() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut link = header(EntryType::Symlink, b"./usr/lib", 0, 0o777);
        link.set_link_name("/etc").unwrap();
        link.set_cksum();
        tar.append(&link, &b""[..]).unwrap();
        tar.append(&header(EntryType::Regular, b"./usr/lib/x", 1, 0o644), &b"x"[..]).unwrap();
        let pack = take(&wrap("data.tar", &tar.into_inner().unwrap())).unwrap();
        assert_eq!(pack.read("usr/lib/x").unwrap(), b"x");
        assert!(!Path::new("/etc/x").exists());
    }

    #[test]
    fn any_damage_is_an_error_or_an_ordinary_package() {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, name) in [(EntryType::Regular, &b"./usr/bin/a"[..]), (EntryType::Symlink, b"./usr/bin/b")]
        {
            let mut header = header(kind, name, u64::from(kind.is_file()) * 3, 0o4755);
            if !kind.is_file() {
                header.set_link_name("a").unwrap();
                header.set_cksum();
            }
            tar.append(&header, &b"abc"[..3 * usize::from(kind.is_file())]).unwrap();
        }
        let whole = wrap("data.tar", &tar.into_inner().unwrap());
        // The two headers of ar, and those of tar with what is between them.
        for at in 0..1700 {
            for value in [b'/', b'7'] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let Ok(pack) = take(&damaged) else { continue };
                for (path, entry) in pack.entries() {
                    assert!(!path.starts_with('/') && path.split('/').all(|part| part != ".."), "{path}");
                    assert!(!matches!(entry, Packed::File { mode, .. } if mode & 0o7000 != 0), "{path}");
                }
            }
        }
    }

    #[test]
    fn garbage_and_truncation_are_errors() {
        assert!(take(b"").is_err());
        assert!(take(&[0x41; 4096]).is_err());
        let whole = deb(&header(EntryType::Regular, b"./x", 2000, 0o644), &[7; 2000]);
        for cut in [9, 70, 100, 200, 700, 1500] {
            assert!(take(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn links_resolve_from_where_they_lie() {
        assert_eq!(resolve_link("lib/a/libx.so", "libx.so.1").unwrap(), "lib/a/libx.so.1");
        assert_eq!(resolve_link("lib64/ld.so", "/lib/ld.so").unwrap(), "lib/ld.so");
        assert_eq!(resolve_link("a/b/c", "../x").unwrap(), "a/x");
        assert_eq!(resolve_link("a", "../x"), None);
    }
}
