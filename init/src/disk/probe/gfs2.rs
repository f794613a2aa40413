//! GFS and GFS2 (include/uapi/linux/gfs2_ondisk.h).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Reader};

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(65536, 272)? else { return Ok(None) };
    // A header of type 1, a superblock.
    if sb.be32(0) != Some(0x0116_1970) || sb.be32(4) != Some(1) {
        return Ok(None);
    }
    let (kind, version) = match (sb.be32(24), sb.be32(28)) {
        (Some(1800..1900), Some(1900..2000)) => ("gfs2", Some("1")),
        (Some(1309), Some(1401)) => ("gfs", None),
        _ => return Ok(None),
    };
    let mut found = SignatureReport {
        label: sb.text(160, 64),
        uuid: sb.uuid(256),
        version: version.map(Into::into),
        block_size: sb.be32(36).filter(|block| block.is_power_of_two()).map(u64::from),
        ..signature(kind, "filesystem", 65536, Proof::Fields)
    };
    if let Some(protocol) = sb.text(96, 64).filter(|p| p != "lock_nolock") {
        found.notes.push(format!("shared by a cluster ({protocol}): other machines may write to it now"));
    }
    Ok(Some(found))
}
