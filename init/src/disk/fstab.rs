//! fstab(5), as bytes from a disk that is not to be trusted.

use super::mountinfo::unescape;

/// Most lines that are read.
const LINES: usize = 4096;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line number, from 1.
    pub line: usize,
    /// First field, its quotes taken off: `UUID=…`, `/dev/sda1`.
    pub source: String,
    /// Where it goes, written plainly (`//usr/` is `/usr`), or `none`.
    pub target: String,
    /// File-system type.
    pub kind: String,
    /// Options.
    pub options: Vec<String>,
}

impl Entry {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Whether it shows one folder of the system at another place too.
    pub fn is_bind(&self) -> bool {
        self.source.starts_with('/') && (self.has("bind") || self.has("rbind"))
    }

    /// Whether the system boots without it.
    pub fn may_be_missing(&self) -> bool {
        self.has("nofail")
    }

    /// Why it is none of a disk's.
    pub fn unwanted(&self) -> Option<&'static str> {
        const NETWORK: &[&str] =
            &["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "9p", "afs", "sshfs"];
        const MEMORY: &[&str] =
            &["tmpfs", "ramfs", "proc", "sysfs", "devpts", "devtmpfs", "efivarfs", "cgroup2"];
        // A boot loader or kernel that is installed into the folder below them is never booted.
        const BOOT: &[&str] = &["/boot", "/boot/efi", "/efi"];
        let (kind, source) = (self.kind.as_str(), self.source.as_str());
        let file = source.starts_with('/') && !source.starts_with("/dev/");
        if kind == "swap" || self.target == "none" {
            Some("swap, not used")
        } else if NETWORK.contains(&kind) || kind.starts_with("fuse.") || self.has("_netdev") {
            Some("on the network, left out")
        } else if kind == "none" && !self.is_bind() {
            Some("of no type, left out")
        } else if kind == "overlay" || MEMORY.contains(&kind) {
            Some("not on a disk, left out")
        } else if self.has("noauto")
            && !self.has("x-systemd.automount")
            && !BOOT.contains(&self.target.as_str())
        {
            Some("noauto, left out")
        } else if file && !self.is_bind() {
            Some("a file of its own, by loop, left out")
        } else {
            None
        }
    }
}

/// A path as it is when every part of it is named once. A part that leads up is in no path that was meant.
pub(super) fn plainly(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    (!parts.contains(&"..")).then(|| format!("/{}", parts.join("/")))
}

/// The entries in order, and the numbers of the lines that are none and were skipped.
pub fn parse(fstab: &[u8]) -> (Vec<Entry>, Vec<usize>) {
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    for (line, bytes) in (1..).zip(fstab.split(|b| *b == b'\n')).take(LINES) {
        let fields: Vec<String> = bytes
            .split(|b| b.is_ascii_whitespace())
            .filter(|f| !f.is_empty())
            .map(|f| String::from_utf8_lossy(&unescape(f)).into_owned())
            .collect();
        match fields.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            [source, target, kind, rest @ ..]
                if target.starts_with('/') || target == "none" || kind == "swap" =>
            {
                let place = if target.starts_with('/') { plainly(target) } else { Some(target.clone()) };
                match place {
                    Some(target) => entries.push(Entry {
                        line,
                        source: source.replace('"', ""),
                        target,
                        kind: kind.clone(),
                        options: rest.first().map_or("defaults", |o| o).split(',').map(Into::into).collect(),
                    }),
                    None => skipped.push(line),
                }
            }
            _ => skipped.push(line),
        }
    }
    (entries, skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_plainly_and_lead_nowhere_else() {
        let places = |text: &str| parse(text.as_bytes()).0.into_iter().map(|e| e.target).collect::<Vec<_>>();
        assert_eq!(
            places("a /home/ ext4\na //usr/./lib ext4\na / ext4\na /. ext4\n"),
            ["/home", "/usr/lib", "/", "/"]
        );
        assert_eq!(parse(b"a /c/../a ext4\na /.. ext4\n").1, [1, 2]);
    }

    #[test]
    fn what_the_boot_loader_is_on_is_wanted_whatever_mounts_it() {
        let why = |line: &str| parse(line.as_bytes()).0[0].unwanted();
        for wanted in [
            "UUID=a /boot/efi vfat noauto",
            "UUID=a /boot ext4 noauto,user",
            "/a /b none bind",
            "UUID=a /srv ext4 noauto,x-systemd.automount",
            "/dev/sda1 /srv auto nofail",
        ] {
            assert_eq!(why(wanted), None, "{wanted}");
        }
        assert_eq!(why("UUID=a /srv ext4 noauto"), Some("noauto, left out"));
        assert_eq!(why("/iso /srv iso9660 loop"), Some("a file of its own, by loop, left out"));
        assert_eq!(why("s3#b /srv fuse _netdev"), Some("on the network, left out"));
    }

    #[test]
    fn comments_quotes_escapes_and_garbage() {
        let text = b"# c\r\nUUID=\"a-b\" / ext4 ro,noatime 0 1\r\n\r\n/dev/sda2 /my\\040data vfat\ngarbage\n\xff \xfe x\n";
        let (entries, skipped) = parse(text);
        assert_eq!(skipped, [5, 6]);
        assert_eq!((entries[0].line, entries[0].source.as_str()), (2, "UUID=a-b"));
        assert_eq!(entries[0].options, ["ro", "noatime"]);
        assert_eq!(entries[1].target, "/my data");
        assert_eq!(entries[1].options, ["defaults"]);
    }
}
