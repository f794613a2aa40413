//! What modules are signed with, so that a kernel that is locked down loads them
//! (Documentation/admin-guide/module-signing.rst).
//!
//! A kernel without modules trusts no key: there is nothing to sign, and it is the same bytes wherever it is
//! built. One with modules is signed with a key that is made for that build and goes with its folder, so that
//! nobody can sign anything else for it; or with the user's, and then it is the same bytes again.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64ct::{Base64, Encoding};

use super::fragment::Wanted;

/// Where the user's key lies while the kernel is compiled, below the folder of the build.
const FILE: &str = "signing.pem";
/// Most bytes of a key and its certificate.
const MAX_BYTES: u64 = 1 << 20;
/// DER of the object identifiers of an RSA key and of one of an elliptic curve (RFC 3279 sections 2.3.1, 2.3.5).
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const HOW: &str = "make one: openssl req -new -x509 -newkey rsa:4096 -nodes -sha256 -days 36500 \
                   -subj /CN=modules/ -keyout FILE.pem -out FILE.pem";

/// The key of a kernel's modules.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signing {
    /// None, since it has no modules.
    Nothing,
    /// One that is made for this build and is gone after it.
    OfTheBuild,
    /// The user's: its PEM, with the certificate.
    Own { pem: Vec<u8>, elliptic: bool },
}

impl Signing {
    /// Decides from what is wanted of the kernel, and the key that was given.
    ///
    /// # Errors
    /// A key that is none, or that a fragment of the user's own names as well.
    pub(super) fn new(wanted: &[Wanted], key: Option<&PathBuf>) -> Result<Self> {
        if let Some(path) = key {
            if let Some(one) = wanted.iter().find(|one| one.symbol == "CONFIG_MODULE_SIG_KEY") {
                bail!("{}: names a key, and so does --signing-key; leave out one", one.at);
            }
            return own(path).with_context(|| format!("--signing-key {}", path.display()));
        }
        Ok(match wanted.iter().any(|one| one.value == "m") {
            true => Self::OfTheBuild,
            false => Self::Nothing,
        })
    }

    /// The symbols that say so, unless a fragment of the user's own has them.
    pub(super) fn symbols(&self, wanted: &[Wanted]) -> Vec<Wanted> {
        let quoted = |text: &str| format!("{text:?}");
        let (key, elliptic) = match self {
            Self::Nothing => (quoted(""), false),
            Self::OfTheBuild => return Vec::new(),
            Self::Own { elliptic, .. } => (quoted(FILE), *elliptic),
        };
        let mut symbols = vec![("CONFIG_MODULE_SIG_KEY", key)];
        if elliptic {
            symbols.push(("CONFIG_MODULE_SIG_KEY_TYPE_ECDSA", "y".into()));
        }
        let new = |(symbol, value): (&str, String)| Wanted {
            symbol: symbol.into(),
            value,
            reason: "The key of modules.".into(),
            at: "--signing-key".into(),
        };
        let own = |symbol: &str| wanted.iter().any(|one| one.symbol == symbol);
        symbols.into_iter().filter(|(symbol, _)| !own(symbol)).map(new).collect()
    }

    /// What is part of the digest of a kernel.
    pub(super) fn digested(&self) -> &[u8] {
        match self {
            Self::Nothing | Self::OfTheBuild => &[],
            Self::Own { pem, .. } => pem,
        }
    }

    /// Puts the user's key where the build looks for it.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn place(&self, work: &Path) -> Result<()> {
        let Self::Own { pem, .. } = self else { return Ok(()) };
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(work.join(FILE));
        file.and_then(|mut file| file.write_all(pem)).context("copying the key for signing")
    }
}

