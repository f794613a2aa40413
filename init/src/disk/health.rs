//! What a disk says of its own health, as one word with its reasons: pure judgements of log pages, and the
//! few commands that fetch them.

use std::fs::File;
use std::io;
use std::time::Duration;

use rescue_schema::report::HealthReport;

use super::source::Bytes;
use super::tree::Protocol;
use crate::sys::smart;

/// What one command may take. The caller has a deadline of its own: a disk whose error handling has begun
/// holds a command for longer than it was given.
const LIMIT: Duration = Duration::from_millis(1500);
/// Part of its rated life after which a disk counts as worn, in per cent.
const WORN: u32 = 90;
/// Degrees Celsius; no maker rates a disk for more than 70.
const HOT: i32 = 70;
const KELVIN: i32 = 273;

const GOOD: &str = "good";
const WEARING: &str = "worn";
const SUSPECT: &str = "suspect";
const FAILING: &str = "failing";
const UNKNOWN: &str = "unknown";

/// A word that only ever gets worse.
#[derive(Default)]
struct Judgement(HealthReport);

impl Judgement {
    fn say(&mut self, word: &str, why: impl Into<String>) {
        let rank = |word: &str| [GOOD, WEARING, SUSPECT, FAILING].iter().position(|w| *w == word);
        if rank(word) > rank(&self.0.word) {
            self.0.word = word.into();
        }
        self.0.why.push(why.into());
    }

    fn done(mut self) -> HealthReport {
        if self.0.temperature.is_some_and(|t| t >= HOT) {
            let t = self.0.temperature.unwrap_or(0);
            self.say(SUSPECT, format!("{t} °C"));
        }
        if let Some(used) = self.0.used.filter(|used| *used >= WORN) {
            self.say(WEARING, format!("{used} % of its rated life are used"));
        }
        if self.0.word.is_empty() {
            self.0.word = GOOD.into();
        }
        self.0
    }
}

/// Nothing could be learnt, and why.
pub fn unknown(why: impl Into<String>) -> HealthReport {
    HealthReport { word: UNKNOWN.into(), why: vec![why.into()], ..HealthReport::default() }
}

/// Asks a disk. May take as long as the disk likes: call it where it can be left behind.
pub fn ask(disk: &File, protocol: Protocol) -> HealthReport {
    let answer = match protocol {
        Protocol::Nvme => ask_nvme(disk),
        Protocol::Ata => ask_ata(disk),
        Protocol::Scsi => ask_scsi(disk),
    };
    answer.unwrap_or_else(|error| unknown(format!("the disk does not say: {error}")))
}

fn ask_nvme(disk: &File) -> io::Result<HealthReport> {
    let mut page = vec![0; 512];
    smart::nvme_log(disk, 2, &mut page, LIMIT)?;
    nvme(&Bytes(page)).ok_or_else(|| io::Error::other("a short log page"))
}

/// SMART / Health Information (NVM Express 2.0, figure 207).
fn nvme(page: &Bytes) -> Option<HealthReport> {
    let mut judged = Judgement::default();
    let warning = page.u8(0)?;
    let (spare, threshold) = (page.u8(3)?, page.u8(4)?);
    for (bit, word, why) in [
        (0, FAILING, format!("spare blocks are down to {spare} %, below {threshold} %")),
        (1, SUSPECT, "the temperature is outside of its limits".into()),
        (2, FAILING, "reliability is degraded by media or internal errors".into()),
        (3, FAILING, "it has made itself read-only".into()),
        (4, SUSPECT, "the backup of its volatile memory has failed".into()),
        (5, SUSPECT, "its persistent memory region is unreliable".into()),
    ] {
        if warning >> bit & 1 == 1 {
            judged.say(word, why);
        }
    }
    // Counters of 128 bits, of which no disk will ever fill 64.
    let media = page.u64(160)?;
    if media > 0 {
        judged.say(SUSPECT, format!("{media} media errors"));
    }
    let kelvin = i32::from(page.u16(1)?);
    judged.0.temperature = (kelvin > 0).then_some(kelvin - KELVIN);
    judged.0.used = page.u8(5).map(u32::from);
    judged.0.hours = page.u64(128);
    Some(judged.done())
}

