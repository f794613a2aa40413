//! A machine without disks boots, and `rescue disks` says that there are none.
use serde_json::Value;

use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.ready(&device, &[])?;
    let disks: Value = vm.ssh(&device, "root")?.json("rescue disks --json")?;
    assert!(!disks.to_string().contains("/dev/vd"), "{disks}");
    assert_eq!(vm.ssh(&device, "root")?.run("rescue disks")?.status, 0);
    Ok(())
}
