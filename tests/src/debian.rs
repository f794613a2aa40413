//! A real Debian system on a disk image: packages from the host's own apt, GPT, a BIOS boot
//! partition with GRUB, an EFI system partition, ext4 and swap. Whole, or with an `/etc/fstab` that
//! names a UUID that is gone, so that its own boot ends in emergency mode.
//!
//! Needs no privilege where the host lets users have namespaces of their own.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::disk::{self, MIB};
use crate::image::{digest_of_text, target};
use crate::{apt, process};

/// The root password of the installed system.
pub const ROOT_PASSWORD: &str = "of the installed system";
/// The UUID that the broken `/etc/fstab` names, and no disk has.
pub const GONE_UUID: &str = "0badc0de-0bad-4bad-8bad-0badc0de0bad";
/// UUID of the root file system.
pub const ROOT_UUID: &str = "6f1f4a86-6a34-4f8e-9a52-6e8b2d1f5c07";
const SWAP_UUID: &str = "b1a5d0c3-2f60-4f6b-8f0e-93c1a1d7f6e2";
const EFI_ID: &str = "7A5C-11D3";

/// Its packages beyond the essential ones. Its boot loader's own tools for both kinds of firmware are for who
/// enters it; what it boots by is put in place here.
const PACKAGES: &str = "systemd-sysv,udev,kmod,dbus,e2fsprogs,initramfs-tools,linux-image-cloud-amd64,\
    grub2-common,grub-pc-bin,grub-efi-amd64-bin,efibootmgr";
const POPULATE: &str = include_str!("debian.sh");

/// First sector (512 bytes) and length in sectors of each partition, and its type for sfdisk.
const BIOS_BOOT: Extent = Extent { start: 2048, sectors: 2048 };
const EFI: Extent = Extent { start: 4096, sectors: 66 * 2048 };
const ROOT: Extent = Extent { start: 139_264, sectors: 768 * 2048 };
const SWAP: Extent = Extent { start: 1_712_128, sectors: 64 * 2048 };
/// The whole disk, with room for the backup table at its end.
const DISK_MIB: u64 = 902;

const PACKAGES_TAKE: Duration = Duration::from_secs(30 * 60);
const SOON: Duration = Duration::from_secs(300);

#[derive(Clone, Copy)]
struct Extent {
    start: u64,
    sectors: u64,
}

impl Extent {
    const fn offset(self) -> u64 {
        self.start * 512
    }
}

/// Whether its own boot succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It boots to its login prompt.
    Whole,
    /// `/etc/fstab` names a UUID that is gone: it boots to emergency mode.
    FstabNamesMissingDisk,
}

/// `/etc/fstab` of a system in this state.
pub fn fstab(health: Health) -> String {
    let mut text = format!(
        "# <file system> <mount point> <type> <options> <dump> <pass>\n\
         UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\n\
         UUID={EFI_ID} /boot/efi vfat umask=0077 0 1\n\
         UUID={SWAP_UUID} none swap sw 0 0\n"
    );
    if health == Health::FstabNamesMissingDisk {
        text.push_str("# the data disk\n");
        // The default is to wait for 90 s, which on an emulated machine would only cost time.
        text.push_str(&format!("UUID={GONE_UUID} /srv ext4 defaults,x-systemd.device-timeout=5s 0 2\n"));
    }
    text
}

/// Where the whole system's disk is kept, or will be.
///
/// # Errors
/// When this is not Debian.
pub fn cached() -> Result<PathBuf> {
    let recipe = format!(
        "{} {PACKAGES} {POPULATE} {} {DISK_MIB} {ROOT_PASSWORD} {}",
        apt::codename()?,
        fstab(Health::Whole),
        include_str!("debian.rs")
    );
    Ok(target().join(format!("rescue-tests/debian-{}.img", digest_of_text(&recipe))))
}

/// Puts a disk with such a system at `to`; made once, then copied.
///
/// # Errors
/// What the tool that failed said.
pub fn debian(to: &Path, health: Health) -> Result<()> {
    let whole = cached()?;
    if !whole.exists() {
        make(&whole).context("making a Debian disk")?;
    }
    disk::copy(&whole, to)?;
    if health != Health::Whole {
        disk::ext4_write(to, ROOT.offset(), "/etc/fstab", fstab(health).as_bytes())?;
    }
    Ok(())
}