/// ATA PASS-THROUGH (16) of SAT-4, section 12.2.2, with a command of SMART (ACS-3, 7.48).
fn pass_through(feature: u8, data: bool) -> [u8; 16] {
    // PIO data-in, a block of data by the sector count; or no data, and the registers given back.
    let (protocol, flags) = if data { (4 << 1, 0x0e) } else { (3 << 1, 0x20) };
    [0x85, protocol, flags, 0, feature, 0, u8::from(data), 0, 0, 0, 0x4f, 0, 0xc2, 0, 0xb0, 0]
}

fn ask_ata(disk: &File) -> io::Result<HealthReport> {
    let status = smart::scsi(disk, &pass_through(0xda, false), &mut [], LIMIT)?;
    let failing = returned(&Bytes(status.sense));
    let mut page = vec![0; 512];
    let data = smart::scsi(disk, &pass_through(0xd0, true), &mut page, LIMIT)?;
    let page = Bytes(page);
    let whole = data.status == 0 && page.0.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) == 0;
    match (failing, whole) {
        (None, false) => Ok(unknown("SMART is off, or the disk has none")),
        (failing, whole) => Ok(ata(failing == Some(true), if whole { Some(&page) } else { None })),
    }
}

/// Whether the registers that SMART RETURN STATUS left say that a threshold was passed; `None` where they
/// were not given back. Descriptor 0x09 of the sense data (SAT-4, 12.2.2.6).
fn returned(sense: &Bytes) -> Option<bool> {
    let pair = if sense.u8(0)? & 0x7f == 0x72 && sense.u8(8)? == 0x09 {
        (sense.u8(17)?, sense.u8(19)?)
    } else {
        return None;
    };
    match pair {
        (0x4f, 0xc2) => Some(false),
        (0xf4, 0x2c) => Some(true),
        _ => None,
    }
}

/// SMART attributes. Their meaning is no standard: those are judged whose number means the same with every
/// maker that is met.
fn ata(failing: bool, page: Option<&Bytes>) -> HealthReport {
    let mut judged = Judgement::default();
    if failing {
        judged.say(FAILING, "SMART predicts that it fails");
    }
    for index in 0..30 {
        let at = 2 + 12 * index;
        let Some((id, value)) = page.and_then(|p| Some((p.u8(at)?, p.u8(at + 3)?))) else { break };
        let raw =
            page.and_then(|p| Some(u64::from(p.u32(at + 5)?) | u64::from(p.u16(at + 9)?) << 32)).unwrap_or(0);
        let low = raw & 0xffff_ffff;
        match id {
            5 if low > 0 => judged.say(SUSPECT, format!("{low} reallocated sectors")),
            10 if low > 0 => judged.say(SUSPECT, format!("{low} retries to spin up")),
            184 if low > 0 => judged.say(SUSPECT, format!("{low} end-to-end errors")),
            187 if raw & 0xffff > 0 => {
                judged.say(SUSPECT, format!("{} errors that were not corrected", raw & 0xffff))
            }
            197 if low > 0 => judged.say(SUSPECT, format!("{low} sectors wait to be reallocated")),
            198 if low > 0 => judged.say(SUSPECT, format!("{low} sectors cannot be read")),
            9 => judged.0.hours = Some(low),
            190 | 194 => {
                let degrees = i32::try_from(raw & 0xff).unwrap_or(0);
                if (1..=120).contains(&degrees) {
                    judged.0.temperature = Some(degrees);
                }
            }
            // Counts down from 100: wear levelling, life left, media wearout.
            177 | 202 | 231 | 233 if (1..=100).contains(&value) && judged.0.used.is_none() => {
                judged.0.used = Some(100 - u32::from(value));
            }
            _ => {}
        }
    }
    judged.done()
}

