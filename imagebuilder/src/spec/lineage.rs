//! Finding a family's file and those that it inherits from, and what each adds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};

use super::file::{FamilyFile, ProfileFile};
use super::located::{Lines, Word};
use super::{FAMILIES, parse, row};

/// Most families that one may inherit from, itself included; also ends what inherits from itself.
const MAX_LINEAGE: usize = 32;
/// Largest file of a family in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A family and those that it inherits from, the most general first; each once.
///
/// # Errors
/// An unknown name, a file that is wrong, or one that inherits from itself.
pub(super) fn lineage(family: &str) -> Result<Vec<FamilyFile>> {
    let mut all = Vec::new();
    ancestors(family, None, &mut Vec::new(), &mut all)?;
    Ok(all.into_iter().map(|(_, family)| family).collect())
}

fn ancestors(
    family: &str,
    named: Option<&Word>,
    below: &mut Vec<String>,
    all: &mut Vec<(PathBuf, FamilyFile)>,
) -> Result<()> {
    let at = named.map(|word| format!("{}: ", word.at)).unwrap_or_default();
    ensure!(
        !below.iter().any(|name| identity(name) == identity(family)) && below.len() < MAX_LINEAGE,
        "{at}family {family} inherits from itself: {}",
        below.join(" → ")
    );
    let own = open(family).map_err(|error| anyhow!("{at}{error}"))?;
    if all.iter().any(|(other, _)| *other == identity(family)) {
        return Ok(());
    }
    ensure!(all.len() < MAX_LINEAGE, "{at}over {MAX_LINEAGE} families are inherited from");
    below.push(family.to_string());
    for parent in &own.inherits {
        // A path is one beside the file in which it stands.
        let beside = Path::new(family).parent().filter(|_| is_path(&parent.text)).unwrap_or(Path::new(""));
        let plain = parent.text.trim_start_matches("./");
        ancestors(&beside.join(plain).to_string_lossy(), Some(parent), below, all)?;
    }
    below.pop();
    all.push((identity(family), own));
    Ok(())
}

/// What a family is, by whatever path it was named.
fn identity(family: &str) -> PathBuf {
    match is_path(family) {
        true => std::fs::canonicalize(family).unwrap_or_else(|_| family.into()),
        false => family.into(),
    }
}

/// Opens a family's file.
///
/// # Errors
/// An unknown name, or a file that is wrong.
pub(super) fn open(family: &str) -> Result<FamilyFile> {
    let ours = !is_path(family);
    let (file, text) = if !ours {
        let path = Path::new(family);
        let data = std::fs::metadata(path).map_err(|e| anyhow!("opening family {family}: {e}"))?;
        ensure!(data.is_file(), "opening family {family}: not a file");
        ensure!(data.len() <= MAX_FILE, "family {family}: {} bytes; at most {MAX_FILE}", data.len());
        let text = std::fs::read_to_string(path).map_err(|e| anyhow!("reading family {family}: {e}"))?;
        (family.to_string(), text)
    } else {
        let known = || {
            let there = FAMILIES.iter().map(|row| row.0).collect::<Vec<_>>().join(", ");
            anyhow!("unknown family {family:?}; there are: {there}; a file of your own is named by its path")
        };
        let (name, text) = row(FAMILIES, family).ok_or_else(known)?;
        (format!("families/{name}.toml"), text.to_string())
    };
    let mut parsed: FamilyFile = parse(&file, &text)?;
    parsed.place(&Lines::new(&file, &text, ours));
    let name = &parsed.name;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        !name.text.is_empty() && name.text.len() <= 64 && name.text.chars().all(plain),
        "{}: the name of a family is 1 to 64 lower-case letters, digits and hyphens",
        name.at
    );
    Ok(parsed)
}

fn is_path(family: &str) -> bool {
    family.contains('/') || family.ends_with(".toml")
}

/// What a descendant adds to, or says in the place of, what is inherited.
pub(super) fn merge(into: &mut ProfileFile, part: ProfileFile) {
    into.kernel = part.kernel.or(into.kernel.take());
    into.pack_modules_above_kib = part.pack_modules_above_kib.or(into.pack_modules_above_kib);
    into.pack_programs_above_kib = part.pack_programs_above_kib.or(into.pack_programs_above_kib);
    into.pack_level = part.pack_level.or(into.pack_level);
    into.firmware = part.firmware.or(into.firmware);
    into.https = part.https.or(into.https);
    for (list, more) in [
        (&mut into.kernel_config, part.kernel_config),
        (&mut into.toolsets, part.toolsets),
        (&mut into.modules, part.modules),
        (&mut into.modules_if_present, part.modules_if_present),
        (&mut into.modules_without, part.modules_without),
        (&mut into.modules_plain, part.modules_plain),
    ] {
        let mut known: HashMap<String, usize> =
            list.iter().enumerate().map(|(at, word)| (word.text.clone(), at)).collect();
        for word in more {
            match known.get(&word.text).and_then(|at| list.get_mut(*at)) {
                // What the user names as well is the user's word.
                Some(other) if other.ours && !word.ours => *other = word,
                Some(_) => {}
                None => {
                    known.insert(word.text.clone(), list.len());
                    list.push(word);
                }
            }
        }
    }
    into.packages.extend(part.packages);
    for file in part.files {
        into.files.retain(|other| other.path.text != file.path.text);
        into.files.push(file);
    }
    for link in part.links {
        into.links.retain(|other| other.path.text != link.path.text);
        into.links.push(link);
    }
}
