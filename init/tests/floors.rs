//! The structure keeps itself: which room may know which, where `unsafe` is, how long a file may grow.

use std::path::{Path, PathBuf};

/// The domains, which never import one another.
const DOMAINS: [&str; 7] = ["accounts", "console", "creds", "disk", "modules", "net", "ssh"];
/// Most lines of a file; the house style asks which two files it is long before.
const MAX_LINES: usize = 650;

/// The rooms of `init/src` that code in `room` may name.
fn allowed(room: &str) -> Vec<&str> {
    match room {
        "sys" => vec!["sys"],
        "web" => vec!["sys", "web"],
        domain if DOMAINS.contains(&domain) => vec!["sys", "web", "tree", domain],
        "commands" | "pid1" => [&DOMAINS[..], &["sys", "web", room]].concat(),
        _ => [&DOMAINS[..], &["sys", "web", "commands", "pid1"]].concat(),
    }
}

/// Code without comments, strings and the lines of its test module.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Rooms that a file names as `crate::room` or in `use crate::{room, …}`.
fn named(text: &str) -> Vec<String> {
    let code = code(text);
    let mut rooms = Vec::new();
    for (at, marker) in code.match_indices("crate::") {
        let rest = &code[at + marker.len()..];
        let word =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(list) => {
                let mut depth = 1;
                let mut item = String::new();
                for c in list.chars() {
                    depth += match c {
                        '{' => 1,
                        '}' => -1,
                        _ => 0,
                    };
                    if depth == 0 || (depth == 1 && c == ',') {
                        rooms.push(word(item.trim()));
                        item.clear();
                    } else {
                        item.push(c);
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("vendor") && !path.ends_with("target") {
                found.extend(sources(&path));
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

#[test]
fn rooms_know_only_the_floors_below() {
    let root = workspace().join("init/src");
    let mut broken = Vec::new();
    for (path, text) in sources(&root) {
        let room = path
            .strip_prefix(&root)
            .unwrap()
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_string_lossy()
            .into_owned();
        let may = allowed(&room);
        broken.extend(
            named(&text)
                .into_iter()
                .filter(|other| !may.contains(&other.as_str()))
                .map(|other| format!("{}: {room} must not know {other}", path.display())),
        );
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn unsafe_is_in_sys_alone() {
    let root = workspace();
    for folder in ["init", "imagebuilder", "tests"] {
        for (path, text) in sources(&root.join(folder)) {
            let relative = path.strip_prefix(&root).unwrap();
            let inside = relative.starts_with("init/src/sys") || relative.starts_with("init/fuzz");
            let found = code(&text).split_whitespace().any(|word| word == "unsafe");
            assert!(inside || !found, "{}: unsafe", relative.display());
        }
    }
}

#[test]
fn no_file_is_two() {
    let root = workspace();
    for folder in ["init", "imagebuilder", "tests"] {
        for (path, text) in sources(&root.join(folder)) {
            assert!(text.lines().count() <= MAX_LINES, "{}: {} lines", path.display(), text.lines().count());
        }
    }
}

#[test]
fn the_check_itself_sees() {
    assert_eq!(named("use crate::sys::log;\nfn f() { crate::net::x() }"), ["sys", "net"]);
    assert_eq!(named("use crate::{disk::{a, b}, sys};"), ["disk", "sys"]);
    assert!(named("// crate::net\n#[cfg(test)]\nmod tests { use crate::net; }").len() <= 1);
    assert!(!allowed("net").contains(&"ssh") && !allowed("sys").contains(&"net"));
    assert!(allowed("commands").contains(&"disk") && !allowed("commands").contains(&"pid1"));
}
