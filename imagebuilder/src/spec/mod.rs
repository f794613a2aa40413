//! What is wanted: families and toolsets, as TOML of one file each, embedded in this program; a family may
//! also be a file of the user's own. `imagebuilder/families/README.md` says what stands in them.
//!
//! To add a family or a toolset: write its file and add a row to [`FAMILIES`] or [`TOOLSETS`].

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rescue_schema::manifest::Guest;

mod file;
mod lineage;
mod located;

use file::{FamilyFile, ProfileFile, ToolsetFile};
pub(crate) use file::{Link, TextFile, Tool};
use lineage::{lineage, merge};
use located::Lines;
pub(crate) use located::Word;

use crate::compress;

macro_rules! embedded {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../", $folder, "/", $name, ".toml")))),*]
    };
}

const FAMILIES: &[(&str, &str)] =
    embedded!("families": "debian" "redhat" "suse" "windows" "freebsd" "universal" "common");
const TOOLSETS: &[(&str, &str)] =
    embedded!("toolsets": "base" "busybox" "more" "redhat" "suse" "windows" "freebsd");

/// Modules up to this size are plain in the image, where a family does not say otherwise: what is unpacked before
/// anything runs takes time and memory, and the smallest are not worth it.
const PLAIN_MODULE_KIB: u32 = 16;

/// What goes into an image of a family, with all that is inherited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    /// The Debian package, possibly a meta-package, that brings the kernel.
    pub(crate) kernel: Word,
    /// Kernel-config fragments that the kernel must satisfy.
    pub(crate) kernel_config: Vec<Word>,
    /// Globs of modules; each must match one, or something built into the kernel.
    pub(crate) modules: Vec<Word>,
    /// Globs of modules that not every kernel has.
    pub(crate) modules_if_present: Vec<Word>,
    /// Globs of modules that the other globs would bring and that are not wanted.
    pub(crate) modules_without: Vec<Word>,
    /// Globs of modules that are not packed whatever their size: those that are loaded before the first login
    /// is possible.
    pub(crate) modules_plain: Vec<Word>,
    /// Modules of more bytes are packed in the image: most of the memory that it takes unpacked, and a little
    /// time when one is loaded.
    pub(crate) pack_modules_above: u64,
    /// Programs of more bytes are packed until they are called for the first time.
    pub(crate) pack_programs_above: Option<u64>,
    /// zstd's level for both. What is packed is kept from build to build, so that a high one costs once.
    pub(crate) pack_level: i32,
    /// The program that speaks HTTPS goes in, packed.
    pub(crate) https: bool,
    /// The firmware that the modules ask for goes in, as far as the host has it.
    pub(crate) firmware: bool,
    /// Small files and links.
    pub(crate) files: Vec<TextFile>,
    pub(crate) links: Vec<Link>,
}

/// Packages and what is wanted from them, as one file names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolset {
    /// Its name, as families have it.
    pub(crate) name: String,
    /// What it is for, in a line.
    pub(crate) about: String,
    /// Its packages.
    pub(crate) packages: Vec<Tool>,
}

/// All that an image is made of, resolved from names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) family: String,
    /// What it is for, in a line.
    pub(crate) about: String,
    /// The families that it inherits from, the most general first, itself last.
    pub(crate) lineage: Vec<String>,
    /// What the rescue expects of its machines.
    pub(crate) guest: Guest,
    pub(crate) profile_name: String,
    pub(crate) profile: Profile,
    pub(crate) toolsets: Vec<Toolset>,
}

impl Spec {
    /// Every package that is named, and where it is named first.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Tool> {
        self.toolsets.iter().flat_map(|set| &set.packages)
    }
}

/// A family, in a line.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) inherits: Vec<String>,
    pub(crate) profiles: Vec<String>,
}

/// Every family that an image can be built of.
///
/// # Errors
/// A file that is wrong.
pub(crate) fn families() -> Result<Vec<Summary>> {
    let mut all = Vec::new();
    for (name, _) in FAMILIES {
        let lineage = lineage(name)?;
        let Some(own) = lineage.last().filter(|own| !own.is_abstract) else { continue };
        all.push(Summary {
            name: own.name.text.clone(),
            about: own.about.clone(),
            inherits: own.inherits.iter().map(|word| word.text.clone()).collect(),
            profiles: profiles(&lineage).into_iter().collect(),
        });
    }
    Ok(all)
}

