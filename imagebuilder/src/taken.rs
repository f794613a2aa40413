//! What is taken of packages: the programs and files that are wanted, what their links lead to, and the libraries
//! that they need. Pure.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow, ensure};

use crate::deb::resolve_link;
use crate::image::{Image, Node};
use crate::observe::{Content, Facts, FileFact, PROGRAM_FOLDERS, glob};
use crate::spec::{Spec, Tool, Word};

/// Takes all that a family wants of packages.
///
/// # Errors
/// A program, file or library that is not there.
pub(crate) fn packages(image: &mut Image, spec: &Spec, facts: &Facts) -> Result<()> {
    for tool in spec.packages() {
        for program in programs(tool, facts)? {
            program_of(image, facts, &tool.name.text, &program).with_context(|| program.at.clone())?;
        }
        for glob in &tool.files {
            files_of(image, facts, &tool.name.text, glob).with_context(|| glob.at.clone())?;
        }
    }
    Ok(())
}

/// The programs that are wanted of a package.
fn programs(tool: &Tool, facts: &Facts) -> Result<Vec<Word>> {
    if !tool.every_program {
        return Ok(tool.programs.clone());
    }
    let files = facts.packages.get(&tool.name.text).map(|p| &p.files).into_iter().flatten();
    let found: BTreeSet<&str> = files
        .filter_map(|(path, _)| path.rsplit_once('/'))
        .filter(|(folder, _)| PROGRAM_FOLDERS.contains(folder))
        .map(|(_, name)| name)
        .collect();
    ensure!(
        !found.is_empty(),
        "{} {}: the package has no program; a family's own [[profile.NAME.package]] takes its files",
        tool.name.at,
        tool.name
    );
    Ok(found.into_iter().map(|name| Word::of_option(&tool.name.at, name)).collect())
}

fn program_of(image: &mut Image, facts: &Facts, package: &str, program: &Word) -> Result<()> {
    let missing = || anyhow!("package {package} has no program {program}; correct its list of programs");
    let files = &facts.packages.get(package).ok_or_else(missing)?.files;
    let path = PROGRAM_FOLDERS
        .iter()
        .map(|folder| format!("{folder}/{program}"))
        .find(|path| files.contains_key(path))
        .ok_or_else(missing)?;
    take(image, facts, package, &path).with_context(|| format!("program {program} of package {package}"))
}

fn files_of(image: &mut Image, facts: &Facts, package: &str, word: &Word) -> Result<()> {
    let glob = glob(word)?;
    let files = facts.packages.get(package).map(|p| &p.files).into_iter().flatten();
    let paths: Vec<&String> = files.map(|(path, _)| path).filter(|path| glob.is_match(path)).collect();
    ensure!(!paths.is_empty(), "package {package} has no file {word}; correct its list of files");
    paths.into_iter().try_for_each(|path| {
        take(image, facts, package, path).with_context(|| format!("file {path} of package {package}"))
    })
}

/// Takes a file, what its links lead to, and what it needs.
fn take(image: &mut Image, facts: &Facts, package: &str, path: &str) -> Result<()> {
    let mut queue = vec![(package.to_string(), path.to_string())];
    let mut seen = BTreeSet::new();
    while let Some((package, path)) = queue.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let facts_of = facts.packages.get(&package).with_context(|| format!("package {package}"))?;
        let origin = format!("{package}={}", facts_of.package.version);
        match facts_of.files.get(&path).with_context(|| format!("{path} is not in package {package}"))? {
            FileFact::Symlink(target) => {
                let to = resolve_link(&path, target).with_context(|| format!("{path} -> {target}"))?;
                image.put(&path, 0o777, Node::Symlink(target.clone()), &origin)?;
                let owner = owner(facts, &package, &to)
                    .with_context(|| format!("{path} -> {target}: no such file"))?;
                queue.push((owner, to));
            }
            FileFact::Regular { mode, needs, .. } => {
                let content = Content::Packed { package: package.clone(), path: path.clone() };
                image.put(&path, *mode, Node::File(content), &origin)?;
                let Some(needs) = needs else { continue };
                let loader = needs.loader.iter().map(|l| l.trim_start_matches('/').to_string());
                for path in loader {
                    let owner = owner(facts, &package, &path)
                        .with_context(|| format!("no package has its loader {path}"))?;
                    queue.push((owner, path));
                }
                for name in &needs.libraries {
                    queue.push(library(facts, &needs.folders, name).with_context(|| {
                        format!("{path} needs {name}, which none of its packages has; add the package to the toolset")
                    })?);
                }
            }
        }
    }
    Ok(())
}

fn owner(facts: &Facts, first: &str, path: &str) -> Option<String> {
    let has = |name: &str| facts.packages.get(name).is_some_and(|p| p.files.contains_key(path));
    if has(first) {
        return Some(first.to_string());
    }
    facts.packages.keys().find(|name| has(name)).cloned()
}

/// Where ld.so of Debian looks, beside what a file names itself (ld.so(8)).
const LIBRARY_FOLDERS: [&str; 6] =
    ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib"];

/// The package that has a library, and its path there.
pub(crate) fn library(facts: &Facts, folders: &[String], name: &str) -> Option<(String, String)> {
    let own = folders.iter().map(|f| f.trim_matches('/'));
    own.chain(LIBRARY_FOLDERS).find_map(|folder| {
        let path = format!("{folder}/{name}");
        Some((owner(facts, "", &path)?, path))
    })
}
