//! Which programs and libraries are packed in the image until somebody calls them: a rescue calls few of the
//! programs that it brings, and memory is short. Pure. `init/src/commands/packed.rs` unpacks them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use rescue_schema::paths;

use crate::additions::HostFile;
use crate::deb::resolve_link;
use crate::image::{Image, Node};
use crate::observe::{Content, Facts, FileFact, PROGRAM_FOLDERS};
use crate::spec::Spec;
use crate::taken;

/// Libraries that no program need name: glibc opens the first by itself when a thread is ended (pthread_cancel(3)),
/// and what an engineer brings from elsewhere finds the second.
const KEPT: [&str; 2] = ["libgcc_s.so.1", "libm.so.6"];
/// Most links on the way to a library.
const MAX_LINKS: usize = 40;

/// A program or library of the image.
#[derive(Debug, Default)]
struct Binary {
    bytes: u64,
    /// Paths of its libraries and its loader in the image.
    needs: Vec<String>,
    /// It is called by its name, and may be packed.
    program: bool,
}

/// Each program that is packed with the packed ones among its libraries.
type Packed<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Packs programs, and leaves a link to the rescue in the place of each; and the libraries that they alone need.
///
/// # Errors
/// When something stands already where one is kept.
pub(crate) fn pack(image: &mut Image, spec: &Spec, facts: &Facts, above: u64) -> Result<()> {
    let binaries = binaries(image, spec, facts);
    let mut kept: BTreeSet<&str> = facts.programs.keys().map(String::as_str).collect();
    let of_name = |path: &str, name: &str| path.rsplit_once('/').is_some_and(|(_, last)| last == name);
    let by_name = image.entries.keys().filter(|path| KEPT.iter().any(|name| of_name(path, name)));
    let by_name: Vec<String> = by_name.filter_map(|path| follow(image, path)).collect();
    kept.extend(by_name.iter().map(String::as_str));
    // What a program that is laid over the image needs, nobody has looked at.
    let foreign = facts
        .overlay
        .values()
        .any(|file| matches!(file, HostFile::Regular { mode, .. } if mode & 0o111 != 0));
    let packed = packed(&binaries, &kept, above, !foreign);
    let libraries: BTreeSet<&str> = packed.values().flatten().copied().collect();
    for path in packed.keys().chain(&libraries) {
        let Some(entry) = image.entries.remove(*path) else { continue };
        let Node::File(content) = entry.node else { continue };
        if packed.contains_key(path) {
            image.put(path, 0o777, Node::Symlink("/init".into()), &entry.origin)?;
        }
        image.pack(path, content, &entry.origin)?;
    }
    let absolute = |path: &&str| format!("/{path}");
    let lists: BTreeMap<String, Vec<String>> = packed
        .iter()
        .filter(|(_, libraries)| !libraries.is_empty())
        .map(|(program, libraries)| (absolute(program), libraries.iter().map(absolute).collect()))
        .collect();
    match lists.is_empty() {
        true => Ok(()),
        false => {
            image.text(paths::PACKED_LIBRARIES.trim_start_matches('/'), serde_json::to_string(&lists)? + "\n")
        }
    }
}

/// What the image has of packages that is an ELF.
fn binaries(image: &Image, spec: &Spec, facts: &Facts) -> BTreeMap<String, Binary> {
    let is_plain = |name: &str| spec.packages().any(|tool| tool.plain && tool.name.text == name);
    let mut binaries = BTreeMap::new();
    for (path, entry) in &image.entries {
        let Node::File(Content::Packed { package, path: from }) = &entry.node else { continue };
        let fact = facts.packages.get(package).and_then(|p| p.files.get(from));
        let Some(FileFact::Regular { bytes, needs: Some(needs), .. }) = fact else { continue };
        let loader = needs.loader.iter().map(|path| path.trim_start_matches('/').to_string());
        let libraries = needs.libraries.iter();
        let libraries = libraries.filter_map(|name| Some(taken::library(facts, &needs.folders, name)?.1));
        let needs = loader.chain(libraries).filter_map(|path| follow(image, &path)).collect();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let program = PROGRAM_FOLDERS.contains(&folder) && !is_plain(package);
        binaries.insert(path.clone(), Binary { bytes: *bytes, needs, program });
    }
    binaries
}

