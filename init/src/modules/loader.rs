//! Carrying plans out.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use nix::errno::Errno;

use super::order::{Plan, plan};
use super::tables::{Tables, normal};
use crate::sys::packed;

use crate::sys::cmdline::Cmdline;
use crate::sys::{kmod, log};

/// Most threads that load at once. Drivers spend their time waiting for hardware, but each also
/// holds locks of the kernel's.
const MAX_THREADS: usize = 4;

/// Modules that no device's presence loads, and why.
const UNWANTED: [(&str, &str); 4] = [
    ("evbug", "writes every key that is pressed to the kernel log, passwords too"),
    ("floppy", "waits many seconds for a drive that is not there"),
    ("nouveau", "can hang a machine whose card it does not know, and a text console needs no driver"),
    ("pcspkr", "beeps"),
];

/// Loads modules, and remembers what would not load so that it is said once.
pub struct Loader<'a> {
    root: PathBuf,
    tables: &'a Tables,
    blacklist: HashSet<String>,
    parameters: HashMap<String, String>,
    failed: HashSet<String>,
    threads: usize,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Modules that are new in the kernel.
    pub loaded: u32,
    /// A line for each that would not load.
    pub failed: Vec<String>,
}

impl<'a> Loader<'a> {
    /// A loader with the blacklist (`module_blacklist=`, `modprobe.blacklist=`, `rescue.blacklist=`) and
    /// the module parameters (`virtio_net.napi_tx=0`) of a kernel command line.
    pub fn new(root: &Path, tables: &'a Tables, cmdline: &Cmdline) -> Self {
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
        // Not `available_parallelism`: it looks for limits of control groups in a dozen files.
        let processors = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
        let processors = usize::try_from(processors).unwrap_or(1);
        Self {
            root: root.into(),
            tables,
            blacklist,
            parameters,
            failed: HashSet::new(),
            threads: processors.min(MAX_THREADS),
        }
    }

    /// As [`Self::new`], for what devices ask for: modules that nobody wants by accident stay out.
    pub fn for_devices(root: &Path, tables: &'a Tables, cmdline: &Cmdline) -> Self {
        let mut loader = Self::new(root, tables, cmdline);
        loader.blacklist.extend(UNWANTED.iter().map(|(name, _)| name.to_string()));
        loader
    }

    /// Parameters for one module, before those of the command line.
    pub fn set_parameters(&mut self, module: &str, parameters: &str) {
        let entry = self.parameters.entry(normal(module)).or_default();
        *entry = format!("{parameters} {entry}").trim().to_string();
    }

    /// The plan for modules that are wanted by name.
    pub fn plan(&self, wanted: &[String]) -> Plan {
        let done = |name: &str| self.failed.contains(name) || kmod::is_loaded(&self.root, name);
        plan(self.tables, wanted, &done, &self.blacklist)
    }

    /// Loads modules with all that they need.
    pub fn load(&mut self, wanted: &[String]) -> Outcome {
        let plan = self.plan(wanted);
        if !plan.modules.is_empty() {
            log::note("modules", &plan.to_string());
        }
        let results = match self.threads {
            0 | 1 => plan.modules.iter().map(|name| (name.clone(), self.insert(name))).collect(),
            threads => self.load_in_parallel(&plan, threads),
        };
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

    fn insert(&self, name: &str) -> std::io::Result<bool> {
        let Some(module) = self.tables.module(name) else { return Ok(false) };
        let parameters = self.parameters.get(name).map(String::as_str).unwrap_or_default();
        let path = self.tables.path(module);
        match path.extension().is_some_and(|end| end == "zst") {
            true => kmod::load_bytes(&packed::unpack(&std::fs::read(path)?)?, parameters),
            false => kmod::load(&path, parameters),
        }
    }

    /// A module is taken up once all that it needs has ended, well or not: the kernel has the last
    /// word on whether it can do without.
    fn load_in_parallel(&self, plan: &Plan, threads: usize) -> Vec<(String, std::io::Result<bool>)> {
        let work = Mutex::new(Work {
            waiting: plan.modules.iter().collect(),
            running: Vec::new(),
            done: Vec::new(),
        });
        let changed = Condvar::new();
        std::thread::scope(|scope| {
            for _ in 0..threads.min(plan.modules.len()) {
                scope.spawn(|| {
                    let mut guard = work.lock().unwrap_or_else(PoisonError::into_inner);
                    loop {
                        if guard.waiting.is_empty() {
                            return;
                        }
                        let Some(name) = guard.take_ready(self.tables) else {
                            guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                            continue;
                        };
                        drop(guard);
                        let result = self.insert(name);
                        guard = work.lock().unwrap_or_else(PoisonError::into_inner);
                        guard.running.retain(|other| *other != name);
                        guard.done.push((name.clone(), result));
                        changed.notify_all();
                    }
                });
            }
        });
        work.into_inner().unwrap_or_else(PoisonError::into_inner).done
    }
}

/// What the threads share.
struct Work<'a> {
    /// In the order of the plan, so the first of them needs none of the others.
    waiting: Vec<&'a String>,
    running: Vec<&'a String>,
    done: Vec<(String, std::io::Result<bool>)>,
}

