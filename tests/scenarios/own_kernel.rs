//! The cloud kernel that is built from `kernel-configs/` meets a login, and finds a disk, with no module loaded.
use anyhow::{Context, ensure};

use crate::disk;
use crate::image::Image;
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

/// For a compiler that begins with nothing.
const COMPILE_MINUTES: u64 = 120;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let binaries = lab.bench.binaries()?;
    let kernel = lab.path("kernel");
    process::check(
        &mut binaries.kernel_command("cloud", &kernel),
        std::time::Duration::from_secs(COMPILE_MINUTES * 60),
    )?;
    let modules = std::fs::read_dir(kernel.join("modules"))?.next().context("no folder of modules")??.path();
    let dir = lab.path("image");
    let mut build = binaries.image_command("debian", "minimal", &dir);
    build.arg("--kernel").arg(kernel.join("vmlinuz")).arg("--modules").arg(&modules);
    process::check(&mut build, limit(120))?;
    let image = Image { kernel: dir.join("vmlinuz"), initramfs: dir.join("rescue-debian.img"), dir };
    let device = lab.root_device()?;
    let disk = lab.path("disk.img");
    disk::ext4_of(&disk, 16, "data", &[])?;
    let vm = lab.with_image(image, &device)?.disk(&disk).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    let loaded = guest.ok("cat /proc/modules")?;
    ensure!(loaded.is_empty(), "modules are loaded:\n{loaded}");
    guest.until("rescue disks", |said| said.contains("ext4"))
}
