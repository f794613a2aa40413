//! Booting, `rescue disks`, `status` and a read-only mount leave every byte of the disk as it was.
use crate::debian::{Health, debian};
use crate::image::digest_of_files;
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disk = lab.path("disk.img");
    lab.alone(|| debian(&disk, Health::FstabNamesMissingDisk))?;
    let before = digest_of_files(&[&disk])?;
    let mut vm = lab.ready(&device, &[&disk])?;
    let guest = vm.ssh(&device, "root")?;
    guest.ok("rescue disks && rescue status && rescue mount && ls -R /mnt >/dev/null && rescue umount")?;
    guest.run("poweroff")?;
    vm.ended("the power-off")?;
    assert_eq!(digest_of_files(&[&disk])?, before, "the disk was written to");
    Ok(())
}
