//! What the host's apt knows, from its lists: which version of a package it would install, what that
//! depends on, and the digest it must have. Touches no network.
//!
//! apt takes half a second to open its lists, and a closure is several questions, so that answers
//! are kept for as long as nothing that apt reads has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

/// What to do when the lists do not have what is wanted.
pub(crate) const REFRESH: &str = "run: apt-get update";

/// A package as apt's lists have it, in the version that apt would install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SHA-256 of the package file, lower-case hexadecimal.
    pub(crate) sha256: String,
    /// Bytes of the package file.
    pub(crate) size: u64,
    pub(crate) section: String,
    /// Names of packages it depends on, the first of each alternative.
    pub(crate) depends: Vec<String>,
}

/// A package that apt does not know, by its name.
#[derive(Debug)]
pub(crate) struct Unknown(pub(crate) String);

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "package {} is not in apt's lists; correct its name, or {REFRESH}", self.0)
    }
}

impl std::error::Error for Unknown {}

/// Answers by question: names, sorted.
type Answers = BTreeMap<String, BTreeMap<String, Package>>;

/// Answers, and the state of apt in which they were given.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    state: BTreeMap<String, (u64, i64, i64)>,
    answers: Answers,
}

/// apt's lists.
pub(crate) struct Lists {
    keep: PathBuf,
    kept: Mutex<Kept>,
}

impl Lists {
    /// Opens them; `keep` is the file in which answers are kept.
    pub(crate) fn open(keep: PathBuf) -> Self {
        let state = state();
        let old: Option<Kept> = std::fs::read(&keep).ok().and_then(|b| serde_json::from_slice(&b).ok());
        // Another configuration may have apt read other files than those that are watched.
        let usable = std::env::var_os("APT_CONFIG").is_none();
        let kept = old.filter(|old| usable && old.state == state);
        Self { keep, kept: Mutex::new(kept.unwrap_or(Kept { state, answers: Answers::new() })) }
    }

