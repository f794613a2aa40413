//! The ACPI power button ends in an orderly power-off: the console says so, and a disk that was
//! mounted for writing is clean.
use crate::disk;
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let image = lab.path("disk.img");
    disk::ext4(&image, 64, "data")?;
    let mut vm = lab.ready(&device, &[&image])?;
    let guest = vm.ssh(&device, "root")?;
    guest.ok("mkdir -p /mnt/data && mount -t ext4 /dev/vda /mnt/data && echo kept >/mnt/data/file")?;
    let mark = vm.console.mark();
    vm.power_button()?;
    vm.console.line("rescue: going down", mark, limit(30))?;
    vm.ended("power-off by the power button")?;
    disk::ext4_is_clean(&image)?;
    assert_eq!(disk::ext4_read(&image, 0, "/file")?, "kept\n");
    Ok(())
}