/// LOG SENSE (SPC-4, 6.6) of the current values of a page.
fn log_sense(disk: &File, page: u8) -> io::Result<Option<Bytes>> {
    const LENGTH: u16 = 512;
    let [high, low] = LENGTH.to_be_bytes();
    let command = [0x4d, 0, 0x40 | page, 0, 0, 0, 0, high, low, 0];
    let mut data = vec![0; usize::from(LENGTH)];
    let reply = smart::scsi(disk, &command, &mut data, LIMIT)?;
    data.truncate(reply.length);
    let data = Bytes(data);
    Ok((reply.status == 0 && data.u8(0).is_some_and(|own| own & 0x3f == page)).then_some(data))
}

fn ask_scsi(disk: &File) -> io::Result<HealthReport> {
    let exceptions = log_sense(disk, 0x2f)?;
    let endurance = log_sense(disk, 0x11)?;
    let reads = log_sense(disk, 0x03)?;
    let scan = log_sense(disk, 0x15)?;
    if exceptions.is_none() && endurance.is_none() && reads.is_none() {
        return Ok(unknown("it keeps no log of its health"));
    }
    Ok(scsi(exceptions.as_ref(), endurance.as_ref(), reads.as_ref(), scan.as_ref()))
}

/// The value of a parameter of a log page: after a header of four bytes, each has a code, a byte of flags
/// and its length.
fn parameter(page: &Bytes, wanted: u16) -> Option<Bytes> {
    let end = usize::from(page.be16(2)?).saturating_add(4).min(page.0.len());
    let mut at = 4;
    while at + 4 <= end {
        let length = usize::from(page.u8(at + 3)?);
        if page.be16(at)? == wanted {
            return page.slice(at + 4, length).map(|value| Bytes(value.to_vec()));
        }
        at += 4 + length;
    }
    None
}

