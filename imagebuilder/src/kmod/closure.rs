//! Which modules an image needs: those that the globs name, what they depend on, and their soft
//! dependencies as far as the kernel has them. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result, bail};
use globset::{GlobBuilder, GlobMatcher};

use super::{Module, canonical};
use crate::spec::Word;

/// The modules of one kernel, by name and by alias.
pub(crate) struct Modules<'a> {
    by_name: BTreeMap<&'a str, &'a Module>,
    by_alias: HashMap<&'a str, Vec<&'a str>>,
    builtin: BTreeSet<String>,
}

/// What an image takes of a kernel's modules.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closure<'a> {
    /// Sorted by path.
    pub(crate) modules: Vec<&'a Module>,
    /// Globs of ours that a kernel of the user's own has nothing for.
    pub(crate) absent: Vec<&'a Word>,
}

/// `/` in a pattern means a path below `kernel/`, else it is a module's name.
pub(crate) enum Pattern {
    Name(GlobMatcher),
    Path(GlobMatcher),
}

impl Pattern {
    /// Reads one.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn new(word: &Word) -> Result<Self> {
        let text = word.text.as_str();
        let by_path = text.contains('/');
        let glob = if by_path { text.to_string() } else { canonical(text) };
        let matcher = GlobBuilder::new(&glob)
            .literal_separator(true)
            .build()
            .with_context(|| format!("{}: module glob {text:?}", word.at))?
            .compile_matcher();
        Ok(if by_path { Self::Path(matcher) } else { Self::Name(matcher) })
    }

    /// Whether it names the module of this name and path.
    pub(crate) fn matches(&self, name: &str, path: &str) -> bool {
        match self {
            Self::Name(glob) => glob.is_match(name),
            Self::Path(glob) => glob.is_match(path.trim_start_matches("kernel/").trim_end_matches(".ko")),
        }
    }
}

impl<'a> Modules<'a> {
    /// Indexes the modules of a kernel; `builtin` is the text of its `modules.builtin`.
    pub(crate) fn new(modules: &'a [Module], builtin: &str) -> Self {
        let mut by_alias: HashMap<&str, Vec<&str>> = HashMap::new();
        for module in modules {
            for alias in &module.aliases {
                by_alias.entry(alias).or_default().push(&module.name);
            }
        }
        Self {
            by_name: modules.iter().map(|m| (m.name.as_str(), m)).collect(),
            by_alias,
            builtin: builtin.lines().map(|line| line.trim().to_string()).filter(|l| !l.is_empty()).collect(),
        }
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin.iter().any(|path| name_of(path) == name)
    }

    /// Names of the modules that a glob names: none when they are all built into the kernel, `None` when it names
    /// nothing at all.
    ///
    /// # Errors
    /// When it is malformed.
    fn select(&self, glob: &Word) -> Result<Option<Vec<&'a str>>> {
        let pattern = Pattern::new(glob)?;
        let found: Vec<&str> = self
            .by_name
            .values()
            .filter(|m| pattern.matches(&m.name, &m.path))
            .map(|m| m.name.as_str())
            .collect();
        let built_in = || self.builtin.iter().any(|path| pattern.matches(&name_of(path), path));
        Ok((!found.is_empty() || built_in()).then_some(found))
    }

    /// The modules to include. What our families name is in the kernels that they name; who brings another knows
    /// its hardware, and is told what it lacks.
    ///
    /// # Errors
    /// A glob that matches nothing though it must, or a dependency that the kernel does not have.
    pub(crate) fn closure(
        &self,
        wanted: &'a [Word],
        if_present: &[Word],
        without: &[Word],
        foreign: bool,
    ) -> Result<Closure<'a>> {
        let (mut queue, mut absent) = (Vec::new(), Vec::new());
        for glob in wanted {
            match self.select(glob)? {
                Some(found) => queue.extend(found),
                None if foreign && glob.ours => absent.push(glob),
                None => bail!(
                    "{}: module glob {:?} matches no module of this kernel and nothing built into it; correct it{}",
                    glob.at,
                    glob.text,
                    if glob.at.starts_with("--") { "" } else { ", or move it to modules_if_present" }
                ),
            }
        }
        for glob in if_present {
            queue.extend(self.select(glob)?.unwrap_or_default());
        }
        let without = without.iter().map(Pattern::new).collect::<Result<Vec<_>>>()?;
        queue.retain(|name| {
            self.by_name.get(name).is_none_or(|m| !without.iter().any(|p| p.matches(&m.name, &m.path)))
        });
        let mut chosen: BTreeMap<&str, &Module> = BTreeMap::new();
        while let Some(name) = queue.pop() {
            let Some(module) = self.by_name.get(name) else { continue };
            if chosen.insert(&module.path, module).is_some() {
                continue;
            }
            for dependency in &module.depends {
                match self.by_name.get(dependency.as_str()) {
                    Some(found) => queue.push(&found.name),
                    None if self.is_builtin(dependency) => {}
                    None => bail!(
                        "module {} needs {dependency}, which this kernel's modules do not have; \
                         is the modules directory complete?",
                        module.name
                    ),
                }
            }
            for softdep in &module.softdeps {
                for name in softdep_names(softdep) {
                    queue.extend(self.named(name));
                }
            }
        }
        Ok(Closure { modules: chosen.into_values().collect(), absent })
    }

    /// Modules of that name or alias. A soft dependency may well name one that is not there.
    fn named(&self, name: &str) -> Vec<&'a str> {
        let plain = canonical(name);
        match self.by_name.get(plain.as_str()) {
            Some(module) => vec![&module.name],
            None => self.by_alias.get(name).cloned().unwrap_or_default(),
        }
    }
}