    /// Looks packages up.
    ///
    /// # Errors
    /// When apt is missing, or knows one of them not at all or not from a list.
    pub(crate) fn look_up(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, Package>> {
        let found = self.ask(names)?;
        for name in names {
            ensure!(found.contains_key(name), Unknown(name.clone()));
        }
        Ok(found)
    }

    /// Adds what those packages depend on, as far as it is libraries: programs need no more.
    ///
    /// # Errors
    /// As [`Self::look_up`].
    pub(crate) fn with_libraries(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, Package>> {
        let mut all = self.look_up(names)?;
        let mut asked = names.clone();
        let mut fresh: Vec<Package> = all.values().cloned().collect();
        while !fresh.is_empty() {
            let depends = fresh.iter().flat_map(|p| p.depends.iter());
            let wanted: BTreeSet<String> = depends.filter(|n| !asked.contains(*n)).cloned().collect();
            asked.extend(wanted.iter().cloned());
            // A name that apt does not know is virtual, and no library's.
            fresh = self.ask(&wanted)?.into_values().filter(|p| p.section.ends_with("libs")).collect();
            all.extend(fresh.iter().map(|p| (p.name.clone(), p.clone())));
        }
        Ok(all)
    }

    /// The versioned package behind a kernel's meta-package.
    ///
    /// # Errors
    /// As [`Self::look_up`].
    pub(crate) fn kernel(&self, meta: &str) -> Result<Package> {
        let package = self.one(meta)?;
        match package.depends.iter().find(|n| n.starts_with("linux-image-")) {
            Some(real) => self.one(real),
            None => Ok(package),
        }
    }

    /// The versioned package behind the meta-package of the kernel's source.
    ///
    /// # Errors
    /// As [`Self::look_up`].
    pub(crate) fn source(&self, meta: &str) -> Result<Package> {
        let package = self.one(meta)?;
        match package.depends.iter().find(|n| n.starts_with("linux-source-")) {
            Some(real) => self.one(real),
            None => Ok(package),
        }
    }

    fn one(&self, name: &str) -> Result<Package> {
        let mut found = self.look_up(&BTreeSet::from([name.to_string()]))?;
        found.remove(name).with_context(|| format!("package {name}"))
    }

    fn ask(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, Package>> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let question = names.iter().cloned().collect::<Vec<_>>().join(" ");
        let kept = || self.kept.lock().map_err(|_| anyhow!("looking packages up failed in another thread"));
        if let Some(answer) = kept()?.answers.get(&question) {
            return Ok(answer.clone());
        }
        let output = Command::new("apt-cache")
            .args(["show", "--no-all-versions", "--"])
            .args(names)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|e| {
                anyhow!("running apt-cache: {e}; packages come through apt, so build on Debian or a relative")
            })?;
        let answer = parse_show(&String::from_utf8_lossy(&output.stdout));
        // An answer without some of the names may be a passing trouble.
        if !answer.is_empty() {
            kept()?.answers.insert(question, answer.clone());
        }
        Ok(answer)
    }

    /// Keeps the answers for the next run. To lose them costs that run time and nothing else.
    pub(crate) fn save(&self) {
        let (Ok(kept), Some(folder)) = (self.kept.lock(), self.keep.parent()) else { return };
        let Ok(bytes) = serde_json::to_vec(&*kept) else { return };
        if std::fs::read(&self.keep).is_ok_and(|old| old == bytes) {
            return;
        }
        if let Ok(mut file) = tempfile::NamedTempFile::new_in(folder)
            && file.write_all(&bytes).is_ok()
        {
            let _ = file.persist(&self.keep);
        }
    }
}

/// Size and time of all that apt reads: its lists, its configuration, what is installed.
fn state() -> BTreeMap<String, (u64, i64, i64)> {
    let mut state = BTreeMap::new();
    let mut queue: Vec<PathBuf> =
        ["/var/lib/apt/lists", "/etc/apt", "/var/lib/dpkg/status", "/usr/bin/apt-cache"]
            .map(PathBuf::from)
            .into();
    while let Some(path) = queue.pop() {
        let Ok(data) = std::fs::symlink_metadata(&path) else { continue };
        if data.is_dir() {
            queue.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        }
        // apt touches its lock file, which says nothing.
        if path != Path::new("/var/lib/apt/lists/lock") {
            state.insert(path.to_string_lossy().into_owned(), (data.len(), data.mtime(), data.mtime_nsec()));
        }
    }
    state
}

/// Reads what `apt-cache show` prints.
fn parse_show(text: &str) -> BTreeMap<String, Package> {
    let mut found = BTreeMap::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .unwrap_or_default()
                .trim()
        };
        let mut depends = Vec::new();
        for list in [field("Pre-Depends"), field("Depends")] {
            for alternatives in list.split(',') {
                let first = alternatives.split('|').next().unwrap_or_default().trim();
                let name = first.split([' ', '(', ':']).next().unwrap_or_default();
                if !name.is_empty() {
                    depends.push(name.to_string());
                }
            }
        }
        let sha256 = field("SHA256").to_ascii_lowercase();
        let name = field("Package");
        if name.is_empty() || sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            continue;
        }
        found.entry(name.to_string()).or_insert(Package {
            name: name.to_string(),
            version: field("Version").to_string(),
            size: field("Size").parse().unwrap_or(0),
            section: field("Section").to_string(),
            sha256,
            depends,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn show_is_read() {
        let sha = "0".repeat(64);
        let text = format!(
            "Package: a\nVersion: 1:2-3\nSection: utils\nSize: 7\nPre-Depends: libc6:any (>= 2)\nDepends: libx1 (= 2) | liby, libz\nSHA256: {sha}\n\nPackage: a\nVersion: 0\nSHA256: {sha}\n\nPackage: installed-only\nVersion: 1\n"
        );
        let found = parse_show(&text);
        assert_eq!(found.len(), 1);
        let package = &found["a"];
        assert_eq!((package.version.as_str(), package.size), ("1:2-3", 7));
        assert_eq!(package.depends, ["libc6", "libx1", "libz"]);
    }
}