/// Reads a file of the installed system without mounting anything.
///
/// # Errors
/// What debugfs said.
pub fn read_file(image: &Path, path: &str) -> Result<String> {
    disk::ext4_read(image, ROOT.offset(), path)
}

fn make(whole: &Path) -> Result<()> {
    let parent = whole.parent().context("the cache has no folder")?;
    std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let work = tempfile::Builder::new().prefix("debian-").tempdir_in(parent)?;
    let image = work.path().join("disk.img");
    let tree = work.path().join("tree.tar");
    bootstrap(work.path(), &tree)?;
    disk::blank(&image, DISK_MIB)?;
    partition(&image)?;
    root_file_system(&image, &tree, work.path())?;
    other_file_systems(&image, work.path())?;
    boot_loader(&image, work.path())?;
    // Whole or not at all: the cache never holds half a disk.
    std::fs::rename(&image, whole).with_context(|| format!("moving the disk to {}", whole.display()))
}

fn bootstrap(work: &Path, tree: &Path) -> Result<()> {
    let script = work.join("populate.sh");
    std::fs::write(&script, POPULATE)?;
    let mut mkpasswd = Command::new("mkpasswd");
    mkpasswd.args(["--stdin", "--method=sha512crypt"]);
    let hash = process::run(&mut mkpasswd, ROOT_PASSWORD.as_bytes(), SOON)?.ok()?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--format=tar"]);
    command.arg(if is_root() { "--mode=root" } else { "--mode=unshare" });
    command.args([
        "--aptopt=APT::Install-Recommends \"false\"",
        "--aptopt=Acquire::Languages \"none\"",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
    ]);
    command.arg(format!("--include={PACKAGES}"));
    let hook = format!("sh {} \"$1\"", process::quote(&script.to_string_lossy()));
    command.arg(format!("--customize-hook={hook}"));
    command.arg(apt::codename()?).arg(tree).args(apt_sources()?);
    command.env("PASSWORD_HASH", hash).env("ROOT_UUID", ROOT_UUID).env("FSTAB", fstab(Health::Whole));
    process::check(&mut command, PACKAGES_TAKE).map(drop)
}

/// The host's own files of apt sources for the release itself; a third party's are no part of a
/// plain Debian.
fn apt_sources() -> Result<Vec<PathBuf>> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(SOURCESENTRY)", "Origin: Debian"]);
    let entries = process::check(&mut command, SOON)?;
    let mut files: Vec<PathBuf> = entries
        .lines()
        .filter_map(|entry| Some(PathBuf::from(entry.rsplit_once(':')?.0)))
        .filter(|file| file.is_file())
        .collect();
    files.sort();
    files.dedup();
    if files.is_empty() {
        bail!("apt knows no source of Debian itself; `apt-get update` brings the lists");
    }
    Ok(files)
}

