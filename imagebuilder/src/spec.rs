//! What is wanted: families and toolsets, as TOML of one file each, embedded in this program.
//!
//! To add a family or a toolset: write its file and add a row to [`FAMILIES`] or [`TOOLSETS`].

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

const FAMILIES: &[(&str, &str)] = &[("debian", include_str!("../families/debian.toml"))];
const TOOLSETS: &[(&str, &str)] =
    &[("base", include_str!("../toolsets/base.toml")), ("busybox", include_str!("../toolsets/busybox.toml"))];

/// An OS family.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Family {
    /// Its name, as `--family` has it.
    pub(crate) name: String,
    /// Its profiles by name.
    profile: BTreeMap<String, Profile>,
}

/// What goes into an image of a family.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The Debian package, possibly a meta-package, that brings the kernel.
    pub(crate) kernel: String,
    /// Names of toolsets.
    pub(crate) toolsets: Vec<String>,
    /// Globs of modules; each must match one, or something built into the kernel.
    pub(crate) modules: Vec<String>,
    /// Globs of modules that not every kernel has.
    #[serde(default)]
    pub(crate) modules_if_present: Vec<String>,
    /// Globs of modules that the other globs would bring and that are not wanted.
    #[serde(default)]
    pub(crate) modules_without: Vec<String>,
}

/// Packages and what is wanted from them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Toolset {
    /// Its name, as families have it.
    pub(crate) name: String,
    /// Its packages.
    #[serde(rename = "package")]
    pub(crate) packages: Vec<Tool>,
}

/// A package and what is wanted from it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    /// The Debian package.
    pub(crate) name: String,
    /// Names of programs in its `bin` and `sbin` folders.
    #[serde(default)]
    pub(crate) programs: Vec<String>,
    /// Globs of other files that its programs read, by their path without a leading slash; each must match.
    #[serde(default)]
    pub(crate) files: Vec<String>,
}

/// All that an image is made of, resolved from names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) family: String,
    pub(crate) profile_name: String,
    pub(crate) profile: Profile,
    pub(crate) toolsets: Vec<Toolset>,
}

/// Finds a family's profile and the toolsets it names.
///
/// # Errors
/// An unknown name, with those that there are; a file that is wrong, with its line.
pub(crate) fn find(family: &str, profile: &str) -> Result<Spec> {
    let names = |rows: &[(&str, &str)]| rows.iter().map(|r| r.0).collect::<Vec<_>>().join(", ");
    let text = FAMILIES
        .iter()
        .find(|row| row.0 == family)
        .ok_or_else(|| anyhow!("unknown family {family:?}; there are: {}", names(FAMILIES)))?;
    let mut parsed: Family = parse(&format!("families/{family}.toml"), text.1)?;
    let known = parsed.profile.keys().cloned().collect::<Vec<_>>().join(", ");
    let chosen = parsed
        .profile
        .remove(profile)
        .ok_or_else(|| anyhow!("family {family} has no profile {profile:?}; it has: {known}"))?;
    let mut toolsets = Vec::new();
    for name in &chosen.toolsets {
        let text = TOOLSETS.iter().find(|row| row.0 == name).ok_or_else(|| {
            anyhow!("families/{family}.toml: unknown toolset {name:?}; there are: {}", names(TOOLSETS))
        })?;
        toolsets.push(parse::<Toolset>(&format!("toolsets/{name}.toml"), text.1)?);
    }
    Ok(Spec { family: parsed.name, profile_name: profile.into(), profile: chosen, toolsets })
}

fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text)
        .map_err(|e| anyhow!("{}", e.to_string().trim().replace('\n', " ")))
        .with_context(|| file.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_sound_and_named_as_its_file() {
        for (name, text) in FAMILIES {
            let family: Family = parse(name, text).unwrap();
            assert_eq!(family.name, *name);
            for profile in family.profile.keys() {
                let spec = find(name, profile).unwrap();
                assert!(!spec.toolsets.is_empty());
            }
        }
        for (name, text) in TOOLSETS {
            assert_eq!(parse::<Toolset>(name, text).unwrap().name, *name);
        }
    }

    #[test]
    fn unknown_names_list_the_known() {
        assert!(find("plan9", "minimal").unwrap_err().to_string().contains("debian"));
        assert!(find("debian", "huge").unwrap_err().to_string().contains("minimal, standard"));
        assert!(parse::<Family>("x.toml", "name = \"x\"\nprofil = {}").is_err());
    }
}
