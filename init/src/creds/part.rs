//! What one source says: a document of which any field may be missing, and what of the source was left out.

use rescue_schema::credentials::Document;

/// What one source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The fields that the source has; those that it has not are as in [`Document::default`].
    pub document: Document,
    /// What the source says of the network in a format of its own, the one that is to be used first. Who
    /// knows networks translates it into `document.network`.
    pub network: Vec<NetworkDocument>,
    /// What was ignored and why, a line each, without secrets.
    pub remarks: Vec<String>,
}

/// A foreign document about the network, not looked into yet.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkDocument {
    /// What it is written in.
    pub format: NetworkFormat,
    /// Its files: name (for messages, and where the format goes by names) and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// What a network is described in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkFormat {
    /// OpenStack's `network_data.json`.
    OpenStack,
    /// cloud-init's `network-config`, version 1 or 2.
    CloudInit,
    /// Debian's `interfaces`, as IBM classic and OpenStack's `content` folder have it.
    Ifupdown,
    /// systemd's `.network`, `.netdev` and `.link` files, by name.
    Systemd,
}

impl NetworkFormat {
    /// Its name among the translators of networks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenStack => "openstack",
            Self::CloudInit => "cloud-init",
            Self::Ifupdown => "ifupdown",
            Self::Systemd => "systemd",
        }
    }
}

impl NetworkDocument {
    /// A document that is one file.
    #[must_use]
    pub fn one(format: NetworkFormat, name: &str, bytes: &[u8]) -> Self {
        Self { format, files: vec![(name.into(), bytes.to_vec())] }
    }
}

/// Names only: a `.netdev` file may hold the key of a tunnel.
impl std::fmt::Debug for NetworkDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.files.iter().map(|(name, _)| name.as_str()).collect();
        write!(f, "{} {names:?}", self.format.name())
    }
}
