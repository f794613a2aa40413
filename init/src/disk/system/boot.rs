//! What there is to boot on a file system: kernels, initrds, boot loaders and their entries.

use std::cmp::Ordering;
use std::os::fd::BorrowedFd;

use super::{NAMES, any_case, plain};
use crate::sys::inside;
use crate::sys::mounts::names_inside;

/// Most entries of each kind that are reported.
const MOST: usize = 64;

/// What there is to boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// Names of kernels, the newest first.
    pub kernels: Vec<String>,
    /// Names of initial RAM disks, the newest first.
    pub initrds: Vec<String>,
    /// Boot loaders that are set up here: `GRUB`, `systemd-boot`, `Windows Boot Manager`…
    pub loaders: Vec<String>,
    /// What firmware can start here: `EFI/debian/grubx64.efi`; and entries of loaders.
    pub entries: Vec<String>,
}

/// Files by which a loader is known, below a root or a separate /boot or ESP.
#[rustfmt::skip]
const LOADERS: &[(&str, &str)] = &[
    ("grub/grub.cfg", "GRUB"), ("grub2/grub.cfg", "GRUB"), ("grub/menu.lst", "GRUB 0.97"),
    ("grub/grub.conf", "GRUB 0.97"), ("extlinux/extlinux.conf", "extlinux"),
    ("syslinux/syslinux.cfg", "syslinux"), ("loader/loader.conf", "systemd-boot"),
    ("loader/entries", "boot loader entries"), ("loader.conf", "FreeBSD loader"), ("bcd", "Windows Boot Manager"),
];

/// Looks at a root, a separate /boot or an ESP.
pub(super) fn look(root: BorrowedFd<'_>, top: &[String]) -> Boot {
    let mut found = Boot::default();
    for folder in [".", "boot"] {
        // Kernels are no rare names: at the top they count where no system is, or as links to /boot.
        let names =
            if folder == "." { top.to_vec() } else { names_inside(root, folder, NAMES).unwrap_or_default() };
        for name in names {
            let Some(name) = plain(&name).filter(|n| *n == name) else { continue };
            let kernel =
                ["vmlinuz", "vmlinux", "bzImage", "kernel-", "Image-"].iter().any(|p| name.starts_with(p));
            let initrd = ["initrd", "initramfs"].iter().any(|p| name.starts_with(p));
            let path = if folder == "." { name } else { format!("{folder}/{name}") };
            let regular = |path: &str| inside::known(root, path).is_ok_and(|k| k.regular && k.size > 0);
            if kernel && regular(&path) {
                found.kernels.push(path);
            } else if initrd && regular(&path) {
                found.initrds.push(path);
            }
        }
        for (path, loader) in LOADERS {
            let there = inside::known(root, &format!("{folder}/{path}"));
            if there.is_ok() && !found.loaders.iter().any(|l| l == loader) {
                found.loaders.push((*loader).into());
            }
        }
        for entry in names_inside(root, &format!("{folder}/loader/entries"), NAMES).unwrap_or_default() {
            found.entries.extend(plain(&format!("loader/entries/{entry}")).filter(|e| e.ends_with(".conf")));
        }
    }
    for kernel in [".", "boot"].iter().map(|f| format!("{f}/kernel/kernel")) {
        found
            .kernels
            .extend(inside::known(root, &kernel).ok().map(|_| kernel.trim_start_matches("./").into()));
    }
    if let Some(efi) = any_case(root, &["EFI"]) {
        for vendor in names_inside(root, &efi, NAMES).unwrap_or_default() {
            let folder = format!("{efi}/{vendor}");
            // Microsoft keeps its own one deeper.
            for folder in [folder.clone(), format!("{folder}/Boot")] {
                for name in names_inside(root, &folder, NAMES).unwrap_or_default() {
                    if name.to_ascii_lowercase().ends_with(".efi") {
                        found.entries.extend(plain(&format!("{}/{name}", folder.trim_start_matches("./"))));
                    }
                    let loader = match name.to_ascii_lowercase().as_str() {
                        n if n.starts_with("grub") => "GRUB",
                        n if n.starts_with("systemd-boot") => "systemd-boot",
                        n if n.starts_with("refind") => "rEFInd",
                        "bootmgfw.efi" => "Windows Boot Manager",
                        _ => continue,
                    };
                    if !found.loaders.iter().any(|l| l == loader) {
                        found.loaders.push(loader.into());
                    }
                }
            }
        }
    }
    for list in [&mut found.kernels, &mut found.initrds] {
        // What an update has put aside is not the newest, whatever its name sorts like.
        let aside = |name: &str| name.ends_with(".old") || name.ends_with(".bak");
        list.sort_by(|a, b| aside(a).cmp(&aside(b)).then_with(|| by_version(b, a)));
        list.truncate(MOST);
    }
    found.entries.sort();
    found.entries.dedup();
    found.entries.truncate(MOST);
    found
}

/// Numbers in names by their value: 6.1.0-9 comes before 6.1.0-10.
pub(super) fn by_version(a: &str, b: &str) -> Ordering {
    fn parts(text: &str) -> Vec<(u64, &str)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let words = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (word, tail) = tail.split_at(words);
            parts.push((number.parse().unwrap_or(0), word));
            rest = tail;
        }
        parts
    }
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn kernels_are_sorted_by_their_numbers() {
        let root = tree(&[
            ("boot/vmlinuz-6.1.0-9-amd64", "k"),
            ("boot/vmlinuz-6.1.0-10-amd64", "k"),
            ("boot/initrd.img-6.1.0-10-amd64", "i"),
            ("boot/grub/grub.cfg", "x"),
            ("boot/vmlinuz.old", "k"),
            ("boot/vmlinuz-empty", ""),
            ("EFI/debian/grubx64.efi", "x"),
            ("EFI/Microsoft/Boot/bootmgfw.efi", "x"),
        ]);
        let fd = crate::sys::mounts::folder(root.path()).unwrap();
        let top = names_inside(fd.as_fd(), ".", 100).unwrap();
        let boot = look(fd.as_fd(), &top);
        assert_eq!(
            boot.kernels,
            ["boot/vmlinuz-6.1.0-10-amd64", "boot/vmlinuz-6.1.0-9-amd64", "boot/vmlinuz.old"]
        );
        assert_eq!(boot.initrds, ["boot/initrd.img-6.1.0-10-amd64"]);
        assert_eq!(boot.entries, ["EFI/Microsoft/Boot/bootmgfw.efi", "EFI/debian/grubx64.efi"]);
        assert!(
            boot.loaders.contains(&"GRUB".into()) && boot.loaders.contains(&"Windows Boot Manager".into())
        );
    }
}
