//! With `rescue.return_after` a machine that nobody logs in to tells what it knows on its console and goes back
//! to its disk; a login keeps it.
use crate::disk;
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let image = lab.path("disk.img");
    disk::ext4_of(&image, 16, "data", &[])?;
    let mut vm = lab.rescue(&device)?.disk(&image).append("rescue.return_after=25s").start()?;
    let start = vm.console.mark();
    vm.console.line("rescue: back to the disk in 25 s unless somebody logs in", start, limit(60))?;
    vm.console.line("goes back to its disk now", start, limit(120))?;
    // The diagnosis: what `rescue status` and `rescue disks` say.
    vm.console.line("host key", start, limit(30))?;
    vm.console.line("ext4", start, limit(60))?;
    vm.ended("the return to the disk")?;

    let vm = lab.rescue(&device)?.append("rescue.return_after=180s").start()?;
    let start = vm.console.mark();
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    guest.reach()?;
    vm.console.line("somebody has logged in: the rescue stays", start, limit(60))?;
    let status = guest.ok("rescue status")?;
    anyhow::ensure!(!status.contains("returns"), "{status}");

    let vm = lab.rescue(&device)?.append("rescue.return_after=soon").start()?;
    let start = vm.console.mark();
    vm.console.line("not a time of 10s to 168h", start, limit(60))?;
    vm.ready().map(drop)
}