/// The file that a path of the image leads to.
fn follow(image: &Image, path: &str) -> Option<String> {
    let mut path = path.to_string();
    for _ in 0..MAX_LINKS {
        match &image.entries.get(&path)?.node {
            Node::Symlink(target) => path = resolve_link(&path, target)?,
            _ => return Some(path),
        }
    }
    None
}

/// Which of them are packed: programs of more bytes than `above`, with libraries (if any at all may be) that none but
/// packed programs need; and smaller ones that need such a library.
fn packed<'a>(
    binaries: &'a BTreeMap<String, Binary>,
    kept: &BTreeSet<&str>,
    above: u64,
    libraries: bool,
) -> Packed<'a> {
    let closure = |first: &mut dyn Iterator<Item = &'a str>| {
        let mut all = BTreeSet::new();
        let mut queue: Vec<&str> = first.collect();
        while let Some(path) = queue.pop() {
            if all.insert(path) {
                queue.extend(binaries.get(path).iter().flat_map(|one| &one.needs).map(String::as_str));
            }
        }
        all
    };
    let needed: BTreeSet<&str> = binaries.values().flat_map(|one| &one.needs).map(String::as_str).collect();
    let called = |path: &str, one: &Binary| one.program && !needed.contains(path);
    // What is neither called by its name nor a library is used in a way that nobody here knows.
    let unknown = |path: &str, one: &Binary| !called(path, one) && !needed.contains(path);
    let stays = |(path, one): &(&'a String, &Binary)| kept.contains(path.as_str()) || unknown(path, one);
    let plain = closure(&mut binaries.iter().filter(stays).map(|(path, _)| path.as_str()));
    let may_be_packed = |path: &&str| {
        let is_large = binaries.get(*path).is_some_and(|one| !one.program && one.bytes > above);
        libraries && is_large && !plain.contains(path)
    };
    let mut packed = Packed::new();
    for (path, one) in binaries.iter().filter(|(path, one)| called(path, one)) {
        let mut libraries = closure(&mut std::iter::once(path.as_str()));
        libraries.retain(|path| may_be_packed(path));
        if one.bytes > above || !libraries.is_empty() {
            packed.insert(path.as_str(), libraries);
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_packed_that_packed_programs_alone_need() {
        let one = |bytes, needs: &[&str], program| {
            let needs = needs.iter().map(|path| (*path).into()).collect();
            Binary { bytes, needs, program }
        };
        let binaries: BTreeMap<String, Binary> = [
            ("bin/shell", one(90, &["lib/c", "lib/line"], false)),
            ("lib/plugin", one(90, &["lib/log", "lib/c"], false)),
            ("sbin/large", one(90, &["lib/c", "lib/crypto", "lib/log"], true)),
            ("sbin/tiny", one(5, &["lib/c", "lib/parted"], true)),
            ("sbin/plain", one(5, &["lib/c", "lib/short"], true)),
            ("lib/c", one(90, &[], false)),
            ("lib/line", one(90, &[], false)),
            ("lib/log", one(90, &[], false)),
            ("lib/short", one(5, &[], false)),
            ("lib/crypto", one(90, &["lib/c", "lib/z", "lib/loop"], false)),
            ("lib/loop", one(90, &["lib/crypto"], false)),
            ("lib/z", one(90, &[], false)),
            ("lib/parted", one(90, &["lib/kept"], false)),
            ("lib/kept", one(90, &[], false)),
        ]
        .into_iter()
        .map(|(path, one)| (path.to_string(), one))
        .collect();
        let of = |libraries| packed(&binaries, &BTreeSet::from(["lib/kept"]), 10, libraries);
        assert_eq!(
            of(true),
            BTreeMap::from([
                ("sbin/large", BTreeSet::from(["lib/crypto", "lib/loop", "lib/z"])),
                ("sbin/tiny", BTreeSet::from(["lib/parted"])),
            ])
        );
        assert_eq!(of(false), BTreeMap::from([("sbin/large", BTreeSet::new())]));
    }
}
