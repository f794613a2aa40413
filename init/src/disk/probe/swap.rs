//! Linux swap (include/linux/swap.h, `union swap_header`) and what a hibernation leaves in its place
//! (kernel/power/swap.c; uswsusp; TuxOnIce).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader};

/// The last ten bytes of the first page, and what they mean.
const MAGICS: &[(&[u8], &str, &str)] = &[
    (b"SWAPSPACE2", "swap", "1"),
    (b"SWAP-SPACE", "swap", "0"),
    (b"S1SUSPEND", "swsuspend", "s1suspend"),
    (b"S2SUSPEND", "swsuspend", "s2suspend"),
    (b"ULSUSPEND", "swsuspend", "ulsuspend"),
    (b"LINHIB0001", "swsuspend", "linhib0001"),
];
/// TuxOnIce writes its own into the first bytes and leaves the rest as it was.
const TUXONICE: &[u8] = b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c";
/// mkswap makes no less than ten pages.
const PAGES: u64 = 10;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    if reader.size() < PAGES * 4096 {
        return Ok(None);
    }
    let tuxonice = reader.get(0, 8)?.is_some_and(|b| b.is(0, TUXONICE));
    // The page size is that of the machine which made it, not of this one.
    for page in [4096u64, 8192, 16384, 32768, 65536] {
        let Some(magic) = reader.get(page - 10, 10)? else { break };
        let Some((_, kind, version)) = MAGICS.iter().find(|(m, ..)| magic.is(0, m)) else { continue };
        let Some(header) = reader.get(1024, 512)? else { break };
        let (kind, version) = if tuxonice { ("swsuspend", "tuxonice") } else { (*kind, *version) };
        return Ok(parse(&header, page, kind, version));
    }
    Ok(tuxonice.then(|| hibernated(signature("swsuspend", "other", 0, Proof::Magic), "tuxonice")))
}

fn hibernated(mut found: SignatureReport, version: &str) -> SignatureReport {
    found.version = Some(version.into());
    found.state = Some("hibernated".into());
    found
        .notes
        .push("a hibernated system is kept here: its file systems are in use, do not write to them".into());
    found
}

fn parse(header: &Bytes, page: u64, kind: &str, version: &str) -> Option<SignatureReport> {
    let order = if header.u32(0)? == 1 { Endian::Little } else { Endian::Big };
    let fields = version != "0" && header.u32_in(0, order)? == 1;
    let last_page = header.u32_in(4, order)?;
    if version == "1" && (!fields || last_page == 0) {
        return None;
    }
    // A version-0 header is a bitmap; so may be what stands where a later one has its padding.
    let named = version != "0" && header.u64(172)? == 0;
    let mut found = SignatureReport {
        label: if named { header.text(28, 16) } else { None },
        uuid: if named { header.uuid(12) } else { None },
        version: Some(version.into()),
        size: fields.then(|| (u64::from(last_page) + 1) * page),
        block_size: Some(page),
        ..signature(kind, "other", page - 10, if fields { Proof::Fields } else { Proof::Magic })
    };
    if order == Endian::Big && fields {
        found.more.insert("ENDIANNESS".into(), "BIG".into());
    }
    Some(if kind == "swsuspend" { hibernated(found, version) } else { found })
}
