//! SCSI and what speaks it: SATA behind libata or an adapter, SAS, Fibre Channel, iSCSI, virtio-scsi.

use rescue_schema::report::BlockReport;

use super::{Folder, names};
use crate::sys::files::read_capped;

/// Largest page of vital product data that is read, in bytes; that of ATA has 572.
const PAGE: usize = 4096;

pub(super) fn describe(folder: &Folder, block: &mut BlockReport) {
    let vendor = folder.text("device/vendor");
    let mut model = folder.text("device/model");
    block.firmware = folder.text("device/rev");
    block.serial = serial(folder);
    block.wwn = folder.text("device/wwid").map(|wwn| one_blank(&wwn));
    let ata = vendor.as_deref() == Some("ATA");
    if ata {
        // The SCSI fields hold 16 letters of 40: what the disk itself says is behind the adapter's page.
        if let Some(identity) = identity(folder) {
            block.serial = identity.serial.or(block.serial.take());
            block.firmware = identity.firmware.or(block.firmware.take());
            model = identity.model.or(model);
        }
        if block.bus.as_deref() != Some("usb") {
            block.bus = Some("sata".into());
        }
    } else if let (Some(vendor), Some(name)) = (&vendor, &model) {
        model =
            Some(if name.starts_with(vendor.as_str()) { name.clone() } else { format!("{vendor} {name}") });
    }
    block.model = model.map(|m| one_blank(&m));
    block.slot = slot(folder);
    block.state = folder.text("device/state").filter(|state| state != "running");
}

/// Blanks fill the fields of SCSI up to their width.
fn one_blank(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Page 0x80 (SPC-4, 7.8.13): four bytes, then text.
fn serial(folder: &Folder) -> Option<String> {
    let page = read_capped(&folder.path.join("device/vpd_pg80"), PAGE).ok()?;
    let text = String::from_utf8_lossy(page.get(4..)?)
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_string();
    (!text.is_empty()).then_some(text)
}

struct Identity {
    serial: Option<String>,
    firmware: Option<String>,
    model: Option<String>,
}

/// Page 0x89 (SAT-4, 12.4.3): IDENTIFY DEVICE stands at byte 60.
fn identity(folder: &Folder) -> Option<Identity> {
    let page = read_capped(&folder.path.join("device/vpd_pg89"), PAGE).ok()?;
    let data = page.get(60..)?;
    Some(Identity {
        serial: ata_text(data, 20, 20),
        firmware: ata_text(data, 46, 8),
        model: ata_text(data, 54, 40),
    })
}

/// Text of ATA has the two letters of each word the wrong way round.
pub(super) fn ata_text(data: &[u8], at: usize, length: usize) -> Option<String> {
    let bytes = data.get(at..at.checked_add(length)?)?;
    let swapped: Vec<u8> = bytes.chunks_exact(2).flat_map(|pair| pair.iter().rev().copied()).collect();
    let text =
        String::from_utf8_lossy(&swapped).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_string();
    (!text.is_empty() && text.chars().all(|c| !c.is_control())).then_some(text)
}

/// The place in a shelf where one says so, the port of libata, and the address.
fn slot(folder: &Folder) -> Option<String> {
    let bay = names(&folder.path.join("device"))
        .iter()
        .find_map(|n| n.strip_prefix("enclosure_device:").map(|bay| bay.trim().to_string()));
    let port = folder.link.split('/').rev().find(|part| {
        part.strip_prefix("ata").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    let address = folder.link.split('/').rev().find(|part| {
        let numbers: Vec<&str> = part.split(':').collect();
        numbers.len() == 4 && numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    let parts: Vec<String> =
        [bay, port.map(Into::into), address.map(Into::into)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}
