//! Linux swap (include/linux/swap.h, `union swap_header`) and what a hibernation leaves in its place
//! (kernel/power/swap.c).

use rescue_schema::report::{Proof, SignatureReport};

use crate::disk::source::{Answer, Bytes, Reader};

/// The last ten bytes of the first page, and what they mean.
const MAGICS: &[(&[u8], &str, Option<&str>)] = &[
    (b"SWAPSPACE2", "swap", None),
    (b"SWAP-SPACE", "swap", Some("0")),
    (b"S1SUSPEND", "swsuspend", Some("s1suspend")),
    (b"S2SUSPEND", "swsuspend", Some("s2suspend")),
    (b"ULSUSPEND", "swsuspend", Some("ulsuspend")),
    (b"LINHIB0001", "swsuspend", Some("linhib0001")),
];

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    // The page size is that of the machine which made it, not of this one.
    for page in [4096u64, 8192, 16384, 32768, 65536] {
        let Some(magic) = reader.get(page - 10, 10)? else { break };
        let Some((_, kind, version)) = MAGICS.iter().find(|(m, ..)| magic.is(0, m)) else { continue };
        let Some(header) = reader.get(1024, 512)? else { break };
        return Ok(parse(&header, page, kind, *version));
    }
    Ok(None)
}

fn parse(header: &Bytes, page: u64, kind: &str, version: Option<&str>) -> Option<SignatureReport> {
    let number = header.u32(0)?;
    let little = number == 1;
    // A version-0 header is a bitmap and has no fields; a version-1 one says 1 in one of the two orders.
    let fields = version != Some("0") && (little || number.swap_bytes() == 1);
    if kind == "swap" && version.is_none() && !fields {
        return None;
    }
    let last_page = if little { header.u32(4)? } else { header.be32(4)? };
    Some(SignatureReport {
        kind: kind.into(),
        usage: "other".into(),
        offset: page - 10,
        label: if fields { header.text(28, 16) } else { None },
        uuid: if fields { header.uuid(12) } else { None },
        version: Some(version.unwrap_or("1").into()),
        state: (kind == "swsuspend").then(|| "hibernated".into()),
        size: fields.then(|| (u64::from(last_page) + 1) * page),
        block_size: Some(page),
        proof: Proof::Fields,
        notes: if kind == "swsuspend" {
            vec!["a hibernated system is kept here: its file systems are in use, do not write to them".into()]
        } else {
            Vec::new()
        },
        ..SignatureReport::default()
    })
}
