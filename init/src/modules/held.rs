//! Controllers of disks that the kernel held back.
//!
//! A kernel starts /init once every disk that its own drivers look for has answered, and a dying one takes minutes. So
//! `cloud` hands all controllers to `pci-stub` first, by their class (`pci-stub.ids=`, kernel-configs/disks.config;
//! drivers/pci/pci-stub.c). They are let go of here, once the cards have their drivers; on one processor not before the
//! first login had its time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rescue_schema::paths;

use super::pci::{self, Bus};
use super::pool::{Kernel, Pool};
use super::tables::Tables;
use crate::sys::cmdline::Cmdline;

/// What our kernel says: any vendor, any device, and the class of mass storage. Said anew by whoever boots it, the last
/// one counts, and what he holds back stays so.
const IDS: &str = "ffffffff:ffffffff:ffffffff:ffffffff:010000:ff0000";
/// The PCI class of mass storage.
const STORAGE: &str = "0x01";
/// Longest wait for the first login's time.
const WAIT: Duration = Duration::from_secs(2);

/// Controllers that wait to be let go of, or whose drivers look for disks.
pub(super) struct Held {
    bus: Bus,
    later: PathBuf,
    /// How long they are kept; `None` once they were let go of.
    until: Option<Instant>,
    looking: Pool,
}

impl Kernel for Bus {
    /// One whose driver is a module has none yet.
    fn load(&self, name: &str, _: bool) -> io::Result<bool> {
        self.probe(name).map(|()| true)
    }

    fn is_live(&self, _: &str) -> bool {
        false
    }
}

impl Held {
    /// What the kernel holds back, if it does so.
    pub(super) fn begin(root: &Path, cmdline: &Cmdline, tables: &Arc<Tables>, processors: usize) -> Self {
        let bus = Bus::of(root);
        let holds = cmdline.get("pci-stub.ids") == Some(IDS) && bus.join("drivers/pci-stub").exists();
        let wait = if processors == 1 { WAIT } else { Duration::ZERO };
        // One after the other: disks are named in the order in which they are found.
        let looking = Pool::new(tables.clone(), Arc::new(bus.clone()), 1);
        let later = root.join(paths::LATER.trim_start_matches('/'));
        Self { bus, later, until: holds.then(|| Instant::now() + wait), looking }
    }

    /// Whether they are still held back.
    pub(super) fn holds(&self) -> bool {
        self.until.is_some()
    }

    /// Whether it is time to let go of them.
    pub(super) fn is_due(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until || self.later.exists())
    }

    /// Lets go of them, and has their drivers look at them in the order of their places; one that hangs is left behind.
    pub(super) fn release(&mut self) {
        self.until = None;
        let devices = self.bus.devices();
        let storage = devices.iter().filter(|device| pci::is_of(device, STORAGE));
        let names: Vec<String> = storage.filter_map(|device| pci::name(device)).map(Into::into).collect();
        let stub = self.bus.join("drivers/pci-stub");
        for name in names.iter().filter(|name| stub.join(name).exists()) {
            self.bus.write("drivers/pci-stub/unbind", name);
        }
        // A service that was killed after this has removed it already.
        let _ = std::fs::write(stub.join("remove_id"), IDS.replace(':', " "));
        self.looking.load(names, 19);
    }

    /// Looks after those that were left behind; says whether some are held back, or their drivers still look for disks.
    pub(super) fn look(&mut self) -> bool {
        if self.looking.is_busy() {
            self.looking.load(Vec::new(), 19);
        }
        self.holds() || self.looking.is_busy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(root: &Path, cmdline: &Cmdline, processors: usize) -> Held {
        Held::begin(root, cmdline, &Arc::new(Tables::new("", String::new(), "", "")), processors)
    }

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
        let mut held = begin(root.path(), &ours, 2);
        assert!(held.holds() && held.is_due() && held.look());
        assert!(!begin(root.path(), &ours, 1).is_due(), "one processor is left to the first login");
        held.release();
        while held.look() {
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
            assert!(!begin(root.path(), &Cmdline::parse(words.as_bytes()), 1).look(), "{words}");
        }
        let ours = Cmdline::parse(format!("pci_stub.ids={IDS}").as_bytes());
        let held = begin(root.path(), &ours, 1);
        assert!(held.holds() && !held.is_due());
        std::fs::create_dir_all(root.path().join("run/rescue")).unwrap();
        std::fs::write(root.path().join("run/rescue/later"), "").unwrap();
        assert!(held.is_due(), "what can wait has begun");
    }
}
