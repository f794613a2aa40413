//! ISO 9660 (ECMA-119, clause 8), with Joliet and El Torito, and its predecessor High Sierra.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

/// First volume descriptor.
const START: u64 = 32768;
const SECTOR: u64 = 2048;
const LENGTH: usize = 2048;
/// Most descriptors that are looked at.
const DESCRIPTORS: u64 = 16;
/// Fields of text and their names in libblkid: place and length in a descriptor, the same in High Sierra.
const TEXTS: [(&str, usize, usize, usize); 5] = [
    ("SYSTEM_ID", 8, 8, 32),
    ("VOLUME_SET_ID", 190, 206, 128),
    ("PUBLISHER_ID", 318, 334, 128),
    ("DATA_PREPARER_ID", 446, 462, 128),
    ("APPLICATION_ID", 574, 590, 128),
];

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(first) = reader.get(START, LENGTH)? else { return Ok(None) };
    // High Sierra puts the descriptor's own number before everything else.
    let sierra = !first.is(1, b"CD001") && first.is(9, b"CDROM");
    if !sierra && !first.is(1, b"CD001") {
        return Ok(None);
    }
    let skip = if sierra { 8 } else { 0 };
    let (mut boot, mut primary, mut joliet) = (None, None, None);
    for n in 0..DESCRIPTORS {
        let Some(sector) = reader.get(START + n * SECTOR, LENGTH)? else { break };
        let d = Bytes(sector.0.get(skip..).unwrap_or_default().to_vec());
        let known = if sierra { d.is(1, b"CDROM") } else { d.is(1, b"CD001") };
        match d.u8(0) {
            // A bridge disc's UDF descriptors stand behind.
            _ if !known => break,
            Some(0) if boot.is_none() => boot = Some(d),
            Some(1) if primary.is_none() => primary = Some(d),
            Some(2) if !sierra && joliet.is_none() && is_joliet(&d) => joliet = Some(d),
            Some(255) => break,
            _ => {}
        }
    }
    let Some(primary) = primary else { return Ok(None) };
    Ok(describe(&primary, joliet.as_ref(), boot.as_ref(), sierra))
}

/// Joliet, 3: the escape sequences of UCS-2 levels 1, 2 and 3.
fn is_joliet(d: &Bytes) -> bool {
    [b"%/@", b"%/C", b"%/E"].iter().any(|escape| d.is(88, *escape))
}

fn describe(
    primary: &Bytes,
    joliet: Option<&Bytes>,
    boot: Option<&Bytes>,
    sierra: bool,
) -> Option<SignatureReport> {
    let block = u64::from(primary.u16(128)?);
    if block == 0 {
        return None;
    }
    // The numbers stand in both byte orders.
    let agrees = primary.be16(130).map(u64::from) == Some(block) && primary.be32(84) == primary.u32(80);
    let proof = if agrees { Proof::Fields } else { Proof::Magic };
    let (modified, created) = if sierra { (798, 782) } else { (830, 813) };
    let mut found = SignatureReport {
        label: text(primary, joliet, 40, 32).filter(|label| !label.is_empty()),
        uuid: date(primary, modified, sierra).or_else(|| date(primary, created, sierra)),
        version: match (joliet, sierra) {
            (Some(_), _) => Some("Joliet Extension".into()),
            (_, true) => Some("High Sierra".into()),
            _ => None,
        },
        size: primary.u32(80).map(|blocks| u64::from(blocks) * block),
        block_size: Some(block),
        ..signature("iso9660", "filesystem", START + if sierra { 9 } else { 1 }, proof)
    };
    for (name, iso, old, length) in TEXTS {
        let at = if sierra { old } else { iso };
        // An underscore says that the text is in a file.
        let in_file = |d: &Bytes| d.u8(at) == Some(b'_') || d.is(at, &[0, b'_']);
        let files = matches!(at, 318..) && (in_file(primary) && joliet.is_none_or(in_file));
        if let Some(text) = text(primary, joliet, at, length).filter(|t| !t.trim().is_empty() && !files) {
            found.more.insert(name.into(), text.trim().into());
        }
    }
    if let Some(system) = boot.and_then(|b| b.text(7, 32)) {
        found.more.insert("BOOT_SYSTEM_ID".into(), system.trim().into());
    }
    Some(found)
}

/// A date is sixteen digits (8.4.26.1); all zero, with an offset of zero, it was not set.
fn date(d: &Bytes, at: usize, sierra: bool) -> Option<String> {
    let digits = d.slice(at, 16)?;
    let offset = if sierra { 0 } else { d.u8(at + 16)? };
    if digits.iter().all(|c| *c == b'0') && offset == 0 || !digits.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let text = String::from_utf8_lossy(digits);
    Some(crate::disk::source::hyphens(&text, &[4, 2, 2, 2, 2, 2, 2]))
}

/// A text of both descriptors. Joliet's has half as many characters, and all of Unicode; the primary
/// one's is longer, in capitals and with `_` for what it cannot say. Where one is a form of the other, the whole is
/// put together.
fn text(primary: &Bytes, joliet: Option<&Bytes>, at: usize, length: usize) -> Option<String> {
    let plain = primary.slice(at, length)?;
    let Some(wide) = joliet.and_then(|j| j.slice(at, length)) else {
        return primary.text(at, length);
    };
    let units: Vec<u16> =
        wide.chunks_exact(2).filter_map(|p| p.try_into().ok().map(u16::from_be_bytes)).collect();
    let merged = merge(&units, plain).unwrap_or(units);
    let end = merged.iter().position(|u| *u == 0).unwrap_or(merged.len());
    let text = String::from_utf16_lossy(merged.get(..end)?).trim_end().to_string();
    (!text.is_empty()).then_some(text)
}

fn merge(wide: &[u16], plain: &[u8]) -> Option<Vec<u16>> {
    let mut out = Vec::with_capacity(plain.len());
    let mut units = wide.iter().copied().peekable();
    let mut letters = plain.iter().copied();
    while let Some(unit) = units.peek().copied() {
        let Some(letter) = letters.next() else { break };
        units.next();
        let mut unit = unit;
        // A surrogate pair is one letter there.
        if (0xd800..0xdc00).contains(&unit)
            && let Some(low) = units.next_if(|u| (0xdc00..0xe000).contains(u))
        {
            out.push(unit);
            if letter == b'_' {
                out.push(low);
                continue;
            }
            unit = low;
        }
        let ascii = u8::try_from(unit).ok();
        match (letter, ascii) {
            (b'_', _) => out.push(unit),
            (_, Some(b'_')) => out.push(u16::from(letter)),
            (_, Some(same)) if same.eq_ignore_ascii_case(&letter) => {
                out.push(if letter.is_ascii_uppercase() { unit } else { u16::from(letter) });
            }
            _ => return None,
        }
    }
    out.extend(letters.map(u16::from));
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(wide: &str, plain: &[u8]) -> Option<String> {
        merge(&wide.encode_utf16().collect::<Vec<_>>(), plain).map(|u| String::from_utf16(&u).unwrap())
    }

    #[test]
    fn two_forms_of_a_label_make_the_whole() {
        assert_eq!(merged("Na\u{ef}ve", b"NA_VE AND MORE").as_deref(), Some("Na\u{ef}ve AND MORE"));
        assert_eq!(merged("a_b", b"A-B").as_deref(), Some("a-b"));
        assert_eq!(merged("Label", b"OTHER"), None);
        assert_eq!(merged("x\u{1f600}", b"X_").as_deref(), Some("x\u{1f600}"));
    }
}
