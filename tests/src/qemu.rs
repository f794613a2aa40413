//! The QEMU command line as a value: what a machine is made of, and the arguments that say so.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";

/// How the guest's instructions run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// In hardware.
    Kvm,
    /// Emulated, several times slower.
    Tcg,
}

impl Accelerator {
    /// KVM only where the processor says that it has it: `/dev/kvm` may be there and hang.
    pub fn of_this_machine() -> Self {
        static FOUND: OnceLock<Accelerator> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let usable = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
            if has_virtualisation(&cpuinfo) && usable { Self::Kvm } else { Self::Tcg }
        })
    }

    /// A limit for something that takes `seconds` on a quiet machine with KVM. Limits are there to
    /// end what hangs; no test asserts a speed.
    pub fn limit(self, seconds: u64) -> Duration {
        Duration::from_secs(match self {
            Self::Kvm => seconds * 2,
            Self::Tcg => seconds * 8,
        })
    }
}

fn has_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// A network card and what it is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// QEMU's own network with its DHCP server, closed towards the host (`restrict=on`) except for
    /// this loopback port, which leads to the guest's port 22.
    User {
        /// The host's port on 127.0.0.1.
        ssh_port: u16,
    },
    /// An Ethernet wire: QEMU connects to this loopback port and speaks length-prefixed frames.
    Wire {
        /// The host's port on 127.0.0.1.
        port: u16,
    },
    /// A tap of the network that QEMU runs in ([`crate::network::Network`]).
    Tap {
        /// Its name.
        name: String,
    },
}

impl Link {
    /// The `-netdev` argument.
    pub fn netdev(&self, id: &str) -> String {
        match self {
            Self::User { ssh_port } => {
                format!("user,id={id},restrict=on,hostfwd=tcp:127.0.0.1:{ssh_port}-:22")
            }
            Self::Wire { port } => format!("socket,id={id},connect=127.0.0.1:{port}"),
            // Whole frames: who reads them at the other end may know nothing of offloads.
            Self::Tap { name } => format!("tap,id={id},ifname={name},script=no,downscript=no,vnet_hdr=off"),
        }
    }
}

/// A disk image attached by virtio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// A raw image.
    pub image: PathBuf,
    /// What the guest sees as the disk's serial number.
    pub serial: String,
}

/// What the machine starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The kernel and the initrd are handed to it.
    Kernel {
        /// The kernel image.
        kernel: PathBuf,
        /// The initramfs, all its segments in one file.
        initrd: PathBuf,
        /// The kernel command line.
        append: String,
    },
    /// Its firmware starts the first disk.
    FirstDisk,
}

/// A whole machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What it starts from.
    pub start: Start,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u32,
    /// Its disks, in order.
    pub drives: Vec<Drive>,
    /// Its network cards, in order.
    pub links: Vec<Link>,
    /// A reset ends QEMU instead of starting over.
    pub no_reboot: bool,
    /// Further words for QEMU.
    pub more: Vec<String>,
}

impl Machine {
    /// The arguments. `sockets` is the folder for the console's and the control socket, `log` the
    /// file that QEMU itself writes the whole console output to.
    pub fn arguments(&self, accelerator: Accelerator, sockets: &Path, log: &Path) -> Vec<String> {
        let mut args: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(|w| w.to_string()));
        add(&["-nodefaults", "-no-user-config", "-display", "none"]);
        match accelerator {
            Accelerator::Kvm => add(&["-accel", "kvm", "-cpu", "host"]),
            Accelerator::Tcg => add(&["-accel", "tcg", "-cpu", "max"]),
        }
        add(&["-smp", &self.cpus.to_string(), "-m", &self.memory_mib.to_string()]);
        // `wait=on`: QEMU starts the machine once the console is read, so no line is lost.
        let console = format!(
            "socket,id=console,path={},server=on,wait=on,logfile={}",
            sockets.join("console").display(),
            log.display()
        );
        add(&["-chardev", &console, "-serial", "chardev:console"]);
        add(&["-qmp", &format!("unix:{},server=on,wait=off", sockets.join("qmp").display())]);
        add(&["-device", "virtio-rng-pci"]);
        if self.no_reboot {
            add(&["-no-reboot"]);
        }
        match &self.start {
            Start::Kernel { kernel, initrd, append } => add(&[
                "-kernel",
                &kernel.to_string_lossy(),
                "-initrd",
                &initrd.to_string_lossy(),
                "-append",
                append,
            ]),
            Start::FirstDisk => add(&["-boot", "c"]),
        }
        for (n, drive) in self.drives.iter().enumerate() {
            let file = drive.image.to_string_lossy().replace(',', ",,");
            add(&["-drive", &format!("if=none,id=disk{n},format=raw,file={file}")]);
            add(&["-device", &format!("virtio-blk-pci,drive=disk{n},serial={}", drive.serial)]);
        }
        for (n, link) in self.links.iter().enumerate() {
            add(&["-netdev", &link.netdev(&format!("net{n}"))]);
            // A bond speaks LACP by cards alone that say their speed.
            let card = format!(
                "virtio-net-pci,id=nic{n},netdev=net{n},mac={},speed=10000,duplex=full,romfile=",
                mac(n)
            );
            add(&["-device", &card]);
        }
        args.extend(self.more.iter().cloned());
        args
    }
}

/// The MAC address of the `n`-th network card.
pub fn mac(n: usize) -> String {
    format!("52:54:00:12:34:{:02x}", 0x56 + n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtualisation_is_a_whole_flag() {
        assert!(has_virtualisation("processor: 0\nflags\t\t: fpu vmx sse\n"));
        assert!(has_virtualisation("flags : svm\n"));
        assert!(!has_virtualisation("flags : fpu vmx_not\nvmx flags : x\nbugs : svm\n"));
    }

    #[test]
    fn user_networks_are_closed() {
        let machine = Machine {
            start: Start::FirstDisk,
            memory_mib: 256,
            cpus: 1,
            drives: vec![Drive { image: "/a,b".into(), serial: "s".into() }],
            links: vec![Link::User { ssh_port: 2222 }],
            no_reboot: true,
            more: Vec::new(),
        };
        let line = machine.arguments(Accelerator::Tcg, Path::new("/s"), Path::new("/l")).join(" ");
        assert!(line.contains("user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22"), "{line}");
        assert!(line.contains("file=/a,,b"), "{line}");
        assert!(line.contains("-no-reboot"), "{line}");
        assert!(!line.contains("-kernel"), "{line}");
    }
}
