//! Kernel configurations: the fragments in `kernel-configs/`, a reason a symbol, and whether a kernel's
//! `.config` satisfies them (Documentation/kbuild/kconfig.rst).

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail, ensure};

use crate::spec::Word;

macro_rules! fragments {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../kernel-configs/", $name, ".config")))),*]
    };
}
/// The fragments by name.
pub(crate) const FRAGMENTS: &[(&str, &str)] = fragments!("required" "machine" "core" "security" "console" "virtio" "xen" "hyperv" "storage" "disks" "filesystems" "network" "speed" "server");

/// A symbol that a fragment wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// With its `CONFIG_`.
    pub(crate) symbol: String,
    /// `y`, `m` (which `y` satisfies too), `n`, a number or a quoted string.
    pub(crate) value: String,
    /// The comment above it.
    pub(crate) reason: String,
    /// Where it stands: `kernel-configs/required.config:7`.
    pub(crate) at: String,
}

/// Reads a fragment. A comment is the reason for the symbols that follow it, up to the next comment.
///
/// # Errors
/// A line that is neither, a symbol without a reason, or one that is named twice.
pub(crate) fn fragment(file: &str, text: &str) -> Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    let (mut reason, mut in_comment) = (String::new(), false);
    for (number, line) in text.lines().enumerate() {
        let (line, at) = (line.trim(), format!("{file}:{}", number + 1));
        let (symbol, value) = match line.strip_prefix('#') {
            // What stands alone is about the file, not about the symbols below it.
            _ if line.is_empty() => {
                in_comment = false;
                continue;
            }
            Some(comment) => match comment.trim().strip_suffix(" is not set") {
                Some(symbol) if symbol.starts_with("CONFIG_") => (symbol, "n"),
                _ => {
                    if !std::mem::replace(&mut in_comment, true) {
                        reason.clear();
                    } else if !reason.is_empty() {
                        reason.push(' ');
                    }
                    reason.push_str(comment.trim());
                    continue;
                }
            },
            None => line
                .split_once('=')
                .filter(|(symbol, _)| is_symbol(symbol))
                .ok_or_else(|| anyhow!("{at}: neither CONFIG_SYMBOL=value nor a comment"))?,
        };
        in_comment = false;
        ensure!(!reason.is_empty(), "{at}: {symbol} has no reason; write one above it");
        if let Some(other) = all.iter().find(|other| other.symbol == symbol) {
            bail!("{at}: {symbol} stands at {} already", other.at);
        }
        all.push(Wanted { symbol: symbol.into(), value: value.into(), reason: reason.clone(), at });
    }
    Ok(all)
}

fn is_symbol(text: &str) -> bool {
    let name = text.strip_prefix("CONFIG_").unwrap_or_default();
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The fragments that a family names.
///
/// # Errors
/// A name that is none, or a fragment that is wrong.
pub(crate) fn named(names: &[Word]) -> Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    for word in names {
        let (name, text) = FRAGMENTS.iter().find(|row| row.0 == word.text).ok_or_else(|| {
            let there = FRAGMENTS.iter().map(|row| row.0).collect::<Vec<_>>().join(", ");
            anyhow!("{}: unknown kernel-config fragment {:?}; there are: {there}", word.at, word.text)
        })?;
        all.extend(fragment(&format!("kernel-configs/{name}.config"), text)?);
    }
    Ok(all)
}

/// A `.config`: what is set, by symbol.
pub(crate) fn config(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.trim().split_once('=')).filter(|(s, _)| is_symbol(s)).collect()
}

/// Those of the wanted symbols that a configuration has not, and what it has in their place.
pub(crate) fn missing<'a>(
    wanted: &'a [Wanted],
    config: &BTreeMap<&str, &'a str>,
) -> Vec<(&'a Wanted, &'a str)> {
    let mut all = Vec::new();
    for one in wanted {
        let has = config.get(one.symbol.as_str()).copied().unwrap_or("n");
        if has != one.value && !(one.value == "m" && has == "y") {
            all.push((one, has));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fragment_is_sound() {
        for (name, text) in FRAGMENTS {
            assert!(!fragment(name, text).unwrap().is_empty(), "{name}");
        }
    }

    /// The reasons as a page: a row each, with its symbols.
    fn page() -> String {
        let mut page = String::new();
        for (name, text) in FRAGMENTS {
            page.push_str(&format!("\n### {name}\n\n| symbols | why |\n|---|---|\n"));
            let all = fragment(name, text).unwrap();
            for group in all.chunk_by(|one, next| one.reason == next.reason) {
                let symbols: Vec<String> = group
                    .iter()
                    .map(|one| {
                        let name = one.symbol.trim_start_matches("CONFIG_");
                        if one.value == "y" { format!("`{name}`") } else { format!("`{name}={}`", one.value) }
                    })
                    .collect();
                let reason = group.first().map(|one| one.reason.replace('|', "\\|")).unwrap_or_default();
                page.push_str(&format!("| {} | {reason} |\n", symbols.join(" ")));
            }
        }
        page
    }

    #[test]
    fn the_readme_has_every_symbol_with_its_reason() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel-configs/README.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (head, rest) =
            text.split_once("\n### ").expect("the symbols come last in kernel-configs/README.md");
        if std::env::var_os("UPDATE_README").is_some() {
            std::fs::write(path, format!("{head}{}", page())).unwrap();
            return;
        }
        let why = "kernel-configs/README.md lags behind the fragments; UPDATE_README=1 cargo test -p imagebuilder readme";
        assert!(format!("\n### {rest}") == page(), "{why}");
    }

    #[test]
    fn a_comment_is_the_reason_for_what_follows() {
        let all = fragment(
            "f",
            "# The file.\n\n# One\n# reason.\nCONFIG_A=y\nCONFIG_B=m\n\n# Other.\n# CONFIG_C is not set\n",
        )
        .unwrap();
        let of = |i: usize| (all[i].symbol.as_str(), all[i].value.as_str(), all[i].reason.as_str());
        assert_eq!(of(0), ("CONFIG_A", "y", "One reason."));
        assert_eq!(of(1), ("CONFIG_B", "m", "One reason."));
        assert_eq!(of(2), ("CONFIG_C", "n", "Other."));
        for (text, message) in [
            ("CONFIG_A=y", "f:1: CONFIG_A has no reason"),
            ("# x\nCONFIG_A\n", "f:2: neither"),
            ("# x\nCONFIG_A=y\nCONFIG_A=m\n", "f:3: CONFIG_A stands at f:2 already"),
            ("# x\nFOO=y\n", "f:2: neither"),
        ] {
            assert!(fragment("f", text).unwrap_err().to_string().starts_with(message), "{text}");
        }
    }

    #[test]
    fn a_module_will_do_where_one_is_wanted() {
        let wanted =
            fragment("f", "# x\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_C=y\n# CONFIG_D is not set\n").unwrap();
        let text = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D=y\ngarbage\n# CONFIG_E is not set\n";
        let config = config(text);
        let names: Vec<_> =
            missing(&wanted, &config).iter().map(|(w, has)| (w.symbol.as_str(), *has)).collect();
        assert_eq!(names, [("CONFIG_C", "m"), ("CONFIG_D", "y")]);
    }
}
