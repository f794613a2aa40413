//! A disk that is plugged in while the rescue runs appears in `rescue disks`, and goes again.
use std::time::Instant;

use serde_json::Value;

use crate::disk;
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let image = lab.path("disk.img");
    disk::ext4(&image, 64, "plugged")?;
    let mut vm = lab.ready(&device, &[])?;
    let guest = vm.ssh(&device, "root")?;
    let seen = || {
        Ok::<_, anyhow::Error>(guest.json::<Value>("rescue disks --json")?.to_string().contains("plugged"))
    };
    assert!(!seen()?);
    for there in [true, false] {
        match there {
            true => vm.plug_disk(&image, "hot1")?,
            false => vm.unplug("hot1")?,
        }
        let end = Instant::now() + limit(30);
        while seen()? != there {
            anyhow::ensure!(Instant::now() < end, "awaited: plugged in = {there}");
        }
    }
    Ok(())
}
