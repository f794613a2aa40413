//! Foreign documents about networks, translated into the one vocabulary
//! ([`rescue_schema::network`]): one file a format, each a pure function from named bytes to a
//! [`Translation`] or an [`Error`].
//!
//! Bytes become lines, sections or a bounded tree ([`text`], [`ini`], [`shell`], [`tree`], [`xml`]), a format
//! puts what they say into a [`draft`], and the draft is closed: what is referred to and not described
//! becomes a card, what is described twice becomes one, and the result passes `Network::validate`. What
//! is left out is told in remarks. Nothing here touches a file; [`disk::gather`] alone reads some.
//!
//! To add a format: `translate/<format>.rs`, its row in [`FORMATS`], pairs of input and expected
//! result in `testdata/<format>/`, seeds in `init/fuzz/corpus/net_<format>/` and a row in the table of
//! fuzz targets.

use rescue_schema::network::{Kind, Network};

mod bonding;
mod closing;
mod cloud_init;
pub mod cmdline;
pub mod disk;
mod draft;
mod ifcfg;
mod ifcfg_suse;
mod ifupdown;
mod ini;
mod ipcommand;
mod keyfile;
mod names;
mod netplan;
mod openstack;
mod rc_conf;
mod shell;
mod systemd;
mod text;
mod tree;
mod wicked;
mod xml;

/// Most bytes of a document, all its files together.
pub const MAX_BYTES: usize = 1 << 20;
/// Most files of a document.
pub const MAX_FILES: usize = 256;
/// Most remarks that are kept.
const MAX_REMARKS: usize = 64;

/// A file of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path in the document, or on the disk without the leading slash: `etc/netplan/50.yaml`.
    pub path: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// What of a document is not used, and why. Without values that could be secrets, and without
/// characters that a terminal would obey.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Where: a file, line, section or key.
    pub at: String,
    /// Why it is not used, or how it was taken.
    pub why: String,
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.why)
    }
}

/// What a document says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translation {
    /// In our words; valid.
    pub network: Network,
    /// What was left out.
    pub remarks: Vec<Remark>,
}

/// Why a document is not used at all: the place, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    fn new(at: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self(text::shown(&format!("{at}: {why}"), 240))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

type Result<T = Translation> = std::result::Result<T, Error>;

/// A format of documents.
pub struct Format {
    /// Its name: of its tests' folder, and in messages.
    pub name: &'static str,
    translate: fn(&[File]) -> Result,
}

/// Every format.
#[rustfmt::skip]
pub const FORMATS: &[Format] = &[
    Format { name: "cmdline",    translate: cmdline::document },
    Format { name: "openstack",  translate: openstack::translate },
    Format { name: "cloud-init", translate: cloud_init::translate },
    Format { name: "netplan",    translate: netplan::translate },
    Format { name: "systemd",    translate: systemd::translate },
    Format { name: "ifupdown",   translate: ifupdown::translate },
    Format { name: "keyfile",    translate: keyfile::translate },
    Format { name: "ifcfg",      translate: ifcfg::translate },
    Format { name: "suse",       translate: ifcfg_suse::translate },
    Format { name: "wicked",     translate: wicked::translate },
    Format { name: "rc.conf",    translate: rc_conf::translate },
    Format { name: "disk",       translate: disk::translate },
];

/// Translates a document of the format of this name: `openstack` is `network_data.json`, `cloud-init`
/// is `network-config` of either version, `ifupdown` also SoftLayer's and IBM classic's
/// `openstack/content` file, `systemd` a set of `.network`, `.netdev` and `.link` files.
///
/// # Errors
/// An unknown format, a document that is too large or malformed, or one that contradicts itself.
pub fn translate(format: &str, files: &[File]) -> Result {
    let Some(known) = FORMATS.iter().find(|f| f.name == format) else {
        return Err(Error::new(format, "no such format"));
    };
    let bytes: usize = files.iter().map(|f| f.bytes.len()).sum();
    if bytes > MAX_BYTES || files.len() > MAX_FILES {
        return Err(Error::new(
            known.name,
            format!("{bytes} bytes in {} files; at most {MAX_BYTES} in {MAX_FILES}", files.len()),
        ));
    }
    (known.translate)(files)
}

/// Translates a document that is one file.
///
/// # Errors
/// As of [`translate`].
pub fn translate_one(format: &str, bytes: &[u8]) -> Result {
    if bytes.len() > MAX_BYTES {
        return Err(Error::new(format, format!("{} bytes; at most {MAX_BYTES}", bytes.len())));
    }
    translate(format, &[File { path: String::new(), bytes: bytes.to_vec() }])
}

/// Whether any link of it can come to an address.
#[must_use]
pub fn brings_address(network: &Network) -> bool {
    network.links.iter().any(|link| {
        link.dhcp4
            || link.dhcp6
            || !link.addresses.is_empty()
            || link.accept_ra == Some(true)
            || (link.accept_ra.is_none() && link.kind != Kind::Dummy && !is_port(network, &link.id))
    })
}

fn is_port(network: &Network, id: &str) -> bool {
    network.links.iter().any(|other| other.below().iter().any(|below| below == id))
}
