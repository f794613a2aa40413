//! Controllers of disks that the kernel held back.
//!
//! A kernel starts /init once every disk that its own drivers look for has answered, and a dying one takes minutes. So
//! `cloud` hands all controllers to `pci-stub` first, by their class (`pci-stub.ids=`, kernel-configs/disks.config;
//! drivers/pci/pci-stub.c). They are let go of here, once the cards have their drivers; on one processor not before the
//! first login had its time.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rescue_schema::paths;

use crate::sys::cmdline::Cmdline;
use crate::sys::files::read_trimmed;
use crate::sys::log;

/// What our kernel says: any vendor, any device, and the class of mass storage. Said anew by whoever boots it, the last
/// one counts, and what he holds back stays so.
const IDS: &str = "ffffffff:ffffffff:ffffffff:ffffffff:010000:ff0000";
/// The class as `/sys/bus/pci/devices/*/class` begins with it.
const STORAGE: &str = "0x01";
/// Longest wait for the first login's time.
const WAIT: Duration = Duration::from_secs(2);
/// How long the others wait for the disks of one: longer than nearly all take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Controllers that wait to be let go of, or whose drivers look for disks.
pub(super) struct Held {
    bus: PathBuf,
    /// How long they are kept; `None` once they were let go of.
    until: Option<Instant>,
    /// How many have not been looked at to the end.
    looking: Arc<AtomicUsize>,
}

impl Held {
    /// What the kernel holds back, if it does so.
    pub(super) fn begin(root: &Path, cmdline: &Cmdline, processors: usize) -> Self {
        let bus = root.join("sys/bus/pci");
        let holds = cmdline.get("pci-stub.ids") == Some(IDS) && bus.join("drivers/pci-stub").exists();
        let wait = if processors == 1 { WAIT } else { Duration::ZERO };
        Self { bus, until: holds.then(|| Instant::now() + wait), looking: Arc::default() }
    }

    /// Whether they are still held back.
    pub(super) fn holds(&self) -> bool {
        self.until.is_some()
    }

    /// Whether it is time to let go of them.
    pub(super) fn is_due(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until || Path::new(paths::LATER).exists())
    }

    /// Lets go of them. Their drivers look at them in the order of their places, which the disks are named by; one that
    /// hangs keeps a thread, which may never end.
    pub(super) fn release(&mut self) {
        self.until = None;
        let stub = self.bus.join("drivers/pci-stub");
        let write = |path: &Path, value: &str| {
            if let Err(error) = std::fs::write(path, value) {
                log::note("modules", &format!("writing {value} to {}: {error}", path.display()));
            }
        };
        let devices = std::fs::read_dir(self.bus.join("devices")).into_iter().flatten().flatten();
        let names = devices.filter(|device| {
            read_trimmed(&device.path().join("class")).is_some_and(|class| class.starts_with(STORAGE))
        });
        let mut names: Vec<String> =
            names.filter_map(|device| device.file_name().into_string().ok()).collect();
        names.sort_unstable();
        for name in names.iter().filter(|name| stub.join(name).exists()) {
            write(&stub.join("unbind"), name);
        }
        // A service that was killed after this has removed it already.
        let _ = std::fs::write(stub.join("remove_id"), IDS.replace(':', " "));
        let (probe, left) = (self.bus.join("drivers_probe"), self.looking.clone());
        left.store(names.len(), Ordering::Relaxed);
        let all = move || {
            for name in names {
                let (probe, looking) = (probe.clone(), left.clone());
                let (done, is_done) = mpsc::channel();
                let one = move || {
                    // One whose driver is a module has none yet.
                    let _ = std::fs::write(probe, name);
                    let _ = done.send(());
                    looking.fetch_sub(1, Ordering::Relaxed);
                };
                if thread::Builder::new().spawn(one).is_err() {
                    left.fetch_sub(1, Ordering::Relaxed);
                }
                // Without a thread `done` is gone at once.
                let _ = is_done.recv_timeout(PATIENCE);
            }
        };
        if let Err(error) = thread::Builder::new().spawn(all) {
            self.looking.store(0, Ordering::Relaxed);
            log::note("modules", &format!("no thread to look for disks: {error}"));
        }
    }

    /// Whether some are held back, or their drivers still look for disks.
    pub(super) fn is_busy(&self) -> bool {
        self.holds() || self.looking.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(bus: &Path, name: &str, class: &str, held: bool) {
        let device = bus.join("devices").join(name);
        std::fs::create_dir_all(&device).unwrap();
        std::fs::write(device.join("class"), format!("{class}\n")).unwrap();
        if held {
            std::os::unix::fs::symlink(&device, bus.join("drivers/pci-stub").join(name)).unwrap();
        }
    }

    #[test]
    fn what_the_kernel_holds_back_is_let_go_of() {
        let root = tempfile::tempdir().unwrap();
        let bus = root.path().join("sys/bus/pci");
        let stub = bus.join("drivers/pci-stub");
        std::fs::create_dir_all(&stub).unwrap();
        device(&bus, "0000:00:04.0", "0x010000", true);
        device(&bus, "0000:00:03.0", "0x020000", true);
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let ours = Cmdline::parse(format!("pci-stub.ids={IDS} console=ttyS0").as_bytes());
        let mut held = Held::begin(root.path(), &ours, 2);
        assert!(held.holds() && held.is_due() && held.is_busy());
        assert!(!Held::begin(root.path(), &ours, 1).is_due(), "one processor is left to the first login");
        held.release();
        while held.is_busy() {
            std::thread::yield_now();
        }
        assert_eq!(
            read(&stub.join("unbind")),
            "0000:00:04.0",
            "and not the card, which somebody else holds back"
        );
        assert_eq!(read(&stub.join("remove_id")), "ffffffff ffffffff ffffffff ffffffff 010000 ff0000");
        assert_eq!(read(&bus.join("drivers_probe")), "0000:00:04.0");
        assert!(!held.holds() && !held.is_due());
    }

    #[test]
    fn what_somebody_else_holds_back_stays_so() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("sys/bus/pci/drivers/pci-stub")).unwrap();
        for words in ["", "pci-stub.ids=8086:7010", &format!("pci_stub.ids={IDS} pci-stub.ids=8086:7010")] {
            assert!(!Held::begin(root.path(), &Cmdline::parse(words.as_bytes()), 1).is_busy(), "{words}");
        }
        let ours = Cmdline::parse(format!("pci_stub.ids={IDS}").as_bytes());
        assert!(Held::begin(root.path(), &ours, 1).holds());
    }
}
