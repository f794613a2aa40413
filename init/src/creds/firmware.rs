//! What the host of a virtual machine put into the firmware's tables: systemd's credentials as strings in
//! SMBIOS and as files in QEMU's fw_cfg.

use std::io;
use std::path::Path;

use super::nocloud;
use super::part::Part;
use super::smbios::{self, Table};
use super::systemd::{self, Credentials};
use super::{FW_CFG, SMBIOS, Said, below};
use crate::sys::files::read_capped;

/// The table, readable to root alone.
const TABLE: &str = "/sys/firmware/dmi/tables/DMI";
/// The folder of credentials; each is a folder with the file `raw` (`Documentation/ABI/testing/sysfs-firmware-qemu_fw_cfg`).
const FILES: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials";
/// QEMU's device for the latter, by its ACPI name.
const DEVICE: &str = "/sys/bus/acpi/devices/QEMU0002:00";
/// Longest credential that is read, and the most of them.
const MAX_CREDENTIAL: usize = 1 << 20;
const MAX_CREDENTIALS: usize = 256;

/// What makes a look at the tables worth its while: a string that is for us.
const HINTS: [&[u8]; 2] = [b"io.systemd.credential", b"ds=nocloud"];

/// What a firmware source says before its network is translated.
pub enum Found {
    /// That it is absent or refused.
    Said(Said),
    /// A part.
    Part(Part),
}

/// The firmware's table.
///
/// # Errors
/// `NotFound` where there is none; those of the file system.
pub fn table(root: &Path) -> io::Result<Table> {
    read_capped(&below(root, TABLE), smbios::MAX_TABLE).map(|bytes| smbios::parse(&bytes))
}

/// Whether the tables have a word for us in them; does not look what it means.
#[must_use]
pub fn hinted(root: &Path) -> bool {
    let Ok(table) = read_capped(&below(root, TABLE), smbios::MAX_TABLE) else { return false };
    HINTS.iter().any(|hint| table.windows(hint.len()).any(|window| window == *hint))
}

/// Whether there is a fw_cfg that the driver for it would show.
#[must_use]
pub fn has_fw_cfg(root: &Path) -> bool {
    below(root, DEVICE).exists()
}

/// The credentials among the strings of SMBIOS, with `root` in the place of `/`.
#[must_use]
pub fn strings(root: &Path) -> Found {
    let table = match table(root) {
        Ok(table) => table,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Found::Said(Said::absent(SMBIOS, "this machine has no such tables"));
        }
        Err(error) => return Found::Said(Said::refused(SMBIOS, &format!("reading {TABLE}: {error}"))),
    };
    let mut credentials = Credentials::default();
    for string in &table.oem {
        if let Err(why) = credentials.add_string(string) {
            return Found::Said(Said::refused(SMBIOS, &why));
        }
    }
    let serial = table.serial.as_deref().map(String::from_utf8_lossy);
    if let Some(seed) = serial.and_then(|serial| nocloud::parse(&serial)) {
        // Where systemd's credentials say the same they have the word.
        for (name, value) in [("system.hostname", seed.hostname), ("rescue.device.id", seed.instance)] {
            value.into_iter().for_each(|value| credentials.add(name, value.into_bytes()));
        }
    }
    let count = table.oem.len();
    part(SMBIOS, &credentials, &format!("no credential among {count} strings of type 11"))
}

/// The credentials among the files of fw_cfg, with `root` in the place of `/`.
#[must_use]
pub fn files(root: &Path) -> Found {
    let folder = below(root, FILES);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Found::Said(Said::absent(FW_CFG, "no opt/io.systemd.credentials"));
        }
        Err(error) => return Found::Said(Said::refused(FW_CFG, &format!("reading {FILES}: {error}"))),
    };
    let mut credentials = Credentials::default();
    let mut names: Vec<_> =
        entries.take(MAX_CREDENTIALS + 1).flatten().map(|entry| entry.file_name()).collect();
    if names.len() > MAX_CREDENTIALS {
        return Found::Said(Said::refused(FW_CFG, &format!("over {MAX_CREDENTIALS} credentials")));
    }
    names.sort();
    for name in names {
        let Some(known) = systemd::name_of(name.as_encoded_bytes()) else {
            return Found::Said(Said::refused(FW_CFG, "a credential whose name is none"));
        };
        match read_capped(&folder.join(&name).join("raw"), MAX_CREDENTIAL) {
            Ok(value) => credentials.add(&known, value),
            Err(error) => return Found::Said(Said::refused(FW_CFG, &format!("reading {known}: {error}"))),
        }
    }
    part(FW_CFG, &credentials, "no credential in opt/io.systemd.credentials")
}

fn part(source: &str, credentials: &Credentials, none: &str) -> Found {
    if credentials.is_empty() {
        return Found::Said(Said::absent(source, none));
    }
    match systemd::translate(credentials) {
        Ok(part) => Found::Part(part),
        Err(why) => Found::Said(Said::refused(source, &why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(table: Option<&[u8]>, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("sys/firmware/dmi/tables")).unwrap();
        if let Some(table) = table {
            std::fs::write(below(root.path(), TABLE), table).unwrap();
        }
        for (name, value) in files {
            let folder = below(root.path(), FILES).join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("raw"), value).unwrap();
        }
        root
    }

    fn said(found: Found) -> Said {
        match found {
            Found::Said(said) => said,
            Found::Part(part) => Said::found(SMBIOS, "", part.document, part.remarks),
        }
    }

    /// From `qemu-system-x86_64 -smbios type=11,value=…,value=… -smbios type=1,serial=ds=nocloud;h=db7`.
    const QEMU: &[u8] = include_bytes!("../../fuzz/corpus/smbios/qemu");

    #[test]
    fn a_real_table_is_read() {
        let root = root(Some(QEMU), &[]);
        assert!(hinted(root.path()));
        let said = said(strings(root.path()));
        assert_eq!(said.text, "device unnamed, logins root, 0 host key(s), 0 link(s)");
        assert_eq!(said.document.unwrap().device.hostname.as_deref(), Some("db7"));
        assert_eq!(table(root.path()).unwrap().serial.as_deref(), Some(&b"ds=nocloud;h=db7"[..]));
    }

    #[test]
    fn files_of_fw_cfg_are_read() {
        let root =
            root(None, &[("ssh.authorized_keys.root", "ssh-ed25519 AAAA x\n"), ("system.hostname", "db7")]);
        let said = said(files(root.path()));
        assert_eq!(said.document.unwrap().device.hostname.as_deref(), Some("db7"));
    }

    #[test]
    fn nothing_there_is_no_mistake_and_malformed_is_one() {
        let empty = root(None, &[]);
        assert!(!hinted(empty.path()));
        assert_eq!(said(strings(empty.path())).state.word(), "absent");
        assert_eq!(said(files(empty.path())).state.word(), "absent");
        let bad = root(None, &[("passwd.hashed-password.root", "hunter2")]);
        let said = said(files(bad.path()));
        assert_eq!(said.state.word(), "refused");
        assert!(!format!("{said:?}").contains("hunter2"), "{said:?}");
    }
}
