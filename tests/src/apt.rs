//! The Debian packages that the tests and the demo need, and installing those that are missing.
//! What cannot be installed is named; nothing is skipped.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::qemu::QEMU;

/// A program and the package that brings it.
pub struct Need {
    program: &'static str,
    package: &'static str,
}

const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

/// What the demo calls by name, and the tests too. `qemu-utils` is not among them: from backports it
/// conflicts with the stable `qemu-system-x86`.
pub const DEMO: &[Need] = &[
    need(QEMU, "qemu-system-x86"),
    need("ssh", "openssh-client"),
    need("ssh-keygen", "openssh-client"),
    need("mkpasswd", "whois"),
    need("setpriv", "util-linux"),
    need("unshare", "util-linux"),
    need("sfdisk", "fdisk"),
    need("mke2fs", "e2fsprogs"),
    need("debugfs", "e2fsprogs"),
    need("mkfs.vfat", "dosfstools"),
    need("mkswap", "util-linux"),
    need("mmdebstrap", "mmdebstrap"),
    need("grub-mkimage", "grub-common"),
    need("/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin"),
    need("cpio", "cpio"),
    need("tar", "tar"),
    need("cc", "gcc"),
    need("depmod", "kmod"),
    need("zstd", "zstd"),
];

/// What compiling the kernel of `kernel-configs/` calls beside what merging its fragments does.
pub const KERNEL: &[Need] = &[
    need("bc", "bc"),
    need("lz4", "lz4"),
    need("openssl", "openssl"),
    need("/usr/include/libelf.h", "libelf-dev"),
    need("/usr/include/openssl/opensslv.h", "libssl-dev"),
];

/// What the tests call beside: clients and servers of others, and the tools that make disks.
pub const TESTS: &[Need] = &[
    need("sftp", "openssh-client"),
    need("strace", "strace"),
    // Merging the fragments of kernel-configs/.
    need("make", "make"),
    need("flex", "flex"),
    need("bison", "bison"),
    need("dbclient", "dropbear-bin"),
    need("plink", "putty-tools"),
    need("lftp", "lftp"),
    need("/usr/include/openssl/evp.h", "libssl-dev"),
    need("rclone", "rclone"),
    need("/usr/include/libssh/libssh.h", "libssh-dev"),
    need("rsync", "rsync"),
    need("ss", "iproute2"),
    need("script", "bsdutils"),
    need("curl", "curl"),
    need("sshfs", "sshfs"),
    need("sshpass", "sshpass"),
    need("ansible", "ansible-core"),
    need("ssh-audit", "ssh-audit"),
    need("/usr/lib/python3/dist-packages/paramiko", "python3-paramiko"),
    need("/usr/lib/python3/dist-packages/asyncssh", "python3-asyncssh"),
    need("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    need("nsenter", "util-linux"),
    need("ip", "iproute2"),
    need("python3", "python3"),
    need("openssl", "openssl"),
    need("dnsmasq", "dnsmasq-base"),
    need("dhcpd", "isc-dhcp-server"),
    need("radvd", "radvd"),
    need("atk6-flood_router26", "thc-ipv6"),
    need("lldpd", "lldpd"),
    need("ovs-vswitchd", "openvswitch-switch"),
    need("sgdisk", "gdisk"),
    need("genisoimage", "genisoimage"),
    need("xorriso", "xorriso"),
    need("mcopy", "mtools"),
    need("parted", "parted"),
    need("cryptsetup", "cryptsetup-bin"),
    need("lvm", "lvm2"),
    need("mdadm", "mdadm"),
    need("make-bcache", "bcache-tools"),
    need("drbdmeta", "drbd-utils"),
    need("mkfs.xfs", "xfsprogs"),
    need("mkfs.btrfs", "btrfs-progs"),
    need("mkfs.f2fs", "f2fs-tools"),
    need("mkfs.exfat", "exfatprogs"),
    need("mkntfs", "ntfs-3g"),
    need("jfs_mkfs", "jfsutils"),
    need("mkreiserfs", "reiserfsprogs"),
    need("mkfs.reiser4", "reiser4progs"),
    need("mkfs.nilfs2", "nilfs-tools"),
    need("mkudffs", "udftools"),
    need("mksquashfs", "squashfs-tools"),
    need("mkfs.erofs", "erofs-utils"),
    need("genisoimage", "genisoimage"),
    need("xorriso", "xorriso"),
    need("hformat", "hfsutils"),
    need("makefs", "makefs"),
    need("mkapfs", "apfsprogs"),
    need("mkfs.ocfs2", "ocfs2-tools"),
    need("mkfs.gfs2", "gfs2-utils"),
    need("genromfs", "genromfs"),
    need("c++", "g++"),
];

/// Keeps packages from starting what they install: a test starts its servers itself, in a network of
/// its own (`/usr/share/doc/init-system-helpers/README.policy-rc.d`).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Names of the packages that are missing, each once.
pub fn missing(needs: &[&[Need]]) -> Vec<&'static str> {
    let needs = needs.iter().flat_map(|needs| needs.iter());
    let mut packages: Vec<&str> =
        needs.filter(|need| !is_there(need.program)).map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    process::path_with_sbin().split(':').any(|dir| Path::new(dir).join(program).is_file())
}

