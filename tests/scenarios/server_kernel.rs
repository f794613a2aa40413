//! The server kernel that is built from `kernel-configs/` drives the disks and cards of a server: each gets its own
//! module, by modalias, and is shown. Locked down it loads the modules that it was built with, and no others.
use std::path::Path;

use anyhow::{Context, ensure};
use rescue_schema::report::DisksReport;

use crate::disk;
use crate::guest::Guest;
use crate::lab::Lab;

/// What is on the buses, by the words for QEMU that plug it in. A name in braces is a disk with a file system of that
/// label; the serial number of the SAS disk's own port is what its driver finds it by.
const PARTS: &[(&[&str], &[&str])] = &[
    (&[], &["-machine", "q35"]),
    (&["virtio"], &["-device", "virtio-blk-pci,drive=virtio"]),
    (&["vscsi"], &["-device", "virtio-scsi-pci,id=a", "-device", "scsi-hd,bus=a.0,drive=vscsi"]),
    (&["ahci"], &["-device", "ide-hd,bus=ide.0,drive=ahci"]),
    (&["nvme"], &["-device", "nvme,drive=nvme,serial=n1"]),
    (&["megaraid"], &["-device", "megasas-gen2,id=b", "-device", "scsi-hd,bus=b.0,drive=megaraid"]),
    (&["mptsas"], &["-device", "mptsas1068,id=c,sas_address=0x5000c50015ea71a0"]),
    (&[], &["-device", "scsi-hd,bus=c.0,drive=mptsas,wwn=0x5000c50015ea71ac"]),
    (&["lsi"], &["-device", "lsi53c895a,id=d", "-device", "scsi-hd,bus=d.0,drive=lsi"]),
    (&["pvscsi"], &["-device", "pvscsi,id=e", "-device", "scsi-hd,bus=e.0,drive=pvscsi"]),
    (&["usb", "uas"], &["-device", "qemu-xhci,id=f", "-device", "usb-storage,bus=f.0,drive=usb"]),
    (&[], &["-device", "usb-uas,bus=f.0,id=g", "-device", "scsi-hd,bus=g.0,drive=uas"]),
    (&["sd"], &["-device", "sdhci-pci", "-device", "sd-card,drive=sd"]),
    (&[], &["-device", "pci-ohci,id=h", "-device", "usb-kbd,bus=h.0"]),
    (&[], &["-device", "ipmi-bmc-sim,id=i", "-device", "isa-ipmi-kcs,bmc=i"]),
    // No cable: what is asked of them is that they are there.
    (&[], &["-device", "e1000,romfile=", "-device", "e1000e,romfile=", "-device", "vmxnet3,romfile="]),
    (&[], &["-device", "rtl8139,romfile=", "-device", "pcnet,romfile=", "-device", "usb-net,bus=f.0"]),
];
/// What drives a device of a bus now.
const BOUND: &str = "for d in /sys/bus/pci/devices/* /sys/bus/usb/devices/* /sys/bus/mmc/devices/*; do
    basename $(readlink $d/driver); done 2>/dev/null | sort -u; ls /dev/ipmi0 /dev/input/event* || true";
const DRIVERS: &[&str] = &[
    "virtio-pci",
    "ahci",
    "nvme",
    "megaraid_sas",
    "mptsas",
    "sym53c8xx",
    "vmw_pvscsi",
    "xhci_hcd",
    "ohci-pci",
    "usb-storage",
    "uas",
    "sdhci-pci",
    "mmcblk",
    "e1000",
    "e1000e",
    "vmxnet3",
    "8139cp",
    "pcnet32",
    "cdc_ether",
    "usbhid",
    "i801_smbus",
    "/dev/ipmi0",
    "/dev/input/event",
];
/// Those that `cloud` has built in.
const MODULES: &[&str] =
    &["virtio_blk", "virtio_scsi", "ahci", "nvme", "mptsas", "vmw_pvscsi", "usb_storage"];
/// Said of a module that nobody signed.
const REJECTED: &str = "Key was rejected by service";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (image, modules) = lab.bench.binaries()?.image_of_own_kernel("server", "standard", &lab.dir)?;
    let device = lab.root_device()?;
    let labels: Vec<&str> = PARTS.iter().flat_map(|(labels, _)| labels.iter().copied()).collect();
    let mut vm = lab.with_image(image, &device)?.append("lockdown=integrity module.sig_enforce=1");
    for label in &labels {
        let path = lab.path(&format!("{label}.img"));
        disk::ext4(&path, 16, label)?;
        let file = path.to_string_lossy().replace(',', ",,");
        vm = vm.qemu(&["-drive", &format!("if=none,id={label},format=raw,file={file}")]);
    }
    let vm = PARTS.iter().fold(vm, |vm, (_, words)| vm.qemu(words)).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    guest.until("rescue disks --json", |said| {
        let report: DisksReport = serde_json::from_str(said).unwrap_or_default();
        labels.iter().all(|label| report.disks.iter().any(|d| d.probe.label.as_deref() == Some(label)))
    })?;
    guest.until(BOUND, |said| DRIVERS.iter().all(|name| said.lines().any(|line| line.starts_with(name))))?;
    let loaded = guest.ok("cut -d' ' -f1 /proc/modules")?;
    for name in MODULES {
        ensure!(loaded.lines().any(|line| line == *name), "{name} is not a module:\n{loaded}");
    }
    signatures(&guest, &modules)
}

/// A module as it was built is taken, and not with a bit changed, nor without its signature.
fn signatures(guest: &Guest, modules: &Path) -> anyhow::Result<()> {
    let level = guest.ok("cat /sys/kernel/security/lockdown /proc/sys/kernel/tainted")?;
    ensure!(level.contains("[integrity]") && level.ends_with("\n0"), "not locked down, or tainted: {level}");
    let path = modules.join("kernel/fs/nls/nls_koi8-u.ko");
    let whole = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut changed = whole.clone();
    let at = whole.windows(9).position(|w| w == b".modinfo\0").context("no .modinfo in the module")?;
    changed[at + 1] ^= 1;
    let signed = b"~Module signature appended~\n";
    let bare = whole.strip_suffix(signed).context("the module is not signed")?;
    for (bytes, taken) in [(&changed[..], false), (bare, false), (&whole[..], true)] {
        guest.run_with_input("cat >/tmp/module.ko", bytes)?;
        let said = guest.run("insmod /tmp/module.ko && grep nls_koi8_u /proc/modules")?;
        ensure!((said.status == 0) == taken && said.stderr.contains(REJECTED) != taken, "{taken}: {said:?}");
    }
    Ok(())
}
