//! Field by field with `blkid -p`. Where the two differ on purpose, the reason stands in a table, and the
//! table has no row that is not needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use init::disk::probe;
use init::disk::source::Reader;
use rescue_schema::report::{ProbeReport, ProbeResult};

use super::Image;
use super::images::{self, Recipe};
use super::recipes::RECIPES;

/// What is compared. Newer versions of blkid say more (sizes, byte orders), older ones less.
const FIELDS: &[&str] = &[
    "TYPE",
    "USAGE",
    "LABEL",
    "UUID",
    "VERSION",
    "BLOCK_SIZE",
    "SEC_TYPE",
    "LABEL_FATBOOT",
    "UUID_SUB",
    "LOGUUID",
    "EXT_JOURNAL",
    "SYSTEM_ID",
    "VOLUME_ID",
    "VOLUME_SET_ID",
    "LOGICAL_VOLUME_ID",
    "PUBLISHER_ID",
    "DATA_PREPARER_ID",
    "APPLICATION_ID",
    "BOOT_SYSTEM_ID",
];

const LATER: &str = "blkid says it from 2.39 on";

/// Type, field, and why ours says what blkid does not.
const ON_PURPOSE: &[(&str, &str, &str)] = &[
    ("xfs", "VERSION", "4 or 5 decides which kernels mount it"),
    ("ntfs", "VERSION", "from $Volume: Windows NT 4 wrote 1.2"),
    ("swap", "BLOCK_SIZE", "the page size: a kernel takes its own alone"),
    ("swsuspend", "BLOCK_SIZE", "the page size: a kernel takes its own alone"),
    ("squashfs", "BLOCK_SIZE", LATER),
    ("cramfs", "VERSION", LATER),
];

fn ours(report: &ProbeReport) -> BTreeMap<String, String> {
    let first = &report.signatures[0];
    let mut fields = first.more.clone();
    fields.insert("USAGE".into(), first.usage.clone());
    for (name, value) in [
        ("TYPE", &report.kind),
        ("LABEL", &report.label),
        ("UUID", &report.uuid),
        ("VERSION", &report.version),
        ("BLOCK_SIZE", &report.block_size.map(|size| size.to_string())),
    ] {
        fields.extend(value.clone().map(|value| (name.to_string(), value)));
    }
    fields
}

/// `blkid -p -o export` shows bytes above 127 as `M-` and control bytes as `^` before a letter, and marks what
/// a shell would take for its own with a backslash, but no letter behind a `^`.
fn plain(value: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'M', [b'-', b'^', c, after @ ..]) => (0x80 | (c ^ 0x40), after),
            (b'M', [b'-', b'\\', c, after @ ..] | [b'-', c, after @ ..]) => (0x80 | c, after),
            (b'\\', [c, after @ ..]) => (*c, after),
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn blkid(path: &Path) -> (Option<i32>, BTreeMap<String, String>) {
    let mut command = Command::new("/usr/sbin/blkid");
    let output = command.args(["-p", "-o", "export"]).arg(path).env("LC_ALL", "C.UTF-8").output().unwrap();
    let fields = output.stdout.split(|b| *b == b'\n').filter_map(|line| {
        let at = line.iter().position(|b| *b == b'=')?;
        Some((String::from_utf8_lossy(&line[..at]).into_owned(), plain(&line[at + 1..])))
    });
    (output.status.code(), fields.collect())
}

struct Row {
    name: &'static str,
    kind: String,
    same: usize,
    on_purpose: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

fn compare(recipe: &'static Recipe, used: &mut BTreeSet<(&'static str, &'static str)>) -> Row {
    let made = std::panic::catch_unwind(|| images::make(recipe));
    let report = made.as_ref().map(|path| Image::open(path).look()).unwrap_or_default();
    let mut row = Row {
        name: recipe.name,
        kind: report.kind.clone().unwrap_or_default(),
        same: 0,
        on_purpose: BTreeSet::new(),
        wrong: Vec::new(),
    };
    let Ok(path) = made else {
        row.wrong.push("it could not be made".into());
        return row;
    };
    if report.result != ProbeResult::Found {
        row.wrong.push(format!("{:?}: {:?}", report.result, report.notes));
        return row;
    }
    let (status, theirs) = blkid(&path);
    if status != Some(0) {
        row.wrong.push(format!("blkid ends with {status:?}"));
    }
    let ours = ours(&report);
    for field in FIELDS {
        let (a, b) = (ours.get(*field), theirs.get(*field));
        if a == b {
            row.same += usize::from(a.is_some());
            continue;
        }
        match ON_PURPOSE.iter().find(|(kind, name, _)| row.kind == *kind && name == field) {
            // More than blkid says, never something else.
            Some((kind, name, _)) if a.is_some() && b.is_none() => {
                used.insert((kind, name));
                row.on_purpose.insert(name);
            }
            _ => row.wrong.push(format!("{field}: {a:?}, blkid {b:?}")),
        }
    }
    if report.state.as_deref() != recipe.state {
        row.wrong.push(format!("state {:?}, made {:?}; {:?}", report.state, recipe.state, report.notes));
    }
    let size = std::fs::metadata(&path).unwrap().len();
    if report.signatures[0].size.is_some_and(|own| own > size || own == 0) {
        row.wrong.push(format!("it says to have {:?} bytes of {size}", report.signatures[0].size));
    }
    row
}

#[test]
fn every_image_is_what_blkid_says() {
    let mut used = BTreeSet::new();
    let rows: Vec<Row> = RECIPES.iter().map(|recipe| compare(recipe, &mut used)).collect();
    println!("{:<22} {:<17} {:>4}  more than blkid, or wrong", "image", "type", "same");
    for row in &rows {
        let mut rest: Vec<String> = row.on_purpose.iter().map(|f| f.to_lowercase()).collect();
        rest.extend(row.wrong.iter().map(|wrong| format!("WRONG {wrong}")));
        println!("{:<22} {:<17} {:>4}  {}", row.name, row.kind, row.same, rest.join(", "));
    }
    for (kind, field, reason) in ON_PURPOSE {
        println!("{kind} {field}: {reason}");
    }
    let wrong = rows.iter().filter(|row| !row.wrong.is_empty()).count();
    assert_eq!(wrong, 0, "{wrong} of {} images are not what they should be: see the table", rows.len());
    let idle = ON_PURPOSE.iter().filter(|(kind, field, _)| !used.contains(&(kind, field)));
    let idle: Vec<_> = idle.filter(|(.., reason)| *reason != LATER).collect();
    assert!(idle.is_empty(), "differences that are none: {idle:?}");
}

/// What a device costs: a dying one takes seconds over each read.
#[test]
fn few_bytes_are_read_of_a_device() {
    let mut all = Vec::new();
    for recipe in RECIPES {
        let image = Image::open(&images::make(recipe));
        let reader = Reader::new(&image, 512);
        probe::device(&reader);
        all.push((reader.spent(), recipe.name));
    }
    all.sort_unstable();
    let sum: u64 = all.iter().map(|(bytes, _)| bytes).sum();
    let mean = sum / all.len() as u64;
    println!("{mean} bytes in the mean, most for {:?}", &all[all.len() - 5..]);
    // `blkid -p` reads 360 KiB. Most takes an XFS whose log is to be walked back over a whole record.
    assert!(mean <= 168 << 10, "{mean}");
    assert!(all.iter().all(|(bytes, _)| *bytes <= 768 << 10), "{:?}", all.last());
}

#[test]
fn a_name_in_the_table_of_formats_is_there_once() {
    let names: Vec<&str> = probe::formats().map(|format| format.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}