/// The names in `pre: a b post: c`.
fn softdep_names(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace().filter(|word| !word.ends_with(':'))
}

fn name_of(path: &str) -> String {
    canonical(path.rsplit('/').next().unwrap_or(path).trim_end_matches(".ko"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, depends: &[&str], softdeps: &[&str], aliases: &[&str]) -> Module {
        let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
        Module {
            name: name_of(path),
            bytes: 0,
            path: path.into(),
            depends: own(depends),
            softdeps: own(softdeps),
            aliases: own(aliases),
            firmware: Vec::new(),
            release: "6.1".into(),
        }
    }

    fn names(modules: &[Module], builtin: &str, wanted: &[&str], without: &[&str]) -> Result<Vec<String>> {
        let own = |list: &[&str]| list.iter().map(|s| Word::of_option("f:1", s)).collect::<Vec<_>>();
        let index = Modules::new(modules, builtin);
        let wanted = own(wanted);
        let closure = index.closure(&wanted, &[], &own(without), true)?;
        Ok(closure.modules.iter().map(|m| m.name.clone()).collect())
    }

    fn sample() -> Vec<Module> {
        vec![
            module("kernel/fs/fat/vfat.ko", &["fat"], &[], &["fs-vfat"]),
            module("kernel/fs/fat/fat.ko", &[], &[], &[]),
            module("kernel/fs/xfs/xfs.ko", &["libcrc32c"], &[], &[]),
            module("kernel/lib/libcrc32c.ko", &[], &["pre: crc32c post: absent"], &[]),
            module("kernel/crypto/crc32c-intel.ko", &[], &[], &["crc32c"]),
            module("kernel/a.ko", &["b"], &[], &[]),
            module("kernel/b.ko", &["a"], &["pre: a"], &[]),
            module("kernel/c.ko", &["gone"], &[], &[]),
        ]
    }

    #[test]
    fn dependencies_follow() {
        assert_eq!(names(&sample(), "", &["vfat"], &[]).unwrap(), ["fat", "vfat"]);
    }

    #[test]
    fn soft_dependencies_follow_by_alias_and_may_be_absent() {
        assert_eq!(names(&sample(), "", &["xfs"], &[]).unwrap(), ["crc32c_intel", "xfs", "libcrc32c"]);
    }

    #[test]
    fn loops_end() {
        assert_eq!(names(&sample(), "", &["a"], &[]).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_missing_dependency_is_named() {
        let text = format!("{:#}", names(&sample(), "", &["c"], &[]).unwrap_err());
        assert!(text.contains("module c needs gone"), "{text}");
        assert_eq!(names(&sample(), "kernel/lib/gone.ko\n", &["c"], &[]).unwrap(), ["c"]);
    }

    #[test]
    fn globs_match_names_paths_and_what_is_built_in() {
        assert_eq!(names(&sample(), "", &["fs/fat/*"], &[]).unwrap(), ["fat", "vfat"]);
        assert_eq!(names(&sample(), "", &["crc32c-*"], &[]).unwrap(), ["crc32c_intel"]);
        assert_eq!(names(&sample(), "kernel/fs/ext4/ext4.ko\n", &["ext4"], &[]).unwrap(), [""; 0]);
        let error = names(&sample(), "", &["ext4"], &[]).unwrap_err().to_string();
        assert!(error.starts_with("f:1: module glob \"ext4\" matches no module"), "{error}");
        assert!(names(&sample(), "", &["[z"], &[]).is_err());
    }

    #[test]
    fn a_kernel_of_the_users_own_may_lack_what_our_families_name_and_not_what_the_user_names() {
        let modules = sample();
        let index = Modules::new(&modules, "kernel/drivers/net/virtio_net.ko\n");
        let word = |text: &str, ours: bool| {
            let mut word = Word::of_option("f:1", text);
            word.ours = ours;
            word
        };
        let ours = ["virtio_net", "vfat", "mpt3sas"].map(|text| word(text, true));
        let closure = index.closure(&ours, &[], &[], true).unwrap();
        assert_eq!((closure.modules.len(), closure.absent), (2, vec![&ours[2]]));
        let error = index.closure(&ours, &[], &[], false).unwrap_err().to_string();
        assert!(error.starts_with("f:1: module glob \"mpt3sas\" matches no module"), "{error}");
        assert!(index.closure(&[word("mpt3sas", false)], &[], &[], true).is_err());
    }

    #[test]
    fn what_is_unwanted_stays_out_unless_it_is_needed() {
        assert_eq!(names(&sample(), "", &["fs/**"], &["xfs"]).unwrap(), ["fat", "vfat"]);
        assert_eq!(names(&sample(), "", &["vfat"], &["fat"]).unwrap(), ["fat", "vfat"]);
    }
}
