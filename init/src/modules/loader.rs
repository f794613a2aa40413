//! Carrying plans out.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::order::{Plan, plan};
use super::pool::{Kernel, Loaded};
use super::tables::{Tables, normal};
use crate::sys::packed;

use crate::sys::cmdline::Cmdline;
use crate::sys::{kmod, log};

/// Has the kernel hand a module over as soon as it is there. Without it finit_module(2) waits until every device that
/// is being looked at has answered, of whatever driver: while one disk hangs, no file system could be had for the
/// others (do_init_module in the kernel's kernel/module/main.c).
const AT_ONCE: &str = "async_probe";

/// Modules that are handed over in the kernel's own order, and why: [`AT_ONCE`] they would be live before the kernel had
/// looked at any of their devices.
const IN_ORDER: [(&str, &str); 2] = [
    ("ipmi_si", "counts its devices as soon as it has asked for them, and gives up where there is none"),
    ("qemu_fw_cfg", "what it shows is read as soon as it is live"),
];

/// Modules that no device's presence loads, and why.
const UNWANTED: [(&str, &str); 4] = [
    ("evbug", "writes every key that is pressed to the kernel log, passwords too"),
    ("floppy", "waits many seconds for a drive that is not there"),
    ("nouveau", "can hang a machine whose card it does not know, and a text console needs no driver"),
    ("pcspkr", "beeps"),
];

/// Loads modules, and remembers what would not load so that it is said once.
pub struct Loader {
    insert: Arc<Insert>,
    blacklist: HashSet<String>,
    failed: HashSet<String>,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Modules that are new in the kernel.
    pub loaded: u32,
    /// A line for each that would not load.
    pub failed: Vec<String>,
}

impl Loader {
    /// A loader with the blacklist (`module_blacklist=`, `modprobe.blacklist=`, `rescue.blacklist=`) and
    /// the module parameters (`virtio_net.napi_tx=0`) of a kernel command line.
    pub fn new(root: &Path, tables: &Arc<Tables>, cmdline: &Cmdline) -> Self {
        let mut blacklist: HashSet<String> = HashSet::new();
        for name in ["module_blacklist", "modprobe.blacklist", "rescue.blacklist"] {
            blacklist.extend(cmdline.all(name).flat_map(|list| list.split(',')).map(normal));
        }
        let mut parameters: HashMap<String, String> = HashMap::new();
        for (name, value) in cmdline.iter() {
            let Some((module, parameter)) = name.split_once('.') else { continue };
            let entry = parameters.entry(normal(module)).or_default();
            entry.push_str(if entry.is_empty() { "" } else { " " });
            entry.push_str(parameter);
            match value {
                Some(value) if value.contains(char::is_whitespace) => {
                    entry.push_str(&format!("=\"{value}\""))
                }
                Some(value) => entry.push_str(&format!("={value}")),
                None => {}
            }
        }
        let insert = Insert { root: root.into(), tables: tables.clone(), parameters };
        Self { insert: Arc::new(insert), blacklist, failed: HashSet::new() }
    }

    /// As [`Self::new`], for what devices ask for: modules that nobody wants by accident stay out.
    pub fn for_devices(root: &Path, tables: &Arc<Tables>, cmdline: &Cmdline) -> Self {
        let mut loader = Self::new(root, tables, cmdline);
        loader.blacklist.extend(UNWANTED.iter().map(|(name, _)| name.to_string()));
        loader
    }

    /// Parameters for one module, before those of the command line.
    pub fn set_parameters(&mut self, module: &str, parameters: &str) {
        let entry = Arc::make_mut(&mut self.insert).parameters.entry(normal(module)).or_default();
        *entry = format!("{parameters} {entry}").trim().to_string();
    }

    /// The plan for modules that are wanted by name.
    pub fn plan(&self, wanted: &[String]) -> Plan {
        self.plan_beside(wanted, &|_| false)
    }

    /// As [`Self::plan`], beside what is on its way already.
    pub(super) fn plan_beside(&self, wanted: &[String], coming: &dyn Fn(&str) -> bool) -> Plan {
        let root = &self.insert.root;
        let done = |name: &str| self.failed.contains(name) || coming(name) || kmod::is_loaded(root, name);
        plan(&self.insert.tables, wanted, &done, &self.blacklist)
    }

