//! What an image holds and what it says of itself.

use serde::{Deserialize, Serialize};

/// `/etc/rescue/image.json` inside every image: what the login screen and `rescue status` say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// OS family that the image serves: `debian`, `redhat`, …
    pub family: String,
    /// `minimal` or `standard`.
    pub profile: String,
    /// Version of the builder.
    pub version: String,
    /// Kernel release (`uname -r`) whose modules are inside.
    pub kernel: String,
    /// What the family is known to look like.
    #[serde(default)]
    pub guest: Guest,
}

/// What the rescue expects of machines of a family; what is found may differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Guest {
    /// File systems, the usual one first, named as blkid(8) names them.
    pub file_systems: Vec<String>,
    /// How they lie on disks: LVM, LUKS, subvolumes, …
    pub layouts: Vec<String>,
    /// What is broken most often, and repaired here.
    pub repairs: Vec<String>,
    /// A line for the login screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// `manifest.json`, beside every image: where each of its bytes comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of this document; 1.
    pub version: u32,
    /// What the image says of itself.
    pub image: ImageInfo,
    /// The kernel that was written beside it.
    pub kernel: Artifact,
    /// The initramfs itself.
    pub initramfs: Artifact,
    /// Bytes of the initramfs when unpacked (the cpio stream).
    pub unpacked_bytes: u64,
    /// The packages that files were taken from.
    pub packages: Vec<Package>,
    /// Every entry of the initramfs, in its order.
    pub files: Vec<File>,
}

/// A file that the builder wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// File name, relative to the manifest.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// A package that something was taken from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its full version.
    pub version: String,
    /// SHA-256 of the package file as verified by the package manager.
    pub sha256: String,
}

/// One entry of the initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute path in the image.
    pub path: String,
    /// Permission and type bits, octal, as `stat` shows them: `100755`.
    pub mode: String,
    /// Size in bytes; 0 for what has none.
    pub bytes: u64,
    /// SHA-256 of a regular file's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Target of a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `name=version` of the package, or `rescue` for our own.
    pub origin: String,
}