fn partition(image: &Path) -> Result<()> {
    // Types of the Discoverable Partitions Specification, and GRUB's BIOS boot partition.
    let rows = [
        (BIOS_BOOT, "21686148-6449-6E6F-744E-656564454649", "bios"),
        (EFI, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "efi"),
        (ROOT, "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "root"),
        (SWAP, "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "swap"),
    ];
    let mut script = String::from("label: gpt\nlabel-id: 3D8B3C74-5E1B-4A53-9B6E-0E8B4A1C2D10\n");
    for (extent, kind, name) in rows {
        script.push_str(&format!(
            "start={}, size={}, type={kind}, name={name}\n",
            extent.start, extent.sectors
        ));
    }
    let mut command = Command::new("sfdisk");
    command.args(["--quiet", "--no-reread", "--no-tell-kernel"]).arg(image);
    process::run(&mut command, script.as_bytes(), SOON)?.ok().context("partitioning with sfdisk").map(drop)
}

/// Unpacks the tree as root (real, or of a user namespace, where owners are mapped back) and has
/// mke2fs copy it into the partition.
fn root_file_system(image: &Path, tree: &Path, work: &Path) -> Result<()> {
    let script = "set -eu\n\
        mkdir \"$1\"\n\
        trap 'rm -rf \"$1\"' EXIT\n\
        tar -C \"$1\" --exclude='./dev/*' --xattrs --xattrs-include='*' -xf \"$2\"\n\
        mke2fs -q -F -t ext4 -L root -U \"$4\" -E \"offset=$5\" -d \"$1\" \"$3\" \"$6\"\n";
    let mut command = match is_root() {
        true => Command::new("sh"),
        false => {
            let mut unshare = Command::new("unshare");
            unshare.args(["--user", "--map-root-user", "--map-auto", "sh"]);
            unshare
        }
    };
    command.args(["-c", script, "root_file_system"]).arg(work.join("tree")).arg(tree).arg(image);
    command.args([ROOT_UUID, &ROOT.offset().to_string(), &format!("{}k", ROOT.sectors / 2)]);
    process::check(&mut command, SOON * 4).map(drop)
}

fn other_file_systems(image: &Path, work: &Path) -> Result<()> {
    let efi = work.join("efi");
    disk::blank(&efi, EFI.sectors * 512 / MIB)?;
    let id = EFI_ID.replace('-', "");
    process::check(Command::new("mkfs.vfat").args(["-F", "32", "-n", "EFI", "-i", &id]).arg(&efi), SOON)?;
    put(image, EFI, &std::fs::read(&efi)?)?;
    let swap = work.join("swap");
    disk::blank(&swap, SWAP.sectors * 512 / MIB)?;
    process::check(Command::new("mkswap").args(["--quiet", "--uuid", SWAP_UUID]).arg(&swap), SOON)?;
    // All that mkswap writes is the header, in the first page.
    let header = std::fs::read(&swap)?;
    put(image, SWAP, header.get(..4096).context("mkswap wrote less than a page")?)
}

/// GRUB as `grub-install` embeds it (GRUB's `util/setup.c`), done on the image itself because that
/// program wants a block device: boot.img's code into the master boot record, with the sector of
/// core.img; core.img into the BIOS boot partition, with the sector of its own remainder.
fn boot_loader(image: &Path, work: &Path) -> Result<()> {
    const KERNEL_SECTOR: usize = 0x5c;
    const BOOT_DRIVE: usize = 0x64;
    /// Where the code ends and the disk signature and partition table begin.
    const CODE: usize = 440;
    /// The block list of diskboot.img ends with its sector.
    const REST: usize = 512 - 12;

    let core = work.join("core.img");
    let mut command = Command::new("grub-mkimage");
    command.args(["-O", "i386-pc", "-p", "(hd0,gpt3)/boot/grub", "-o"]).arg(&core);
    command.args(["biosdisk", "part_gpt", "ext2", "normal", "configfile", "linux", "serial", "terminal"]);
    command.args(["search", "search_fs_uuid", "echo"]);
    process::check(&mut command, SOON)?;
    let mut core = std::fs::read(&core)?;
    ensure!(core.len() as u64 <= BIOS_BOOT.sectors * 512, "GRUB's core.img does not fit its partition");
    core[REST..REST + 8].copy_from_slice(&(BIOS_BOOT.start + 1).to_le_bytes());
    put(image, BIOS_BOOT, &core)?;

    let boot = "/usr/lib/grub/i386-pc/boot.img";
    let mut boot = std::fs::read(boot).with_context(|| format!("reading {boot}"))?;
    ensure!(boot.len() == 512, "GRUB's boot.img is not one sector");
    boot[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&BIOS_BOOT.start.to_le_bytes());
    // The drive that the firmware started from.
    boot[BOOT_DRIVE] = 0xff;
    let mut sector = [0; 512];
    let mut file = std::fs::File::open(image)?;
    file.read_exact(&mut sector)?;
    sector[..CODE].copy_from_slice(&boot[..CODE]);
    put(image, Extent { start: 0, sectors: 1 }, &sector)
}

fn put(image: &Path, at: Extent, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(image)?;
    file.seek(SeekFrom::Start(at.offset()))?;
    file.write_all(bytes).with_context(|| format!("writing {}", image.display()))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_one_another_and_fit() {
        for (a, b) in [(BIOS_BOOT, EFI), (EFI, ROOT), (ROOT, SWAP)] {
            assert!(a.start + a.sectors <= b.start);
        }
        // 33 sectors at the end hold the backup table (UEFI 2.10, 5.3.1).
        const { assert!(SWAP.start + SWAP.sectors + 33 <= DISK_MIB * 2048) };
    }

    #[test]
    fn the_broken_fstab_adds_one_line() {
        let whole = fstab(Health::Whole);
        let broken = fstab(Health::FstabNamesMissingDisk);
        assert!(broken.starts_with(&whole));
        assert!(!whole.contains(GONE_UUID) && broken.contains(GONE_UUID));
    }
}