/// Installs what is missing. `say` is told each command before it runs.
///
/// # Errors
/// When packages are missing and cannot be installed; with the command that installs them.
pub fn install_missing(needs: &[&[Need]], say: impl Fn(&str)) -> Result<()> {
    let packages = missing(needs);
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!("sudo apt-get install {}", packages.join(" "));
    let root = rustix::process::geteuid().is_root();
    let sudo = !root
        && process::run(Command::new("sudo").args(["-n", "true"]), b"", Duration::from_secs(20))
            .is_ok_and(|output| output.status == 0);
    if !root && !sudo {
        bail!("these packages are missing, and installing them needs root: {by_hand}");
    }
    let as_root = |program: &str, words: &[&str]| {
        let mut command = Command::new(if sudo { "sudo" } else { program });
        if sudo {
            command.args(["-n", program]);
        }
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        say(&process::show(&command));
        process::check(&mut command, Duration::from_secs(30 * 60))
    };
    let apt = |words: &[&str]| {
        as_root("apt-get", &[&["-q", "-y", "-o", "DPkg::Lock::Timeout=300"], words].concat())
    };
    let quiet = !Path::new(POLICY).exists();
    if quiet {
        as_root("sh", &["-c", &format!("printf '#!/bin/sh\\nexit 101\\n' >{POLICY}; chmod 755 {POLICY}")])?;
    }
    let installed = install(&packages, &apt);
    if quiet {
        as_root("rm", &[POLICY])?;
    }
    installed?;
    match missing(needs) {
        left if left.is_empty() => Ok(()),
        left => bail!("still missing after the installation: {}; {by_hand}", left.join(" ")),
    }
}

fn install<T>(packages: &[&'static str], apt: &dyn Fn(&[&str]) -> Result<T>) -> Result<()> {
    apt(&["update"])?;
    let mut words = vec!["install", "--no-install-recommends"];
    words.extend(packages);
    let Err(error) = apt(&words) else { return Ok(()) };
    if !packages.contains(&"qemu-system-x86") {
        return Err(error);
    }
    // A qemu-utils from backports breaks the stable QEMU: take both from the release itself.
    let utils = format!("qemu-utils/{}", codename()?);
    words.extend(["--allow-downgrades", &utils]);
    apt(&words).map(drop)
}

/// The name of the Debian release that we run on.
///
/// # Errors
/// When os-release(5) has none.
pub fn codename() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_string())
        .context("/etc/os-release has no VERSION_CODENAME; is this Debian?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_is_a_file_in_path() {
        assert!(is_there("sh"));
        assert!(!is_there("no-such-program-at-all"));
        assert!(!is_there("/no/such/file"));
    }
}
