//! `modules.dep`, `modules.alias` and `modules.softdep` in depmod's text formats
//! (modules.dep(5)), for the modules of an image alone. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Module;

/// The three tables.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) dep: String,
    pub(crate) alias: String,
    pub(crate) softdep: String,
}

/// Writes the tables of `modules`, which are complete and sorted by path.
pub(crate) fn tables(modules: &[&Module]) -> Tables {
    let by_name: BTreeMap<&str, &Module> = modules.iter().map(|m| (m.name.as_str(), *m)).collect();
    let mut tables = Tables {
        dep: String::new(),
        alias: "# Aliases extracted from modules themselves.\n".into(),
        softdep: "# Soft dependencies extracted from modules themselves.\n".into(),
    };
    for module in modules {
        tables.dep.push_str(&module.path);
        tables.dep.push(':');
        for path in ordered(module, &by_name) {
            tables.dep.push(' ');
            tables.dep.push_str(path);
        }
        tables.dep.push('\n');
        for alias in &module.aliases {
            tables.alias.push_str(&format!("alias {alias} {}\n", module.name));
        }
        for softdep in &module.softdeps {
            tables.softdep.push_str(&format!("softdep {} {softdep}\n", module.name));
        }
    }
    tables
}

/// All that a module needs, each before what it needs itself: the last is loaded first.
fn ordered<'a>(module: &'a Module, by_name: &BTreeMap<&str, &'a Module>) -> Vec<&'a str> {
    // An explicit stack, because a loop or a long chain in hostile modules must not end in a
    // stack overflow. `true` marks a module whose dependencies are all done.
    let mut done = Vec::new();
    let mut seen = BTreeSet::new();
    let mut stack: Vec<(&Module, bool)> = vec![(module, false)];
    while let Some((module, finished)) = stack.pop() {
        if finished {
            done.push(module.path.as_str());
            continue;
        }
        // Seen when it is its turn, not when it is first named: what a later dependency needs
        // as well has to be done before that one.
        if !seen.insert(module.name.as_str()) {
            continue;
        }
        stack.push((module, true));
        let needed = module.depends.iter().rev().filter_map(|name| by_name.get(name.as_str()));
        stack.extend(needed.map(|next| (*next, false)));
    }
    // The module itself was done last.
    done.pop();
    done.reverse();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, depends: &[&str]) -> Module {
        Module {
            name: name.into(),
            path: format!("kernel/{name}.ko"),
            depends: depends.iter().map(|s| s.to_string()).collect(),
            ..Module::default()
        }
    }

    #[test]
    fn dependencies_are_transitive_and_in_loading_order_from_the_right() {
        let modules = [
            module("net", &["failover", "ring"]),
            module("failover", &[]),
            module("ring", &["bus"]),
            module("bus", &[]),
        ];
        let modules: Vec<&Module> = modules.iter().collect();
        let dep = tables(&modules).dep;
        assert!(dep.starts_with("kernel/net.ko: kernel/ring.ko kernel/bus.ko kernel/failover.ko\n"), "{dep}");
        assert!(dep.contains("\nkernel/bus.ko:\n"), "{dep}");
    }

    #[test]
    fn a_diamond_keeps_what_is_deepest_to_the_right() {
        let modules = [module("top", &["base", "mid"]), module("mid", &["base"]), module("base", &[])];
        let modules: Vec<&Module> = modules.iter().collect();
        assert!(tables(&modules).dep.starts_with("kernel/top.ko: kernel/mid.ko kernel/base.ko\n"));
        let modules = [module("top", &["mid", "base"]), module("mid", &["base"]), module("base", &[])];
        let modules: Vec<&Module> = modules.iter().collect();
        assert!(tables(&modules).dep.starts_with("kernel/top.ko: kernel/mid.ko kernel/base.ko\n"));
    }

    #[test]
    fn loops_end() {
        let modules = [module("a", &["b"]), module("b", &["a", "a"])];
        let modules: Vec<&Module> = modules.iter().collect();
        assert_eq!(tables(&modules).dep, "kernel/a.ko: kernel/b.ko\nkernel/b.ko: kernel/a.ko\n");
    }

    #[test]
    fn aliases_and_soft_dependencies_are_lines() {
        let mut module = module("a", &[]);
        module.aliases = vec!["pci:v*".into()];
        module.softdeps = vec!["pre: b".into()];
        let tables = tables(&[&module]);
        assert!(tables.alias.ends_with("\nalias pci:v* a\n"));
        assert!(tables.softdep.ends_with("\nsoftdep a pre: b\n"));
    }
}
