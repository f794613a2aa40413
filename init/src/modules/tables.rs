//! The tables beside the modules, in depmod's text formats (modules.dep(5), modprobe.d(5)).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::alias::Index;
use crate::sys::files::read_capped;
use crate::sys::kmod;

/// Longest table in bytes; the largest of Debian's full kernel is some 1.5 MiB.
const MAX: usize = 16 << 20;

/// The tables as read.
#[derive(Debug, Default)]
pub struct Tables {
    folder: PathBuf,
    /// Read at the first question: of all the tables it is by far the longest, and most names are no alias.
    aliases: OnceLock<String>,
    dependencies: String,
    softdeps: String,
    builtin: HashSet<String>,
    /// Made at the first question, because a module that is asked for by name needs none of it.
    index: OnceLock<HashMap<String, Module>>,
}

/// A module that is in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    /// Below the folder of the tables.
    pub path: String,
    /// Names of what must be there before, the most basic last, as depmod writes them.
    pub needs: Vec<String>,
    /// Names of what should be there before, and after.
    pub pre: Vec<String>,
    /// See `pre`.
    pub post: Vec<String>,
}

/// `-` and `_` are one in the names of modules.
pub(super) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// A table below `folder`; one that is not there is empty.
fn text(folder: &Path, name: &str) -> String {
    let bytes = read_capped(&folder.join(name), MAX).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

impl Tables {
    /// Reads the tables of the running kernel below `root`; what is not there is empty.
    pub fn observe(root: &Path) -> Self {
        let folder = root.join("lib/modules").join(kmod::release());
        Self {
            dependencies: text(&folder, "modules.dep"),
            softdeps: text(&folder, "modules.softdep"),
            builtin: text(&folder, "modules.builtin").lines().map(name_of).collect(),
            folder,
            ..Self::default()
        }
    }

    /// Tables of this content.
    pub fn new(dependencies: &str, aliases: String, softdeps: &str, builtin: &str) -> Self {
        Self {
            folder: PathBuf::new(),
            aliases: aliases.into(),
            dependencies: dependencies.into(),
            softdeps: softdeps.into(),
            builtin: builtin.lines().map(name_of).collect(),
            index: OnceLock::new(),
        }
    }

    /// Patterns and the modules they stand for.
    pub fn aliases(&self) -> Index<'_> {
        let mut index = Index::default();
        self.patterns().for_each(|(pattern, module)| index.insert(pattern, module));
        index
    }

    /// Each pattern with its module, as they stand in the table.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aliases.get_or_init(|| text(&self.folder, "modules.alias")).lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next().filter(|word| *word == "alias")?;
            Some((words.next()?, words.next()?))
        })
    }

    /// The module of that name.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.index.get_or_init(|| self.make_index()).get(&normal(name))
    }

    /// Where its file is.
    pub fn path(&self, module: &Module) -> PathBuf {
        self.folder.join(&module.path)
    }

    /// Whether the kernel itself holds it.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normal(name))
    }

    /// The modules that a name or an alias stands for.
    pub fn resolve(&self, name: &str) -> Vec<String> {
        if self.module(name).is_some() {
            return vec![normal(name)];
        }
        self.aliases().matches(name).into_iter().map(normal).collect()
    }

    fn make_index(&self) -> HashMap<String, Module> {
        let mut modules = HashMap::new();
        for line in self.dependencies.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            // A path that leaves the folder is nothing that a depmod writes.
            if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                continue;
            }
            let needs = needs.split_whitespace().map(name_of).collect();
            modules.insert(name_of(path), Module { path: path.into(), needs, ..Module::default() });
        }
        for line in self.softdeps.lines() {
            let mut words = line.split_whitespace();
            let (Some("softdep"), Some(name)) = (words.next(), words.next()) else { continue };
            let Some(module) = modules.get_mut(&normal(name)) else { continue };
            let mut list = None;
            for word in words {
                match (word, list) {
                    ("pre:", _) => list = Some(true),
                    ("post:", _) => list = Some(false),
                    (name, Some(true)) => module.pre.push(normal(name)),
                    (name, Some(false)) => module.post.push(normal(name)),
                    (_, None) => {}
                }
            }
        }
        modules
    }
}

/// `kernel/fs/ext4/ext4.ko.xz` is the module `ext4`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split('.').next().unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depmods_tables_are_read() {
        let tables = Tables::new(
            "kernel/a/net-x.ko.xz: kernel/b/core.ko\nkernel/b/core.ko:\n../../etc/evil.ko:\n",
            "# Aliases\nalias pci:v1d* net_x\nalias fs-foo core\n".into(),
            "softdep net_x pre: core post: late\nsoftdep unknown pre: a\n",
            "kernel/fs/ext4/ext4.ko\n",
        );
        let module = tables.module("net_x").unwrap();
        assert_eq!(
            (&module.path[..], &module.needs[..]),
            ("kernel/a/net-x.ko.xz", &["core".to_string()][..])
        );
        assert_eq!(
            (&module.pre[..], &module.post[..]),
            (&["core".to_string()][..], &["late".to_string()][..])
        );
        assert_eq!(tables.resolve("net-x"), ["net_x"]);
        assert_eq!(tables.resolve("fs-foo"), ["core"]);
        assert_eq!(tables.resolve("pci:v1d2"), ["net_x"]);
        assert!(tables.resolve("nothing").is_empty());
        assert!(tables.is_builtin("ext4") && tables.module("evil").is_none());
    }

    #[test]
    fn garbage_is_no_module() {
        let junk = ":::\n\u{0}\nalias\nsoftdep\nsoftdep x pre:\n".to_string();
        let tables = Tables::new(&junk, junk.clone(), &junk, &junk);
        assert!(tables.resolve("x").is_empty());
    }
}
