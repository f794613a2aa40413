//! NVMe: a namespace of a controller, or of a subsystem that several controllers lead to.

use rescue_schema::report::{BlockReport, PathReport};

use super::{Folder, names};

pub(super) fn describe(folder: &Folder, block: &mut BlockReport) {
    block.model = folder.text("device/model");
    block.serial = folder.text("device/serial");
    block.firmware = folder.text("device/firmware_rev");
    block.wwn = folder.text("wwid");
    block.namespace = folder.number("nsid").and_then(|n| u32::try_from(n).ok()).or_else(|| {
        // Before Linux 4.12 the number stands in the name alone.
        folder.name.rsplit_once('n').and_then(|(_, n)| n.parse().ok())
    });
    block.slot = folder.text("device/address");
    block.state = folder.text("device/state").filter(|state| state != "live");
    // With native multipath the device is the subsystem, whose controllers are the paths.
    let device = folder.path.join("device");
    let controllers: Vec<String> = names(&device).into_iter().filter(|n| is_controller(n)).collect();
    for controller in controllers {
        let own = Folder { path: device.join(&controller), name: controller.clone(), link: String::new() };
        let Some(address) = own.text("address") else { continue };
        let state = own.text("state");
        block.paths.push(PathReport { name: controller, slot: Some(address), state });
    }
    if let ([only], None) = (block.paths.as_slice(), &block.slot) {
        block.slot = only.slot.clone();
    }
    if block.paths.len() < 2 {
        block.paths.clear();
    }
}

/// `nvme0`, and not `nvme0n1` or `nvme0c0n1`.
fn is_controller(name: &str) -> bool {
    name.strip_prefix("nvme").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
