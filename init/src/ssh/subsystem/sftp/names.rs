//! Users and groups by number, from passwd(5) and group(5) and from no name service.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::sys::files;

/// Largest database that is read, in bytes.
const MAX: usize = 1 << 20;

/// What the databases say, each read when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: Option<HashMap<u32, String>>,
    groups: Option<HashMap<u32, String>>,
}

impl Names {
    /// Name of a user.
    pub(super) fn user(&mut self, number: u32) -> Option<&str> {
        let users = self.users.get_or_insert_with(|| by_number(&read("/etc/passwd")));
        users.get(&number).map(String::as_str)
    }

    /// Name of a group.
    pub(super) fn group(&mut self, number: u32) -> Option<&str> {
        let groups = self.groups.get_or_insert_with(|| by_number(&read("/etc/group")));
        groups.get(&number).map(String::as_str)
    }
}

/// Home of a user.
pub(super) fn home(user: &[u8]) -> Option<PathBuf> {
    let user = std::str::from_utf8(user).ok()?;
    let text = read("/etc/passwd");
    let line = text.lines().find(|line| line.split(':').next() == Some(user))?;
    line.split(':').nth(5).filter(|home| home.starts_with('/')).map(PathBuf::from)
}

fn read(path: &str) -> String {
    let bytes = files::read_capped(Path::new(path), MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `name:password:number:…`; the first of a number counts.
fn by_number(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(number)) = (fields.next(), fields.nth(1).and_then(|n| n.parse().ok())) {
            names.entry(number).or_insert_with(|| name.to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_number_counts() {
        let names = by_number("root:x:0:0::/root:/bin/sh\nadmin:x:0:0::/:/bin/sh\nx\na:b:c\nbin:x:2:\n");
        assert_eq!((names.get(&0).unwrap().as_str(), names.get(&2).unwrap().as_str()), ("root", "bin"));
        assert_eq!(names.len(), 2);
    }
}
