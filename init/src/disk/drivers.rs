//! The file systems that systems are mounted from. To add one: a row.

/// A file system that systems are mounted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Driver {
    /// Type as a probe says it.
    pub kind: &'static str,
    /// The kernel's driver.
    pub driver: &'static str,
    /// Options that keep a read-only mount from replaying a journal.
    pub no_replay: &'static [&'static str],
    /// Options without which it hides something.
    pub always: &'static [&'static str],
    /// Whether a system's root can be on it.
    pub root: bool,
    /// Whether that driver can be trusted to write.
    pub writes: bool,
}

const fn row(kind: &'static str, driver: &'static str, no_replay: &'static [&'static str]) -> Driver {
    Driver { kind, driver, no_replay, always: &[], root: true, writes: true }
}

/// What can be mounted. The driver of ext4 takes all three. Of the file systems without an option, ntfs3,
/// JFS and reiserfs leave their log alone on a device that refuses writes. `nouuid`: two copies of one
/// XFS can be looked at side by side.
#[rustfmt::skip]
pub const DRIVERS: &[Driver] = &[
    row("ext4",     "ext4",     &["noload"]),
    row("ext3",     "ext4",     &["noload"]),
    row("ext2",     "ext4",     &["noload"]),
    row("xfs",      "xfs",      &["norecovery", "nouuid"]),
    row("btrfs",    "btrfs",    &["rescue=nologreplay"]),
    // What is not to be written to is in a pool that is imported read-only, and that replays nothing.
    row("zfs",      "zfs",      &[]),
    row("f2fs",     "f2fs",     &["norecovery"]),
    row("jfs",      "jfs",      &[]),
    row("reiserfs", "reiserfs", &[]),
    // Names that are in no 8-bit set of characters are question marks else, and cannot be opened.
    Driver { always: &["iocharset=utf8"], ..row("ntfs", "ntfs3", &[]) },
    Driver { writes: false, ..row("ufs", "ufs", &[]) },
    // ESXi's boot banks are FAT; the rest of these hold no root.
    Driver { always: &["utf8=1"], ..row("vfat", "vfat", &[]) },
    Driver { root: false, ..row("exfat", "exfat", &[]) },
];

/// The driver for what a probe found.
pub fn driver(kind: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|d| d.kind == kind)
}