/// Informational exceptions, endurance of flash, read errors, background scan (SPC-4, SBC-3).
fn scsi(
    exceptions: Option<&Bytes>,
    endurance: Option<&Bytes>,
    reads: Option<&Bytes>,
    scan: Option<&Bytes>,
) -> HealthReport {
    let mut judged = Judgement::default();
    if let Some(exception) = exceptions.and_then(|page| parameter(page, 0)) {
        match (exception.u8(0), exception.u8(1)) {
            (Some(0x5d), Some(code)) => {
                judged.say(FAILING, format!("it predicts that it fails (5Dh, {code:02X}h)"))
            }
            (Some(0x0b), Some(1)) => judged.say(SUSPECT, "it is too hot"),
            (Some(0x0b), Some(code)) => judged.say(SUSPECT, format!("it warns (0Bh, {code:02X}h)")),
            _ => {}
        }
        judged.0.temperature = exception.u8(2).filter(|t| (1..=120).contains(t)).map(i32::from);
    }
    if let Some(used) = endurance.and_then(|page| parameter(page, 1)) {
        judged.0.used = used.u8(3).map(u32::from);
    }
    if let Some(lost) = reads.and_then(|page| parameter(page, 6)) {
        let lost = lost.0.iter().fold(0u64, |n, b| n.wrapping_shl(8) | u64::from(*b));
        if lost > 0 {
            judged.say(SUSPECT, format!("{lost} reads that were not corrected"));
        }
    }
    if let Some(status) = scan.and_then(|page| parameter(page, 0)) {
        judged.0.hours = status.be32(0).map(|minutes| u64::from(minutes) / 60);
    }
    judged.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvme_says_what_is_critical() {
        let mut page = vec![0u8; 512];
        page[1..3].copy_from_slice(&(273u16 + 41).to_le_bytes());
        (page[3], page[4], page[5]) = (100, 10, 3);
        page[128..136].copy_from_slice(&1234u64.to_le_bytes());
        let good = nvme(&Bytes(page.clone())).unwrap();
        assert_eq!(
            (good.word.as_str(), good.temperature, good.hours, good.used),
            (GOOD, Some(41), Some(1234), Some(3))
        );
        page[5] = 104;
        assert_eq!(nvme(&Bytes(page.clone())).unwrap().word, WEARING);
        page[160] = 2;
        assert_eq!(nvme(&Bytes(page.clone())).unwrap().word, SUSPECT);
        (page[0], page[3]) = (0b1001, 4);
        let bad = nvme(&Bytes(page)).unwrap();
        assert_eq!(bad.word, FAILING);
        assert_eq!(bad.why[0], "spare blocks are down to 4 %, below 10 %");
        assert!(bad.why.contains(&"it has made itself read-only".to_string()));
        assert!(nvme(&Bytes(vec![0; 100])).is_none());
    }

    fn attributes(list: &[(u8, u8, u64)]) -> Bytes {
        let mut page = vec![0u8; 512];
        for (index, (id, value, raw)) in list.iter().enumerate() {
            let at = 2 + 12 * index;
            (page[at], page[at + 3]) = (*id, *value);
            page[at + 5..at + 11].copy_from_slice(&raw.to_le_bytes()[..6]);
        }
        Bytes(page)
    }

    #[test]
    fn ata_attributes_are_judged() {
        // As smartctl shows them: 194 holds minimum and maximum above the value, 187 other counters.
        let page = attributes(&[
            (9, 60, 34_567),
            (194, 69, 0x0029_0013_001f),
            (187, 100, 0),
            (177, 96, 80),
            (5, 100, 0),
        ]);
        let good = ata(false, Some(&page));
        assert_eq!(
            (good.word.as_str(), good.temperature, good.hours, good.used),
            (GOOD, Some(31), Some(34_567), Some(4))
        );
        let page = attributes(&[(5, 90, 12), (197, 100, 8), (231, 5, 0)]);
        let bad = ata(false, Some(&page));
        assert_eq!(bad.word, SUSPECT);
        assert_eq!(
            bad.why,
            ["12 reallocated sectors", "8 sectors wait to be reallocated", "95 % of its rated life are used"]
        );
        assert_eq!(ata(true, Some(&page)).word, FAILING);
        assert_eq!(ata(true, None).why, ["SMART predicts that it fails"]);
    }

    #[test]
    fn registers_come_back_in_a_descriptor() {
        let mut sense = vec![0u8; 22];
        (sense[0], sense[7], sense[8], sense[9]) = (0x72, 14, 0x09, 12);
        (sense[17], sense[19]) = (0x4f, 0xc2);
        assert_eq!(returned(&Bytes(sense.clone())), Some(false));
        (sense[17], sense[19]) = (0xf4, 0x2c);
        assert_eq!(returned(&Bytes(sense)), Some(true));
        assert_eq!(returned(&Bytes(vec![])), None);
    }

    #[test]
    fn scsi_pages_are_walked_and_bounded() {
        let page = Bytes(vec![0x2f, 0, 0, 12, 0, 0, 3, 8, 0x5d, 0x10, 44, 0, 0, 0, 0, 0]);
        let bad = scsi(Some(&page), None, None, None);
        assert_eq!((bad.word.as_str(), bad.temperature), (FAILING, Some(44)));
        assert_eq!(bad.why, ["it predicts that it fails (5Dh, 10h)"]);
        let reads = Bytes(vec![3, 0, 0, 14, 0, 0, 2, 4, 0, 0, 0, 9, 0, 6, 2, 2, 1, 0]);
        assert_eq!(scsi(None, None, Some(&reads), None).why, ["256 reads that were not corrected"]);
        for length in 0..reads.0.len() {
            let _ = scsi(None, None, Some(&Bytes(reads.0[..length].to_vec())), None);
        }
        assert_eq!(scsi(Some(&Bytes(vec![0x2f, 0, 0xff, 0xff, 0, 0])), None, None, None).word, GOOD);
    }
}
