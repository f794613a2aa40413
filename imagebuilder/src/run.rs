//! `imagebuilder run`: boots an image in QEMU, with its serial console on this terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use crate::inject;

const QEMU: &str = "qemu-system-x86_64";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The folder that `build` wrote.
    pub(crate) image: PathBuf,
    /// `device.json`, or the cpio that `inject` wrote.
    pub(crate) device: Option<PathBuf>,
    /// Disk images, raw or qcow2.
    pub(crate) disks: Vec<PathBuf>,
    /// Port of 127.0.0.1 that leads to the guest's port 22.
    pub(crate) ssh_port: u16,
    /// Memory in MiB.
    pub(crate) memory: u32,
    /// Added to the kernel's command line.
    pub(crate) append: String,
    /// Whether the guest may reach the network of this machine.
    pub(crate) internet: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            image: PathBuf::new(),
            device: None,
            disks: Vec::new(),
            ssh_port: 2222,
            memory: 512,
            append: String::new(),
            internet: false,
        }
    }
}

/// Becomes QEMU; returns only when that fails.
///
/// # Errors
/// A file that is missing, a disk in use, QEMU not installed.
pub(crate) fn run(wish: &Wish) -> Result<()> {
    let vmlinuz = wish.image.join("vmlinuz");
    ensure!(
        vmlinuz.is_file(),
        "{}: no kernel; build one with imagebuilder build -o {}",
        vmlinuz.display(),
        wish.image.display()
    );
    let image = find_image(&wish.image)?;
    for disk in &wish.disks {
        check_disk(disk)?;
    }
    let initrd = initrd(&image, wish.device.as_deref())?;
    let mut command = Command::new(QEMU);
    command.args(arguments(wish, &vmlinuz, initrd.as_raw_fd(), kvm_works())?);
    eprintln!(
        "booting {}; when it is ready: ssh -p {} root@127.0.0.1\n\
         its host key's fingerprint is on this console, in the line `rescue: ready`; to leave: poweroff, or Ctrl-A X",
        image.display(),
        wish.ssh_port
    );
    let error = command.exec();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            bail!("{QEMU} is not installed; run: apt-get install qemu-system-x86")
        }
        _ => Err(anyhow!("running {QEMU}: {error}")),
    }
}

fn find_image(folder: &Path) -> Result<PathBuf> {
    let mut images = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("rescue-") && name.ends_with(".img") {
            images.push(path);
        }
    }
    match (images.pop(), images.is_empty()) {
        (Some(image), true) => Ok(image),
        (Some(_), false) => bail!("{}: several rescue-*.img; keep one of them there", folder.display()),
        (None, _) => bail!("{}: no rescue-*.img; build one with imagebuilder build", folder.display()),
    }
}

/// Image and credentials in one file without a name, in memory: secrets reach no disk.
fn initrd(image: &Path, device: Option<&Path>) -> Result<File> {
    // Without CLOEXEC, because QEMU opens it by its number in /proc/self/fd.
    let memory =
        rustix::fs::memfd_create("initrd", rustix::fs::MemfdFlags::empty()).context("memfd_create")?;
    let mut file = File::from(memory);
    let mut source = File::open(image).with_context(|| format!("opening {}", image.display()))?;
    std::io::copy(&mut source, &mut file).with_context(|| format!("reading {}", image.display()))?;
    if let Some(path) = device {
        let mut bytes = Vec::new();
        let source = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        source
            .take(16 << 20)
            .read_to_end(&mut bytes)
            .with_context(|| format!("reading {}", path.display()))?;
        let cpio = match bytes.starts_with(b"070701") {
            true => bytes,
            false => {
                let document = inject::read_document(&path.display().to_string(), &mut &bytes[..])?;
                let mut seed = [0; 64];
                File::open("/dev/urandom")
                    .and_then(|mut f| f.read_exact(&mut seed))
                    .context("reading /dev/urandom")?;
                inject::archive(&document, Some(&seed))?
            }
        };
        file.write_all(&cpio)?;
    }
    Ok(file)
}

