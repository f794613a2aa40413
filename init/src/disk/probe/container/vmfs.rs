//! VMware VMFS: the member of a volume at 1 MiB, the file system at 2 MiB (vmfs-tools).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader, hyphens};

const VOLUME: u64 = 1 << 20;
const FILE_SYSTEM: u64 = 2 << 20;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    if let Some(b) = reader.get(VOLUME, 1024)?
        && b.is(0, &[0x0d, 0xd0, 0x01, 0xc0])
    {
        let mut found = SignatureReport {
            // As text, after 512 bytes of volume and 20 of LVM information.
            uuid: b.text(532, 35),
            version: b.u32(4).map(|v| v.to_string()),
            ..signature("VMFS_volume_member", "raid", VOLUME, Proof::Magic)
        };
        found.more.extend(uuid(&b, 130).map(|uuid| ("UUID_SUB".to_string(), uuid)));
        return Ok(Some(found));
    }
    let Some(b) = reader.get(FILE_SYSTEM, 160)? else { return Ok(None) };
    Ok(b.is(0, &[0x5e, 0xf1, 0xab, 0x2f]).then(|| SignatureReport {
        uuid: uuid(&b, 9),
        label: b.text(29, 128),
        version: b.u8(8).map(|v| v.to_string()),
        ..signature("VMFS", "filesystem", FILE_SYSTEM, Proof::Magic)
    }))
}

/// Two little-endian words of 32 bits, one of 16, then bytes.
fn uuid(b: &Bytes, at: usize) -> Option<String> {
    let tail: String = b.slice(at + 10, 6)?.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{:08x}{:08x}{:04x}{tail}", b.u32(at)?, b.u32(at + 4)?, b.u16(at + 8)?);
    Some(hyphens(&text, &[8, 8, 4, 12]))
}