    /// Loads modules with all that they need, one after the other.
    pub fn load(&mut self, wanted: &[String]) -> Outcome {
        let plan = self.plan(wanted);
        if !plan.modules.is_empty() {
            log::note("modules", &plan.to_string());
        }
        let results = plan.modules.into_iter().map(|name| {
            let result = self.insert.load(&name, true);
            (name, result)
        });
        let results = results.collect();
        self.outcome(results)
    }

    /// Remembers what would not load, and says so.
    pub(super) fn outcome(&mut self, results: Vec<Loaded>) -> Outcome {
        let mut outcome = Outcome::default();
        for (name, result) in results {
            match result {
                Ok(new) => outcome.loaded += u32::from(new),
                // The driver looked and found nothing that it drives: an answer, not a failure.
                Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => {
                    log::note("modules", &format!("{name} found nothing to drive"));
                    self.failed.insert(name);
                }
                Err(error) => {
                    let line = format!("loading {name}: {error}");
                    log::note("modules", &line);
                    self.failed.insert(name);
                    outcome.failed.push(line);
                }
            }
        }
        outcome
    }

    /// What hands its modules to the kernel.
    pub(super) fn kernel(&self) -> Arc<dyn Kernel> {
        self.insert.clone()
    }
}

/// Hands modules to the kernel with their parameters.
#[derive(Debug, Clone)]
struct Insert {
    root: PathBuf,
    tables: Arc<Tables>,
    parameters: HashMap<String, String>,
}

impl Insert {
    fn parameters_of(&self, name: &str, at_once: bool) -> String {
        let own = self.parameters.get(name).map(String::as_str).unwrap_or_default();
        match at_once && !IN_ORDER.iter().any(|row| row.0 == name) {
            true => format!("{AT_ONCE} {own}").trim().to_string(),
            false => own.to_string(),
        }
    }
}

impl Kernel for Insert {
    fn load(&self, name: &str, at_once: bool) -> std::io::Result<bool> {
        let Some(module) = self.tables.module(name) else { return Ok(false) };
        let parameters = self.parameters_of(name, at_once);
        let path = self.tables.path(module);
        match path.extension().is_some_and(|end| end == "zst") {
            true => kmod::load_bytes(&packed::unpack(&std::fs::read(path)?)?, &parameters),
            false => kmod::load(&path, &parameters),
        }
    }

    fn is_live(&self, name: &str) -> bool {
        kmod::is_live(&self.root, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_sets_blacklist_and_parameters() {
        let tables = Tables::new("a.ko:\nb.ko:\nevbug.ko:\n", String::new(), "", "");
        let cmdline = Cmdline::parse(b"module_blacklist=b,c-d a.x=1 a.y a.z=\"1 2\" quiet=1");
        let loader = Loader::for_devices(Path::new("/nowhere"), &Arc::new(tables), &cmdline);
        let parameters = |name: &str, at_once| loader.insert.parameters_of(name, at_once);
        assert_eq!(parameters("a", false), "x=1 y z=\"1 2\"");
        assert_eq!(parameters("b", false), "");
        assert_eq!(parameters("a", true), "async_probe x=1 y z=\"1 2\"");
        assert_eq!(parameters("b", true), "async_probe");
        assert!(IN_ORDER.iter().all(|(name, _)| parameters(name, true).is_empty()));
        let plan = loader.plan(&["a".into(), "b".into(), "evbug".into()]);
        assert_eq!(plan.to_string(), "load a, not b (blacklisted), not evbug (blacklisted)");
    }

    #[test]
    fn what_fails_is_tried_and_told_once() {
        let tables = Tables::new(
            "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\nd.ko:\n",
            String::new(),
            "softdep d post: a\n",
            "",
        );
        let mut loader = Loader::new(Path::new("/nowhere"), &Arc::new(tables), &Cmdline::default());
        let outcome = loader.load(&["d".into(), "a".into()]);
        // None of the files is there: each fails, once, and the second time nothing is tried.
        assert_eq!(outcome.failed.len(), 4, "{outcome:?}");
        assert!(loader.load(&["a".into()]).failed.is_empty());
    }
}