fn own(path: &Path) -> Result<Signing> {
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).context("reading it")?;
    file.take(MAX_BYTES + 1).read_to_end(&mut pem).context("reading it")?;
    ensure!(pem.len() as u64 <= MAX_BYTES, "no key has over {} MiB", MAX_BYTES >> 20);
    let text = String::from_utf8_lossy(&pem).into_owned();
    let private =
        text.lines().any(|line| line.starts_with("-----BEGIN") && line.contains("PRIVATE KEY-----"));
    ensure!(private, "holds no private key in PEM; {HOW}");
    let certificate = text
        .split_once("-----BEGIN CERTIFICATE-----")
        .and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"));
    let Some((certificate, _)) = certificate else {
        bail!("holds no certificate beside the private key; {HOW}")
    };
    let certificate: String = certificate.split_ascii_whitespace().collect();
    let der = Base64::decode_vec(&certificate).ok().context("its certificate is damaged")?;
    let has = |part: &[u8]| der.windows(part.len()).any(|window| window == part);
    // What signed a certificate may be of another kind than what it certifies; RSA's own identifier stands for the
    // key alone, those of signatures end otherwise.
    match (has(RSA), has(ELLIPTIC)) {
        (true, false) => Ok(Signing::Own { pem, elliptic: false }),
        (false, true) => Ok(Signing::Own { pem, elliptic: true }),
        _ => bail!("the kernel verifies RSA, and ECDSA on P-256 and P-384; this key is neither; {HOW}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fragment::fragment;
    use std::process::Command;

    fn made(folder: &Path, name: &str, more: &[&str]) -> PathBuf {
        let path = folder.join(name);
        let output = Command::new("openssl")
            .args(["req", "-new", "-x509", "-nodes", "-days", "36500", "-subj", "/CN=modules/"])
            .args(more)
            .arg("-keyout")
            .arg(&path)
            .arg("-out")
            .arg(&path)
            .output()
            .expect("openssl starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    }

    #[test]
    fn a_kernel_without_modules_trusts_no_key() {
        let cloud = fragment("f", "# x\nCONFIG_A=y\n").unwrap();
        let signing = Signing::new(&cloud, None).unwrap();
        assert_eq!(signing, Signing::Nothing);
        let symbols = signing.symbols(&cloud);
        assert_eq!(symbols.iter().map(|s| s.value.as_str()).collect::<Vec<_>>(), ["\"\""]);
        let server = fragment("f", "# x\nCONFIG_A=m\n").unwrap();
        let signing = Signing::new(&server, None).unwrap();
        assert_eq!((signing.symbols(&server), signing), (Vec::new(), Signing::OfTheBuild));
        let own = fragment("f", "# x\nCONFIG_MODULE_SIG_KEY=\"mine.pem\"\n").unwrap();
        assert_eq!(Signing::new(&own, None).unwrap().symbols(&own), Vec::new(), "the last word");
    }

    #[test]
    fn a_key_of_ones_own_is_checked_before_the_compiler_runs() {
        let folder = tempfile::tempdir().unwrap();
        let rsa = made(folder.path(), "rsa", &["-newkey", "rsa:2048"]);
        let curve = made(folder.path(), "ec", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"]);
        made(folder.path(), "ed", &["-newkey", "ed25519"]);
        let of = |path: &PathBuf| Signing::new(&[], Some(path));
        assert!(matches!(of(&rsa).unwrap(), Signing::Own { elliptic: false, .. }));
        let signing = of(&curve).unwrap();
        assert!(signing.symbols(&[]).iter().any(|one| one.symbol == "CONFIG_MODULE_SIG_KEY_TYPE_ECDSA"));
        signing.place(folder.path()).unwrap();
        assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), signing.digested());
        let text = std::fs::read_to_string(&rsa).unwrap();
        let (key, certificate) = text.split_once("-----BEGIN CERTIFICATE").unwrap();
        std::fs::write(folder.path().join("key"), key).unwrap();
        std::fs::write(folder.path().join("certificate"), format!("-----BEGIN CERTIFICATE{certificate}"))
            .unwrap();
        std::fs::write(folder.path().join("torn"), text.replace("MII", "M*I")).unwrap();
        for (name, wanted) in [
            ("key", "holds no certificate"),
            ("certificate", "holds no private key"),
            ("torn", "its certificate is damaged"),
            ("ed", "this key is neither"),
            ("gone", "reading it"),
            ("/dev/null", "holds no private key"),
            ("/dev/zero", "no key has over 1 MiB"),
        ] {
            let path = folder.path().join(name);
            let error = format!("{:#}", of(&path).unwrap_err());
            assert!(error.starts_with(&format!("--signing-key {}: ", path.display())), "{error}");
            assert!(error.contains(wanted), "{name}: {error}");
        }
        let both = fragment("own.config", "# x\nCONFIG_MODULE_SIG_KEY=\"mine.pem\"\n").unwrap();
        let error = Signing::new(&both, Some(&rsa)).unwrap_err().to_string();
        assert!(error.starts_with("own.config:2: names a key"), "{error}");
    }
}