/// The names of a family's profiles.
///
/// # Errors
/// As [`find`].
pub(crate) fn profiles_of(family: &str) -> Result<Vec<String>> {
    Ok(profiles(&lineage(family)?).into_iter().collect())
}

/// Finds a family's profile and the toolsets it names; a family is named, or is a path of a file when there
/// is a slash in it or it ends in `.toml`.
///
/// # Errors
/// An unknown name, with those that there are; a file that is wrong, with its line.
pub(crate) fn find(family: &str, profile: &str) -> Result<Spec> {
    let lineage = lineage(family)?;
    let Some(own) = lineage.last() else { bail!("family {family}: nothing there") };
    ensure!(
        !own.is_abstract,
        "family {} is there for others to inherit from; there are: {}",
        own.name,
        families()?.into_iter().map(|f| f.name).collect::<Vec<_>>().join(", ")
    );
    let known = profiles(&lineage);
    ensure!(
        known.contains(profile),
        "family {} has no profile {profile:?}; it has: {}",
        own.name,
        known.into_iter().collect::<Vec<_>>().join(", ")
    );
    let mut merged = ProfileFile::default();
    let mut guest = Guest::default();
    for family in &lineage {
        extend(&mut guest.file_systems, &family.guest.file_systems);
        extend(&mut guest.layouts, &family.guest.layouts);
        extend(&mut guest.repairs, &family.guest.repairs);
        guest.text = family.guest.text.clone().or(guest.text);
        if let Some(part) = family.profile.get(profile) {
            merge(&mut merged, part.clone());
        }
    }
    let place = &own.name.at;
    let kernel = merged.kernel.with_context(|| format!("{place}: profile {profile} names no kernel"))?;
    let mut toolsets = Vec::new();
    for word in &merged.toolsets {
        toolsets.push(toolset(word)?);
    }
    if !merged.packages.is_empty() {
        let about = "packages that the family names itself".into();
        toolsets.push(Toolset { name: own.name.text.clone(), about, packages: merged.packages });
    }
    Ok(Spec {
        family: own.name.text.clone(),
        about: own.about.clone(),
        lineage: lineage.iter().map(|family| family.name.text.clone()).collect(),
        guest,
        profile_name: profile.into(),
        profile: Profile {
            kernel,
            kernel_config: merged.kernel_config,
            modules: merged.modules,
            modules_if_present: merged.modules_if_present,
            modules_without: merged.modules_without,
            modules_plain: merged.modules_plain,
            pack_modules_above: u64::from(merged.pack_modules_above_kib.unwrap_or(PLAIN_MODULE_KIB)) << 10,
            pack_programs_above: merged.pack_programs_above_kib.map(|kib| u64::from(kib) << 10),
            pack_level: merged.pack_level.map_or(compress::LEVEL, |level| level.0),
            firmware: merged.firmware.unwrap_or(false),
            https: merged.https.unwrap_or(false),
            files: merged.files,
            links: merged.links,
        },
        toolsets,
    })
}

fn toolset(word: &Word) -> Result<Toolset> {
    let (name, text) = row(TOOLSETS, &word.text).ok_or_else(|| {
        anyhow!("{}: unknown toolset {:?}; there are: {}", word.at, word.text, names(TOOLSETS))
    })?;
    let file = format!("toolsets/{name}.toml");
    let mut parsed: ToolsetFile = parse(&file, text)?;
    parsed.place(&Lines::new(&file, text, true));
    Ok(Toolset { name: parsed.name.text, about: parsed.about, packages: parsed.packages })
}

fn row(rows: &'static [(&str, &str)], name: &str) -> Option<(&'static str, &'static str)> {
    rows.iter().find(|row| row.0 == name).copied()
}

fn names(rows: &[(&str, &str)]) -> String {
    rows.iter().map(|row| row.0).collect::<Vec<_>>().join(", ")
}

fn profiles(lineage: &[FamilyFile]) -> BTreeSet<String> {
    lineage.iter().flat_map(|family| family.profile.keys().cloned()).collect()
}