fn arguments(wish: &Wish, vmlinuz: &Path, initrd: i32, kvm: bool) -> Result<Vec<String>> {
    let restrict = if wish.internet { "off" } else { "on" };
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |name: &str, value: String| arguments.extend([name.to_string(), value]);
    match kvm {
        true => add("-accel", "kvm".into()),
        false => add("-accel", "tcg".into()),
    }
    add("-cpu", if kvm { "host" } else { "max" }.into());
    add("-m", format!("{}M", wish.memory));
    add("-kernel", text(vmlinuz)?);
    add("-initrd", format!("/proc/self/fd/{initrd}"));
    add("-append", format!("console=ttyS0 panic=10 {}", wish.append).trim_end().to_string());
    add("-netdev", format!("user,id=n0,restrict={restrict},hostfwd=tcp:127.0.0.1:{}-:22", wish.ssh_port));
    add("-device", "virtio-net-pci,netdev=n0,romfile=".into());
    add("-device", "virtio-rng-pci".into());
    for (i, disk) in wish.disks.iter().enumerate() {
        // A comma in a value is doubled (qemu(1)).
        let format = if is_qcow2(disk) { "qcow2" } else { "raw" };
        add("-drive", format!("file={},format={format},if=none,id=d{i}", text(disk)?.replace(',', ",,")));
        add("-device", format!("virtio-blk-pci,drive=d{i}"));
    }
    add("-display", "none".into());
    add("-serial", "mon:stdio".into());
    arguments.push("-no-reboot".into());
    Ok(arguments)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(String::from).with_context(|| format!("{}: a path that is not UTF-8", path.display()))
}

fn is_qcow2(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"QFI\xfb"
}

/// `/dev/kvm` may exist and hang; the processor's flags tell whether it can work.
fn kvm_works() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let able = flags
        .lines()
        .filter(|l| l.starts_with("flags"))
        .flat_map(str::split_ascii_whitespace)
        .any(|f| f == "vmx" || f == "svm");
    able && File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Refuses a disk that somebody else is writing to.
fn check_disk(path: &Path) -> Result<()> {
    let in_use =
        |by: &str| Err(anyhow!("disk {} is in use by {by}; stop that first, or use a copy", path.display()));
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("opening disk {}", path.display()))?;
    let kind = file.metadata()?.file_type();
    ensure!(
        kind.is_file() || kind.is_block_device(),
        "disk {}: neither a file nor a block device",
        path.display()
    );
    // Any lock of anybody else, such as those that QEMU holds on bytes 100 and up.
    let probe = Flock {
        start: 0,
        length: 0,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    if fcntl_getlk(&file, &probe)
        .with_context(|| format!("looking for locks on {}", path.display()))?
        .is_some()
    {
        return in_use("another QEMU or program that locked it");
    }
    if file.try_lock().is_err() {
        return in_use("a program that locked it");
    }
    let real = path.canonicalize()?;
    for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(backing.trim_end()) == real {
            return in_use(&format!("/dev/{}", entry.file_name().to_string_lossy()));
        }
    }
    if kind.is_block_device() {
        // O_EXCL on a block device fails while the kernel uses it: mounted, swap, RAID, LVM (open(2)).
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::EXCL | rustix::fs::OFlags::CLOEXEC;
        if rustix::fs::open(path, flags, rustix::fs::Mode::empty()).is_err() {
            return in_use("this machine");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_is_shut_in_unless_it_is_let_out() {
        let mut wish = Wish { image: "/x".into(), disks: vec!["/tmp/a,b".into()], ..Wish::default() };
        let line = arguments(&wish, Path::new("/x/vmlinuz"), 9, false).unwrap().join(" ");
        assert!(line.contains("restrict=on,hostfwd=tcp:127.0.0.1:2222-:22"), "{line}");
        assert!(line.contains("file=/tmp/a,,b,format=raw"), "{line}");
        assert!(line.contains("-accel tcg"), "{line}");
        wish.internet = true;
        let line = arguments(&wish, Path::new("/x/vmlinuz"), 9, true).unwrap().join(" ");
        assert!(line.contains("restrict=off") && line.contains("-accel kvm"), "{line}");
    }

    #[test]
    fn a_locked_disk_is_refused() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        check_disk(disk.path()).unwrap();
        let holder = File::open(disk.path()).unwrap();
        holder.lock().unwrap();
        assert!(check_disk(disk.path()).unwrap_err().to_string().contains("in use"));
        drop(holder);
        check_disk(disk.path()).unwrap();
        assert!(check_disk(Path::new("/nonexistent")).is_err());
        assert!(check_disk(Path::new("/dev/null")).unwrap_err().to_string().contains("neither"));
    }
}
