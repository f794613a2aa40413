//! Kernel modules: what each says of itself (`modinfo`), which of them an image needs (`closure`),
//! and the tables by which they are found at run time (`tables`, depmod's text formats).

pub(crate) mod closure;
pub(crate) mod modinfo;
pub(crate) mod tables;

/// A module of a kernel, as its `.modinfo` section describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Module {
    /// Name as the kernel knows it: underscores, no hyphens.
    pub(crate) name: String,
    /// Path below `/lib/modules/<release>/`, ending in `.ko`, whatever it was compressed with; in an
    /// image `.ko.zst` when it is packed there.
    pub(crate) path: String,
    /// Size in bytes, uncompressed.
    pub(crate) bytes: u64,
    /// Names of the modules it cannot be loaded without.
    pub(crate) depends: Vec<String>,
    /// Modalias patterns and other names that it answers to.
    pub(crate) aliases: Vec<String>,
    /// Soft dependencies, as written: `pre: a b post: c`.
    pub(crate) softdeps: Vec<String>,
    /// Names of firmware that it may ask for.
    pub(crate) firmware: Vec<String>,
    /// First word of its `vermagic`: the kernel release it was built for.
    pub(crate) release: String,
}

/// The name the kernel uses: hyphens and underscores are one (modprobe(8)).
pub(crate) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// How a module file is compressed, by its name; `None` when it is no module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Xz,
    Zstd,
    Gzip,
}

/// Splits `a/b.ko.xz` into `a/b.ko` and its packing.
pub(crate) fn packing(path: &str) -> Option<(&str, Packing)> {
    let found = [(".xz", Packing::Xz), (".zst", Packing::Zstd), (".gz", Packing::Gzip), ("", Packing::Plain)]
        .into_iter()
        .find_map(|(end, packing)| Some((path.strip_suffix(end)?, packing)))?;
    found.0.ends_with(".ko").then_some(found)
}

/// Most bytes of an unpacked module. The largest of Debian's is below 20 MiB.
pub(crate) const MAX_MODULE: u64 = 256 << 20;

/// A module's plain bytes; its signature at the end stays what it was.
///
/// # Errors
/// When it is damaged, or unpacks to over 256 MiB.
pub(crate) fn unpack(packing: Packing, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut reader: Box<dyn Read + '_> = match packing {
        Packing::Plain => return Ok(bytes),
        Packing::Xz => Box::new(liblzma::read::XzDecoder::new(&bytes[..])),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(&bytes[..])?),
        Packing::Gzip => Box::new(flate2::read::GzDecoder::new(&bytes[..])),
    };
    let mut plain = Vec::with_capacity(bytes.len() * 3);
    reader.by_ref().take(MAX_MODULE + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > MAX_MODULE {
        return Err(std::io::Error::other("unpacks to over 256 MiB"));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packings_by_name() {
        assert_eq!(packing("a/b.ko"), Some(("a/b.ko", Packing::Plain)));
        assert_eq!(packing("b.ko.xz"), Some(("b.ko", Packing::Xz)));
        assert_eq!(packing("b.ko.zst"), Some(("b.ko", Packing::Zstd)));
        assert_eq!(packing("b.txt.gz"), None);
    }

    #[test]
    fn modules_are_unpacked() {
        let plain = b"a module".repeat(100);
        let zst = zstd::encode_all(&plain[..], 1).unwrap();
        assert_eq!(unpack(Packing::Zstd, zst).unwrap(), plain);
        assert!(unpack(Packing::Xz, b"not xz".to_vec()).is_err());
    }
}