fn extend(list: &mut Vec<String>, more: &[String]) {
    for text in more {
        if !list.contains(text) {
            list.push(text.clone());
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let at = Lines::new(file, text, false).at(error.span().map_or(0, |span| span.start));
        anyhow!("{at}: {}", error.message().replace('\n', " "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::lineage::open;
    use std::path::Path;

    fn written(folder: &Path, name: &str, text: &str) -> String {
        let path = folder.join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    }

    #[test]
    fn every_file_is_sound_and_named_as_its_file() {
        for (name, _) in FAMILIES {
            let own = open(name).unwrap();
            assert_eq!(own.name.text, *name);
            assert!(!own.about.is_empty());
            for profile in profiles_of(name).unwrap() {
                if !own.is_abstract {
                    let spec = find(name, &profile).unwrap();
                    assert!(!spec.toolsets.is_empty() && spec.guest.text.is_some(), "{name}");
                    assert_eq!(spec.lineage.last().unwrap(), name);
                }
            }
        }
        for (name, text) in TOOLSETS {
            let parsed: ToolsetFile = parse(name, text).unwrap();
            assert!(parsed.name.text == *name && !parsed.about.is_empty());
        }
        for family in families().unwrap() {
            assert_eq!(family.profiles, ["minimal", "standard"], "{}", family.name);
        }
    }

    #[test]
    fn universal_has_what_each_of_the_others_has() {
        let all = find("universal", "standard").unwrap();
        for family in families().unwrap() {
            let one = find(&family.name, "standard").unwrap();
            for set in &one.toolsets {
                assert!(all.toolsets.contains(set), "{}: {}", family.name, set.name);
            }
            let has = |word: &Word| all.profile.modules.iter().any(|other| other.text == word.text);
            assert!(one.profile.modules.iter().all(has), "{}", family.name);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            let path = written(folder.path(), "mine", text);
            let error = format!("{:#}", find(&path, "minimal").unwrap_err());
            error.replace(folder.path().to_str().unwrap(), "")
        };
        let head = "name = \"mine\"\nabout = \"x\"\ninherits = [\"debian\"]\n";
        assert!(
            error("name = \"mine\"\nabout = \"x\"\nprofil = {}").starts_with("/mine.toml:3: unknown field")
        );
        assert!(error("name = [\n\"mine\"").contains("/mine.toml:"));
        assert!(error("\u{0}").starts_with("/mine.toml:1: "));
        let text = error(&format!("{head}[profile.minimal]\ntoolsets = [\n  \"tolls\",\n]"));
        assert!(text.starts_with("/mine.toml:6: unknown toolset \"tolls\"; there are: base"), "{text}");
        assert!(error("name = \"A b\"\nabout = \"\"").starts_with("/mine.toml:1: the name of a family"));
        assert!(error("name = \"mine\"\nabout = \"x\"\n[profile.minimal]\n").contains("names no kernel"));
        let text = error("name = \"mine\"\nabout = \"x\"\ninherits = [\"plan9\"]\n");
        assert!(text.starts_with("/mine.toml:3: unknown family \"plan9\""), "{text}");
        let path = written(folder.path(), "mine", "");
        std::fs::write(&path, format!("name = \"mine\"\nabout = \"\"\ninherits = [\"{path}\"]")).unwrap();
        assert!(find(&path, "minimal").unwrap_err().to_string().contains("inherits from itself"));
        assert!(find("plan9", "minimal").unwrap_err().to_string().contains("debian"));
        assert!(find("debian", "huge").unwrap_err().to_string().contains("minimal, standard"));
        assert!(find("common", "minimal").unwrap_err().to_string().contains("for others to inherit from"));
        assert!(find("./none.toml", "minimal").unwrap_err().to_string().contains("No such file"));
        assert!(find("/dev/zero", "minimal").unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    fn hostile_files_end_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let head = "name = \"mine\"\nabout = \"x\"\n";
        for (body, wanted) in [
            (format!("x = {}", "[".repeat(200_000)), "mine.toml:3: "),
            (format!("x = {}", "{a=".repeat(200_000)), "mine.toml:3: "),
            (format!("[{}]", vec!["a"; 100_000].join(".")), "recursion limit"),
            ("[profile.minimal]\npack_level = 99999999999999999999".into(), "mine.toml:4: "),
            ("[profile.minimal]\npack_modules_above_kib = -1".into(), "mine.toml:4: "),
            ("[profile.minimal]\nmodules = [\"a\\u001b[2J\"]\nmodules = []".into(), "mine.toml:5: "),
            // So many words are placed and merged in one pass, not each against all.
            (format!("[profile.minimal]\nmodules = [{}]", "\"{a,b}*\",\n".repeat(80_000)), "names no kernel"),
            ("name = \"twice\"".into(), "mine.toml:3: "),
            ("abstract = true".into(), "for others to inherit from"),
            ("x".repeat(1 << 20), "at most 1048576"),
        ] {
            let path = written(folder.path(), "mine", &format!("{head}{body}\n"));
            let error = format!("{:#}", find(&path, "minimal").unwrap_err());
            let start: String = body.chars().take(60).collect();
            assert!(error.contains(wanted) && error.len() < 2000, "{start}: {error}");
            assert!(!error.contains(['\n', '\u{1b}']), "{start}: {error:?}");
        }
        std::fs::write(folder.path().join("mine.toml"), b"name = \"\xff\"").unwrap();
        let path = folder.path().join("mine.toml").to_string_lossy().into_owned();
        assert!(find(&path, "minimal").unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn a_ring_of_families_is_told_by_whatever_names_and_a_lattice_is_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a b")).unwrap();
        let family = |name: &str, parents: &str| {
            format!("name = \"{}\"\nabout = \"x\"\ninherits = [{parents}]\n", name.replace(' ', ""))
        };
        let one = written(folder.path(), "one", &family("one", "\"./a b/two.toml\""));
        let two = written(&folder.path().join("a b"), "two", &family("two", "\"../a b/../one.toml\""));
        for path in [&one, &two] {
            let error = find(path, "minimal").unwrap_err().to_string();
            assert!(error.contains("inherits from itself: ") && error.matches(" → ").count() == 1, "{error}");
        }
        // Each of twenty layers names the two of the next: a million ways down, and forty families.
        let parents = |layer: usize| match layer {
            0 => "\"debian\"".to_string(),
            layer => format!("\"./l{0}.toml\", \"./r{0}.toml\"", layer - 1),
        };
        for layer in 0..20 {
            for side in ["l", "r"] {
                // One name for all: what tells them apart is the file.
                written(folder.path(), &format!("{side}{layer}"), &family("same", &parents(layer)));
            }
        }
        let top = folder.path().join("l19.toml").to_string_lossy().into_owned();
        assert!(find(&top, "minimal").unwrap_err().to_string().contains("over 32 families"));
        let middle = folder.path().join("l9.toml").to_string_lossy().into_owned();
        assert_eq!(find(&middle, "minimal").unwrap().lineage.len(), 2 + 19);
    }

    #[test]
    fn a_family_of_ones_own_adds_to_what_it_inherits() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(
            folder.path(),
            "mine",
            "name = \"mine\"\nabout = \"x\"\ninherits = [\"debian\"]\n[profile.minimal]\nkernel = \"own\"\n\
             modules = [\"ext4\", \"own-module\"]\n[[profile.minimal.package]]\nname = \"htop\"\nprograms = [\"htop\"]\n\
             [[profile.minimal.file]]\npath = \"/etc/motd\"\ntext = \"hello\"\n",
        );
        let (own, debian) = (find(&path, "minimal").unwrap(), find("debian", "minimal").unwrap());
        assert_eq!(own.profile.kernel.text, "own");
        assert_eq!(own.profile.modules.len(), debian.profile.modules.len() + 1);
        let users: Vec<&str> =
            own.profile.modules.iter().filter(|word| !word.ours).map(|word| word.text.as_str()).collect();
        assert_eq!(users, ["ext4", "own-module"]);
        assert!(debian.profile.kernel.ours && !own.profile.kernel.ours);
        assert_eq!(own.toolsets.last().unwrap().packages[0].name.at, format!("{path}:8"));
        assert_eq!(own.profile.files[0].text, "hello");
        assert_eq!(own.lineage, ["common", "debian", "mine"]);
    }
}
