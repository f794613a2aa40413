//! Formats that are named, so that nothing of them looks unformatted: type, and label and UUID where
//! they stand at a fixed place.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature as signature_with;
use crate::disk::source::{Answer, Reader, hyphens};

fn signature(kind: &str, usage: &str, offset: u64) -> SignatureReport {
    signature_with(kind, usage, offset, Proof::Magic)
}

/// The label may stand in any of the first four sectors (lib/format_text/layout.h of LVM2).
pub(super) fn lvm(reader: &Reader<'_>) -> Answer<SignatureReport> {
    for at in [512u64, 0, 1024, 1536] {
        let Some(label) = reader.get(at, 512)? else { continue };
        if label.is(0, b"LABELONE") && label.is(24, b"LVM2 001") {
            let header = label.u32(20).and_then(|o| usize::try_from(o).ok());
            return Ok(Some(SignatureReport {
                uuid: header.and_then(|o| label.text(o, 32)).map(|u| hyphens(&u, &[6, 4, 4, 4, 4, 4, 6])),
                version: Some("LVM2 001".into()),
                ..signature("LVM2_member", "raid", at + 24)
            }));
        }
    }
    Ok(None)
}

/// md superblocks (include/uapi/linux/raid/md_p.h): 1.1 at the start, 1.2 at 4 KiB, 1.0 and 0.90 near
/// the end, where a member looks like its own content from the front.
pub(super) fn md(reader: &Reader<'_>) -> Answer<SignatureReport> {
    const MAGIC: u32 = 0xa92b_4efc;
    let end = (reader.size() / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
    for (at, version) in [(Some(0), "1.1"), (Some(4096), "1.2"), (end, "1.0")] {
        let Some(at) = at else { continue };
        let Some(b) = reader.get(at, 256)? else { continue };
        if b.u32(0) == Some(MAGIC) && b.u32(4) == Some(1) && b.u64(144) == Some(at / 512) {
            return Ok(Some(SignatureReport {
                uuid: b.uuid(16),
                label: b.text(32, 32),
                version: Some(version.into()),
                ..signature("linux_raid_member", "raid", at)
            }));
        }
    }
    let Some(at) = (reader.size() & !0xffff).checked_sub(0x10000) else { return Ok(None) };
    let Some(b) = reader.get(at, 256)? else { return Ok(None) };
    if b.u32(0) != Some(MAGIC) || b.u32(4) != Some(0) {
        return Ok(None);
    }
    let words: Option<String> =
        [20, 52, 56, 60].iter().map(|o| b.u32(*o).map(|w| format!("{w:08x}"))).collect();
    Ok(Some(SignatureReport {
        uuid: words.map(|w| hyphens(&w, &[8, 4, 4, 4, 12])),
        version: b.u32(8).map(|minor| format!("0.{minor}.0")),
        ..signature("linux_raid_member", "raid", at)
    }))
}

pub(super) fn luks(reader: &Reader<'_>) -> Answer<SignatureReport> {
    Ok(reader.get(0, 512)?.filter(|b| b.is(0, b"LUKS\xba\xbe")).map(|b| SignatureReport {
        uuid: b.text(168, 40),
        label: if b.be16(6) == Some(2) { b.text(24, 48) } else { None },
        version: b.be16(6).map(|v| v.to_string()),
        ..signature("crypto_LUKS", "crypto", 0)
    }))
}

/// What stands as OEM name in the boot sector of a BitLocker volume.
pub(super) fn bitlocker(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let boot = reader.get(0, 512)?.filter(|b| b.is(3, b"-FVE-FS-"));
    Ok(boot.map(|_| signature("BitLocker", "crypto", 3)))
}