impl<'a> Work<'a> {
    /// The first module that waits for none that is waiting before it or running.
    fn take_ready(&mut self, tables: &Tables) -> Option<&'a String> {
        let ready = |at: usize, name: &String| {
            let before = self.waiting.get(..at).unwrap_or_default();
            let module = tables.module(name);
            let needs = module.into_iter().flat_map(|m| m.needs.iter().chain(&m.pre));
            let mut open = needs.filter(|need| before.contains(need) || self.running.contains(need));
            // A softdep that comes after must not overtake what it follows.
            let follows = |other: &&String| tables.module(other).is_some_and(|m| m.post.contains(name));
            open.next().is_none() && !before.iter().any(follows) && !self.running.iter().any(follows)
        };
        let at = self.waiting.iter().enumerate().position(|(at, name)| ready(at, name))?;
        let name = self.waiting.remove(at);
        self.running.push(name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_sets_blacklist_and_parameters() {
        let tables = Tables::new("a.ko:\nb.ko:\nevbug.ko:\n", String::new(), "", "");
        let cmdline = Cmdline::parse(b"module_blacklist=b,c-d a.x=1 a.y a.z=\"1 2\" quiet=1");
        let loader = Loader::for_devices(Path::new("/nowhere"), &tables, &cmdline);
        assert_eq!(loader.parameters["a"], "x=1 y z=\"1 2\"");
        let plan = loader.plan(&["a".into(), "b".into(), "evbug".into()]);
        assert_eq!(plan.to_string(), "load a, not b (blacklisted), not evbug (blacklisted)");
    }

    #[test]
    fn threads_keep_the_order_and_end() {
        let tables = Tables::new(
            "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\nd.ko:\n",
            String::new(),
            "softdep d post: a\n",
            "",
        );
        let mut loader = Loader::new(Path::new("/nowhere"), &tables, &Cmdline::default());
        loader.threads = 3;
        let outcome = loader.load(&["d".into(), "a".into()]);
        // None of the files is there: each fails, once, and the second time nothing is tried.
        assert_eq!(outcome.failed.len(), 4, "{outcome:?}");
        assert!(loader.load(&["a".into()]).failed.is_empty());
    }

    #[test]
    fn what_is_needed_has_ended_before() {
        let tables = Tables::new("a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\nd.ko:\n", String::new(), "", "");
        let names: Vec<String> = ["c", "b", "a", "d"].map(String::from).into();
        let mut work = Work { waiting: names.iter().collect(), running: Vec::new(), done: Vec::new() };
        assert_eq!(work.take_ready(&tables).unwrap(), "c");
        assert_eq!(work.take_ready(&tables).unwrap(), "d");
        assert_eq!(work.take_ready(&tables), None);
        work.running.clear();
        assert_eq!(work.take_ready(&tables).unwrap(), "b");
        assert_eq!(work.take_ready(&tables), None);
    }
}
