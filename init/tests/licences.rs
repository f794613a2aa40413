//! What is built in may be given away under our licence, and comes from where it is checked.

use std::process::Command;

use serde_json::Value;

/// Licences that ask for no more than a notice.
const ALLOWED: [&str; 12] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "Unlicense",
    // Of data: the certificates of the web's authorities.
    "CDLA-Permissive-2.0",
];

/// Whether a licence expression (SPDX 2.3, annex D: `AND` binds tighter than `OR`) can be met. The old
/// `/` stands for `OR`.
fn is_met(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = either(&words, &mut at);
    met && at == words.len()
}

fn either(words: &[&str], at: &mut usize) -> bool {
    let mut met = both(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(words, at);
    }
    met
}

fn both(words: &[&str], at: &mut usize) -> bool {
    let mut met = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at);
    }
    met
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = either(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    let mut name = word.to_string();
    if words.get(*at) == Some(&"WITH") {
        name += &format!(" WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    ALLOWED.contains(&name.as_str())
}

#[test]
fn every_dependency_may_be_shipped() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let registry = packages.iter().find(|p| p["name"] == "serde").unwrap()["source"].clone();
    assert!(registry.as_str().unwrap().starts_with("registry+"));
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        if !package["license"].as_str().is_some_and(is_met) {
            wrong.push(format!("{name}: licence {}", package["license"]));
        }
        // Ours and what is vendored lie in the workspace; everything else is from the one registry.
        if !package["source"].is_null() && package["source"] != registry {
            wrong.push(format!("{name}: source {}", package["source"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn expressions_are_understood() {
    assert!(is_met("MIT OR GPL-3.0") && is_met("MIT/Apache-2.0") && is_met("(MIT OR X) AND ISC"));
    assert!(is_met("Apache-2.0 WITH LLVM-exception OR X"));
    assert!(
        !is_met("MIT AND GPL-3.0")
            && !is_met("GPL-3.0")
            && !is_met("")
            && !is_met("(MIT")
            && !is_met("MIT MIT")
    );
    assert!(!is_met("Apache-2.0 WITH Other-exception"));
}
