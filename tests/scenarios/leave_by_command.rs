//! `reboot`, `poweroff` and `halt`, typed over SSH or in a login shell, unmount what was mounted and then do it.
use crate::disk;
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    for command in ["reboot", "poweroff", "sh -lc 'halt -p'", "shutdown -h now"] {
        let image = lab.path("disk.img");
        disk::ext4(&image, 64, "data")?;
        let mut vm = lab.ready(&device, &[&image])?;
        let guest = vm.ssh(&device, "root")?;
        guest.ok("mkdir -p /mnt/data && mount -t ext4 /dev/vda /mnt/data && echo kept >/mnt/data/file")?;
        // The connection may be cut before the status comes.
        guest.run(command)?;
        vm.ended(command)?;
        disk::ext4_is_clean(&image)?;
        assert_eq!(disk::ext4_read(&image, 0, "/file")?, "kept\n", "after {command}");
    }
    Ok(())
}
