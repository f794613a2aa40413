//! The main job: a Debian server whose fstab names a disk that is gone is mounted, repaired over SSH
//! and left by a reboot; then it boots by itself.
use crate::console::Mark;
use crate::debian::{self, GONE_UUID, Health, debian};
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disk = lab.path("disk.img");
    lab.alone(|| debian(&disk, Health::FstabNamesMissingDisk))?;
    let mut vm = lab.ready(&device, &[&disk])?;
    let guest = vm.ssh(&device, "root")?;
    assert!(guest.ok("rescue disks")?.contains("ext4"));
    guest.ok("rescue mount")?;
    let fstab = guest.ok("ls -d /mnt/*/etc/fstab")?;
    assert!(guest.ok(&format!("cat {fstab}"))?.contains(GONE_UUID));
    assert_ne!(guest.run(&format!("echo x >>{fstab}"))?.status, 0, "mounted read-only");
    guest.ok("rescue umount && rescue mount --rw")?;
    guest.ok(&format!("cp -p {fstab} {fstab}.before && sed -i 's/^UUID={GONE_UUID}/#&/' {fstab}"))?;
    guest.run("reboot")?;
    vm.ended("the reboot")?;
    assert!(debian::read_file(&disk, "/etc/fstab")?.contains(&format!("\n#UUID={GONE_UUID}")));
    let vm = lab.firmware()?.disk(&disk).start()?;
    vm.console.line("db7 login:", Mark::default(), limit(120)).map(drop)
}
