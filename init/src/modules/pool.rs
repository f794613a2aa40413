//! Loading on several threads, so that a driver that waits for its hardware keeps no other from being loaded.
//!
//! A driver looks at its devices while it is loaded, and a dying disk takes minutes to answer. What is not done
//! after [`PATIENCE`] keeps its thread, and another takes that one's place.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::tables::Tables;
use crate::sys::{log, priority};

/// Most threads that load at once. Drivers spend their time waiting for hardware, but each also
/// holds locks of the kernel's.
const MAX_WORKING: usize = 4;
/// Most threads in all: those whose drivers hang are counted here alone.
const MAX_THREADS: usize = 64;
/// How long others wait for a module: longer than nearly all take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the names of modules are handed to, or of others that take their time.
pub(super) trait Kernel: Send + Sync + 'static {
    /// Loads a module; with `at_once` without waiting for devices. Says whether it is new.
    ///
    /// # Errors
    /// Those of finit_module(2).
    fn load(&self, name: &str, at_once: bool) -> io::Result<bool>;

    /// Whether others can use it already: the call that loads it may wait for its devices nevertheless.
    fn is_live(&self, name: &str) -> bool;
}

/// A module and what came of it.
pub(super) type Loaded = (String, io::Result<bool>);

/// Threads that load.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    patience: Duration,
}

struct Shared {
    /// How many threads may work at once.
    at_once: usize,
    work: Mutex<Work>,
    changed: Condvar,
    tables: Arc<Tables>,
    kernel: Arc<dyn Kernel>,
}

/// What the threads share.
#[derive(Default)]
struct Work {
    /// In the order of their plans, so the first of them needs none of the others.
    waiting: Vec<String>,
    running: Vec<Running>,
    done: Vec<Loaded>,
    nice: i32,
}

/// A module that a thread is busy with.
struct Running {
    name: String,
    since: Instant,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    /// It has had its time.
    Hangs,
    /// So it has, but what needs it can be loaded.
    Live,
}

impl Pool {
    /// A pool for so many processors.
    pub(super) fn new(tables: Arc<Tables>, kernel: Arc<dyn Kernel>, processors: usize) -> Self {
        let at_once = processors.clamp(1, MAX_WORKING);
        let shared = Shared { at_once, work: Mutex::default(), changed: Condvar::new(), tables, kernel };
        Self { shared: Arc::new(shared), threads: 0, patience: PATIENCE }
    }

