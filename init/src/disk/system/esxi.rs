//! VMware ESXi: by the boot.cfg of a boot bank (there are two; the newer one is booted).

use std::os::fd::BorrowedFd;

use super::{Facts, any_case, plain};
use crate::sys::mounts::read_inside;

pub(super) fn look(root: BorrowedFd<'_>, _: &[String]) -> Option<Facts> {
    let path = any_case(root, &["boot.cfg"])?;
    let text = read_inside(root, &path, 65536).ok()?;
    let text = String::from_utf8_lossy(&text);
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|l| l.split_once('=')).filter(|(k, _)| k.trim() == key);
        plain(values.next()?.1)
    };
    let kernel = value("kernel")?;
    if !(kernel.contains("b.b00") || value("title").is_some_and(|t| t.contains("ESX"))) {
        return None;
    }
    let build = value("build");
    let version = build.as_deref().and_then(|b| b.split('-').next()).map(str::to_string);
    let mut notes = Vec::new();
    if let Some(state) = value("bootstate").filter(|s| s != "0") {
        notes.push(format!(
            "this boot bank is in state {state}: 1 upgrading, 2 not yet confirmed, 3 empty or invalid"
        ));
    }
    if let Some(updated) = value("updated") {
        notes.push(format!("its boot.cfg counts {updated} updates: of two banks the higher is booted"));
    }
    Some(Facts {
        family: "esxi",
        id: Some("esxi".into()),
        pretty_name: Some(format!("VMware ESXi {}", version.as_deref().unwrap_or("of unknown version"))),
        version,
        build,
        architecture: Some("x86_64".into()),
        evidence: vec!["boot.cfg of a boot bank".into(), format!("kernel={kernel}")],
        notes,
        ..Facts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, tree};

    #[test]
    fn a_boot_bank_names_its_build() {
        let cfg = "bootstate=0\ntitle=Loading VMware ESXi\ntimeout=5\nkernel=b.b00\nbuild=7.0.3-0.35.19482537\nupdated=2\n";
        let found = facts(&tree(&[("BOOT.CFG", cfg)])).unwrap();
        assert_eq!(found.pretty_name.as_deref(), Some("VMware ESXi 7.0.3"));
        assert!(facts(&tree(&[("boot.cfg", "kernel=vmlinuz\n")])).is_none());
    }
}
