//! The files of a package that an image may take, and what those among them that are programs need.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::{FileFact, PROGRAM_FOLDERS, glob};
use crate::deb::resolve_link;
use crate::elf;
use crate::spec::Word;
use crate::store::{Pack, Packed};

/// What closures need of a package's files; `programs` are those that are wanted, all of them if `None`.
pub(super) fn files_of(
    pack: &Pack,
    programs: Option<&BTreeSet<&str>>,
    globs: &[&Word],
) -> Result<BTreeMap<String, FileFact>> {
    let mut files = BTreeMap::new();
    let globs = globs.iter().map(|word| glob(word)).collect::<Result<Vec<_>>>()?;
    // What a wanted name leads to is wanted.
    let targets = targets(pack, programs);
    for (path, entry) in pack.entries() {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let library = folder.contains("lib") && name.contains(".so");
        let program = PROGRAM_FOLDERS.contains(&folder);
        let target = targets.contains(path);
        let named = globs.iter().any(|glob| glob.is_match(path));
        if !library && !program && !target && !named {
            continue;
        }
        let fact = match entry {
            Packed::Symlink(target) => FileFact::Symlink(target.clone()),
            // Plug-ins in subfolders (gconv's, PAM's) are nobody's DT_NEEDED, so that reading each
            // would only cost time; nor is a program that nobody wants. What a file's glob names is a program as
            // well where it can be executed.
            Packed::File { mode, len, .. } => {
                let wanted = target
                    || (named && mode & 0o111 != 0)
                    || match program {
                        true => programs.is_none_or(|p| p.contains(name)),
                        false => library,
                    };
                if wanted && !folder.ends_with("gconv") {
                    let bytes = pack.read(path)?;
                    let needs = elf::needs(&bytes).with_context(|| path.clone())?;
                    FileFact::Regular { mode: *mode, bytes: *len, needs, script: interpreter(&bytes) }
                } else {
                    FileFact::Regular { mode: *mode, bytes: *len, needs: None, script: None }
                }
            }
        };
        files.insert(path.clone(), fact);
    }
    Ok(files)
}

/// What the links among the wanted programs lead to, wherever in the package that lies.
fn targets(pack: &Pack, programs: Option<&BTreeSet<&str>>) -> BTreeSet<String> {
    let mut targets = BTreeSet::new();
    let wanted = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        PROGRAM_FOLDERS.contains(&folder) && programs.is_none_or(|wanted| wanted.contains(name))
    };
    let mut queue: Vec<String> = pack.entries().keys().filter(|path| wanted(path)).cloned().collect();
    while let Some(path) = queue.pop() {
        let Some(Packed::Symlink(target)) = pack.entries().get(&path) else { continue };
        if let Some(to) = resolve_link(&path, target)
            && targets.insert(to.clone())
        {
            queue.push(to);
        }
    }
    targets
}

/// The interpreter that a script names in its first line (execve(2)): its path, or the name that env(1) looks for.
pub(crate) fn interpreter(bytes: &[u8]) -> Option<String> {
    let line = bytes.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line.get(..255).unwrap_or(line)).ok()?;
    // Blanks and tabs alone: a carriage return is part of the name, so that the kernel does not find it.
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let first = words.next()?;
    match (first.ends_with("/env"), words.next()) {
        (true, Some(name)) if !name.starts_with('-') && !name.contains('=') => Some(name.into()),
        _ => Some(first.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PackWriter;

    #[test]
    fn the_first_line_of_a_script_is_read_as_the_kernel_does() {
        let of = |text: &str| interpreter(text.as_bytes());
        assert_eq!(of("#!/bin/sh\nx"), Some("/bin/sh".into()));
        assert_eq!(of("#! \t/bin/sh -e\n"), Some("/bin/sh".into()));
        assert_eq!(of("#!/bin/sh\r\n"), Some("/bin/sh\r".into()), "no kernel finds that");
        assert_eq!(of("#!/usr/bin/env python3\n"), Some("python3".into()));
        assert_eq!(of("#!/usr/bin/env -S python3 -u\n"), Some("/usr/bin/env".into()));
        assert_eq!((of("#!"), of("#!\n"), of("\u{7f}ELF"), of("")), (None, None, None, None));
    }

    #[test]
    fn what_a_program_leads_to_is_taken_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = PackWriter::create(folder.path()).unwrap();
        for path in ["usr/share/x/real.sh", "usr/share/x/other", "usr/bin/own"] {
            writer.file(path, 0o755, &mut &b"#!/bin/sh\n"[..]).unwrap();
        }
        writer.file("usr/share/x/data", 0o644, &mut &b"#!/bin/sh\n"[..]).unwrap();
        writer.symlink("usr/bin/run", "../share/x/link");
        writer.symlink("usr/share/x/link", "/usr/share/x/real.sh");
        writer.symlink("usr/bin/ring", "ring");
        writer.finish(folder.path()).unwrap();
        let pack = Pack::open(folder.path()).unwrap();
        let files = |programs: &[&str]| {
            let programs = programs.iter().copied().collect();
            files_of(&pack, Some(&programs), &[]).unwrap()
        };
        let taken = files(&["run"]);
        let script = |path: &str| match taken.get(path) {
            Some(FileFact::Regular { script, .. }) => script.clone(),
            _ => None,
        };
        assert_eq!(script("usr/share/x/real.sh"), Some("/bin/sh".into()), "{taken:?}");
        assert!(taken.contains_key("usr/share/x/link") && !taken.contains_key("usr/share/x/other"));
        assert_eq!(script("usr/bin/own"), None, "nobody wants it, so that it is not read");
        assert!(!files(&["own", "ring"]).contains_key("usr/share/x/real.sh"));
        let globs = [&Word::of_option("a", "usr/share/x/*")];
        let taken = files_of(&pack, Some(&BTreeSet::new()), &globs).unwrap();
        let script = |path: &str| match &taken[path] {
            FileFact::Regular { script, .. } => script.clone(),
            FileFact::Symlink(_) => None,
        };
        assert_eq!(script("usr/share/x/other"), Some("/bin/sh".into()), "a program of a glob has needs, too");
        assert_eq!(script("usr/share/x/data"), None, "data has none");
    }
}