    /// Loads modules that are in the order of a plan, at this nice value. Returns once all are done but those that
    /// hang and what needs them, with all that has come to an end.
    pub(super) fn load(&mut self, modules: Vec<String>, nice: i32) -> Vec<Loaded> {
        let shared = self.shared.clone();
        let mut work = shared.lock();
        work.nice = nice;
        work.waiting.extend(modules);
        loop {
            let next = work.look(shared.kernel.as_ref(), self.patience);
            let working = work.working();
            let wanted = work.waiting.len().min(shared.at_once.saturating_sub(working));
            let free = |threads: usize| threads.saturating_sub(work.running.len());
            while free(self.threads) < wanted && self.threads < MAX_THREADS && self.start() {}
            let can_start = free(self.threads) > 0 && work.ready(&shared.tables).is_some();
            if working == 0 && !can_start {
                return std::mem::take(&mut work.done);
            }
            shared.changed.notify_all();
            let waited = shared.changed.wait_timeout(work, next);
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether something is being loaded still, or waits for what is.
    pub(super) fn is_busy(&self) -> bool {
        let work = self.shared.lock();
        !work.running.is_empty() || !work.waiting.is_empty() || !work.done.is_empty()
    }

    /// Whether a module waits here for another, or is being loaded.
    pub(super) fn has(&self, name: &str) -> bool {
        let work = self.shared.lock();
        work.waiting.iter().any(|other| other == name) || work.running.iter().any(|one| one.name == name)
    }

    fn start(&mut self) -> bool {
        let shared = self.shared.clone();
        let started = std::thread::Builder::new().spawn(move || shared.serve());
        self.threads += usize::from(started.is_ok());
        started.is_ok()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread: it goes on for as long as the process.
    fn serve(&self) {
        let mut work = self.lock();
        let mut nice = None;
        loop {
            let may_work = work.working() < self.at_once;
            let Some(name) = may_work.then(|| work.take_ready(&self.tables)).flatten() else {
                work = self.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (wanted, at_once) = (work.nice, work.running.iter().any(|one| one.state != State::Working));
            drop(work);
            if nice.replace(wanted) != Some(wanted) {
                priority::set_nice(wanted);
            }
            let result = self.kernel.load(&name, at_once);
            work = self.lock();
            work.running.retain(|one| one.name != name);
            work.done.push((name, result));
            self.changed.notify_all();
        }
    }
}

impl Work {
    fn working(&self) -> usize {
        self.running.iter().filter(|one| one.state == State::Working).count()
    }

    /// Looks at what is running; says when to do so again at the latest.
    fn look(&mut self, kernel: &dyn Kernel, patience: Duration) -> Duration {
        let mut next = patience;
        for one in &mut self.running {
            let left = patience.saturating_sub(one.since.elapsed());
            match one.state {
                State::Working if left.is_zero() => {
                    log::note("modules", &format!("{} waits for its devices; others do not", one.name));
                    one.state = State::Hangs;
                }
                State::Working => next = next.min(left),
                State::Hangs | State::Live => {}
            }
            if one.state == State::Hangs && kernel.is_live(&one.name) {
                one.state = State::Live;
            }
        }
        next
    }

    /// Takes the first module that waits for none that is waiting before it or being loaded: it is taken up once
    /// all that it needs has ended, well or not, and the kernel has the last word on whether it can do without.
    fn take_ready(&mut self, tables: &Tables) -> Option<String> {
        let name = self.waiting.remove(self.ready(tables)?);
        self.running.push(Running { name: name.clone(), since: Instant::now(), state: State::Working });
        Some(name)
    }

    /// Where that one stands.
    fn ready(&self, tables: &Tables) -> Option<usize> {
        let ready = |at: usize, name: &String| {
            let before = self.waiting.get(..at).unwrap_or_default();
            let running = self.running.iter().filter(|one| one.state != State::Live).map(|one| &one.name);
            let mut open = before.iter().chain(running);
            let module = tables.module(name);
            // A softdep that comes after must not overtake what it follows.
            let follows = |other: &String| tables.module(other).is_some_and(|m| m.post.contains(name));
            let needs =
                |other: &String| module.is_some_and(|m| m.needs.contains(other) || m.pre.contains(other));
            !open.any(|other| needs(other) || follows(other))
        };
        self.waiting.iter().enumerate().position(|(at, name)| ready(at, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A kernel in which some drivers hang until they are let go.
    #[derive(Default)]
    struct Fake {
        hang: Mutex<HashSet<String>>,
        let_go: Condvar,
        live: HashSet<String>,
        loaded: Mutex<Vec<(String, bool)>>,
    }

    impl Fake {
        fn new(hang: &[String], live: &[&str]) -> Arc<Self> {
            let live = live.iter().map(|name| (*name).into()).collect();
            Arc::new(Self { hang: Mutex::new(hang.iter().cloned().collect()), live, ..Self::default() })
        }

        fn let_go(&self) {
            self.hang.lock().unwrap().clear();
            self.let_go.notify_all();
        }
    }

    impl Kernel for Fake {
        fn load(&self, name: &str, at_once: bool) -> io::Result<bool> {
            self.loaded.lock().unwrap().push((name.into(), at_once));
            let hang = self.hang.lock().unwrap();
            drop(self.let_go.wait_while(hang, |hang| hang.contains(name)).unwrap());
            Ok(true)
        }

        fn is_live(&self, name: &str) -> bool {
            self.live.contains(name)
        }
    }

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_string()).collect()
    }

    fn pool(tables: &str, softdeps: &str, kernel: &Arc<Fake>, processors: usize) -> Pool {
        let tables = Arc::new(Tables::new(tables, String::new(), softdeps, ""));
        Pool::new(tables, kernel.clone(), processors)
    }

    /// One that does not wait for long.
    fn impatient(tables: &str, kernel: &Arc<Fake>, processors: usize) -> Pool {
        Pool { patience: Duration::from_millis(20), ..pool(tables, "", kernel, processors) }
    }

    /// Loads until that one is done, however slow this machine is.
    fn until(pool: &mut Pool, modules: &[&str], awaited: &str) -> Vec<String> {
        let mut done = pool.load(names(modules), 0);
        while pool.has(awaited) {
            done.extend(pool.load(Vec::new(), 0));
        }
        done.extend(pool.load(Vec::new(), 0));
        sorted(done)
    }

    fn sorted(done: Vec<Loaded>) -> Vec<String> {
        let mut names: Vec<String> = done.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    fn until_idle(pool: &mut Pool) -> Vec<String> {
        let mut all = Vec::new();
        while pool.is_busy() {
            all.extend(pool.load(Vec::new(), 0));
        }
        sorted(all)
    }

    #[test]
    fn what_is_needed_has_ended_before() {
        for processors in [1, 3] {
            let kernel = Fake::new(&[], &[]);
            let tables = "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\nd.ko:\n";
            let pool = pool(tables, "softdep d post: a\n", &kernel, processors);
            let mut pool = Pool { patience: Duration::from_secs(600), ..pool };
            assert_eq!(sorted(pool.load(names(&["c", "b", "d", "a"]), 0)), ["a", "b", "c", "d"]);
            let order = kernel.loaded.lock().unwrap().clone();
            let at = |name: &str| order.iter().position(|one| one.0 == name).unwrap();
            assert!(at("c") < at("b") && at("b") < at("a") && at("d") < at("a"), "{order:?}");
            assert!(order.iter().all(|one| !one.1) && !pool.is_busy(), "{order:?}");
        }
    }

    #[test]
    fn drivers_that_hang_keep_no_other_waiting() {
        // More of them than threads that may work at once, and a card that is plugged in behind them.
        let disks: Vec<String> = (0..10).map(|n| format!("disk{n}")).collect();
        let kernel = Fake::new(&disks, &[]);
        let mut pool = impatient("", &kernel, 2);
        assert!(pool.load(disks.clone(), 0).is_empty());
        assert_eq!(until(&mut pool, &["card"], "card"), ["card"]);
        assert!(kernel.loaded.lock().unwrap().contains(&("card".into(), true)), "nor does the kernel wait");
        assert!(pool.has("disk0") && !pool.has("card") && pool.is_busy());
        kernel.let_go();
        assert_eq!(until_idle(&mut pool), disks);
        assert_eq!(until(&mut pool, &["late"], "late"), ["late"]);
        assert!(kernel.loaded.lock().unwrap().contains(&("late".into(), false)));
    }

    #[test]
    fn what_needs_one_that_hangs_waits_unless_it_is_live() {
        let kernel = Fake::new(&names(&["disk", "bus"]), &["bus"]);
        let mut pool = impatient("on_disk.ko: disk.ko\non_bus.ko: bus.ko\n", &kernel, 1);
        assert_eq!(until(&mut pool, &["disk", "on_disk", "bus", "on_bus"], "on_bus"), ["on_bus"]);
        assert!(pool.has("on_disk"));
        kernel.let_go();
        assert_eq!(until_idle(&mut pool), ["bus", "disk", "on_disk"]);
    }

    #[test]
    fn threads_are_bounded_and_one_that_is_let_go_takes_up_what_waits() {
        let many: Vec<String> = (0..MAX_THREADS + 3).map(|n| format!("m{n:03}")).collect();
        let kernel = Fake::new(&many, &[]);
        let mut pool = impatient("", &kernel, MAX_WORKING);
        assert!(pool.load(many.clone(), 0).is_empty());
        let loaded = || kernel.loaded.lock().unwrap().len();
        // A thread that has taken one up may not have come to its load yet.
        while loaded() < MAX_THREADS {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(loaded(), MAX_THREADS);
        kernel.let_go();
        assert_eq!(until_idle(&mut pool), many);
    }
}
