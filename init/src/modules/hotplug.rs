//! The service: drivers for the devices that are there, then for those that come.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::cards_first::CardsFirst;
use super::held::Held;
use super::loader::Outcome;
use super::pool::{Loaded, Pool};
use super::{Loader, Tables, nodes};
use crate::sys::cmdline::Cmdline;
use crate::sys::files::read_trimmed;
use crate::sys::log;
use crate::sys::notify::Notice;
use crate::sys::priority;
use crate::sys::uevent::Uevents;

/// Buses whose devices are looked at first: a way in by network lies on one of them, directly or
/// behind one more driver.
const FIRST: [&str; 5] = ["pci", "virtio", "xen", "vmbus", "usb"];
/// How often is looked, in milliseconds, whether drivers that hang have come to an end.
const LOOK_EVERY: u16 = 1000;
/// How often, whether what the kernel holds back may be let go of.
const LOOK_SOON: u16 = 50;
/// Longest announcement that is read; the kernel's limit is 2048 bytes of variables and a path.
const MAX_EVENT: usize = 16 << 10;

/// What the kernel announces.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `add`, `remove`, `change`, …
    pub action: String,
    /// `block`, `net`, `pci`, …
    pub subsystem: String,
    /// `disk` or `partition`, for block devices.
    pub kind: String,
    /// Kernel name of its node or interface.
    pub name: String,
    /// What its driver is looked for by.
    pub modalias: Option<String>,
}

/// Reads an announcement: `ACTION@PATH`, then `KEY=value`, each ended by NUL
/// (`Documentation/ABI/testing/sysfs-uevent`). `None` for anything else.
pub fn parse(message: &[u8]) -> Option<Event> {
    let message = message.get(..message.len().min(MAX_EVENT))?;
    let mut fields = message.split(|b| *b == 0).map(String::from_utf8_lossy);
    fields.next().filter(|head| head.contains('@'))?;
    let mut event = Event::default();
    for field in fields {
        match field.split_once('=') {
            Some(("ACTION", value)) => event.action = value.into(),
            Some(("SUBSYSTEM", value)) => event.subsystem = value.into(),
            Some(("DEVTYPE", value)) => event.kind = value.into(),
            Some(("DEVNAME" | "INTERFACE", value)) => event.name = value.into(),
            Some(("MODALIAS", value)) => event.modalias = Some(value.into()),
            _ => {}
        }
    }
    (!event.action.is_empty()).then_some(event)
}

/// How soon a device gets its driver; the lowest is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// A way in, or the bus that leads to one.
    Network,
    /// Disks that are there as soon as their driver is.
    Disk,
    /// Controllers whose drivers wait for what may hang off them.
    Storage,
    Rest,
}

fn urgency(modalias: &str) -> Urgency {
    let pci_class = |class: &str| modalias.starts_with("pci:") && modalias.contains(class);
    let network = pci_class("bc02")
        // Virtio over PCI: what is behind it shows only once this driver is there.
        || modalias.starts_with("pci:v00001AF4")
        || modalias.starts_with("virtio:d00000001")
        || modalias.starts_with("xen:vif")
        || modalias.starts_with("vmbus:");
    let disk = pci_class("bc01sc08")
        || ["virtio:d00000002", "virtio:d00000008", "xen:vbd"].iter().any(|p| modalias.starts_with(p));
    let storage = pci_class("bc01") || modalias.starts_with("scsi:");
    match (network, disk, storage) {
        (true, _, _) => Urgency::Network,
        (_, true, _) => Urgency::Disk,
        (_, _, true) => Urgency::Storage,
        _ => Urgency::Rest,
    }
}

/// Devices that wait for their drivers.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<Urgency, Vec<String>>,
    /// Modaliases whose drivers were looked for already.
    known: HashSet<String>,
}

impl Queue {
    fn push(&mut self, modalias: &str) {
        if !modalias.is_empty() && self.known.insert(modalias.to_string()) {
            self.waiting.entry(urgency(modalias)).or_default().push(modalias.into());
        }
    }

    /// Whether nothing waits that may be a way in.
    fn cards_are_done(&self) -> bool {
        !self.waiting.contains_key(&Urgency::Network)
    }

    /// All that is most urgent.
    fn pop(&mut self) -> Option<(Urgency, Vec<String>)> {
        self.waiting.pop_first()
    }
}

/// Serves until it is ended.
///
/// # Errors
/// When the kernel's announcements cannot be had.
pub fn serve(root: &Path) -> anyhow::Result<()> {
    // Subscribed before the first look, so that no device falls between the two.
    let events = Uevents::open()?;
    let tables = Arc::new(Tables::observe(root));
    let aliases = tables.aliases();
    let cmdline = Cmdline::observe(root);
    // Not `available_parallelism`: it looks for limits of control groups in a dozen files.
    let processors = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    let processors = usize::try_from(processors).unwrap_or(1);
    let mut held = Held::begin(root, &cmdline, &tables, processors);
    let mut drivers = Drivers::new(root, &tables, &cmdline, processors);
    let mut queue = Queue::default();
    let mut buses = buses(root).into_iter();
    let mut settled = false;
    let mut nodes = Some(|| {
        if let Err(error) = nodes::apply(&nodes::plan(&tables), &root.join("dev")) {
            log::note("modules", &error.to_string());
        }
    });
    let mut first = CardsFirst::begin(root);
    if let Some(pci) = buses.next() {
        coldplug(&pci, &mut queue);
    }
    loop {
        if queue.cards_are_done()
            && let Some(make) = nodes.take()
        {
            // Whoever logs in while disks are still looked for finds them.
            make();
        } else if first.holds() && queue.cards_are_done() {
            priority::set_nice(19);
            first.release();
        } else if held.is_due() && queue.cards_are_done() {
            priority::set_nice(19);
            held.release();
        } else if let Some((urgency, modaliases)) = queue.pop() {
            // What leads to the first login goes first; a driver that probes for half a second does not
            // take the processor from it.
            let nice = if urgency == Urgency::Network { 0 } else { 19 };
            priority::set_nice(nice);
            let wanted: Vec<String> =
                modaliases.iter().flat_map(|m| aliases.matches(m)).map(str::to_string).collect();
            drivers.load(&wanted, nice);
            first.offer();
        } else if let Some(bus) = buses.next() {
            coldplug(&bus, &mut queue);
            continue;
        } else {
            // Both are looked at: what hangs of one keeps nothing of the other from being counted.
            let busy = drivers.look() | held.look();
            if !settled && !busy {
                settled = true;
                priority::set_nice(0);
                Notice::ModulesSettled { loaded: drivers.loaded, failed: drivers.failed }.send();
            }
            let until = match busy {
                _ if held.holds() => PollTimeout::from(LOOK_SOON),
                true => PollTimeout::from(LOOK_EVERY),
                false => PollTimeout::NONE,
            };
            let _ = poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], until);
        }
        if drain(&events, &mut queue)? {
            log::note("modules", "the kernel dropped announcements: looking at every device again");
            buses = self::buses(root).into_iter();
        }
    }
}

/// Loads drivers, and counts them.
struct Drivers {
    loader: Loader,
    pool: Pool,
    loaded: u32,
    failed: u32,
}

impl Drivers {
    fn new(root: &Path, tables: &Arc<Tables>, cmdline: &Cmdline, processors: usize) -> Self {
        let loader = Loader::for_devices(root, tables, cmdline);
        let pool = Pool::new(tables.clone(), loader.kernel(), processors);
        Self { loader, pool, loaded: 0, failed: 0 }
    }

    /// Loads modules with all that they need; those that hang are left behind.
    fn load(&mut self, wanted: &[String], nice: i32) {
        let plan = self.loader.plan_beside(wanted, &|name| self.pool.has(name));
        if !plan.modules.is_empty() {
            log::note("modules", &plan.to_string());
            let done = self.pool.load(plan.modules, nice);
            self.count(done);
        }
    }

    /// Looks after those that were left behind; says whether there are any.
    fn look(&mut self) -> bool {
        if !self.pool.is_busy() {
            return false;
        }
        let done = self.pool.load(Vec::new(), 19);
        self.count(done);
        self.pool.is_busy()
    }

    fn count(&mut self, done: Vec<Loaded>) {
        let Outcome { loaded, failed } = self.loader.outcome(done);
        self.loaded += loaded;
        self.failed += u32::try_from(failed.len()).unwrap_or(u32::MAX);
    }
}

/// Takes the announcements that wait; says whether the kernel had to drop some.
fn drain(events: &Uevents, queue: &mut Queue) -> anyhow::Result<bool> {
    loop {
        match events.pending() {
            Ok(Some(message)) => {
                if let Some(event) = parse(&message) {
                    take(&event, queue);
                }
            }
            Ok(None) => return Ok(false),
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

fn take(event: &Event, queue: &mut Queue) {
    if event.action == "add"
        && let Some(modalias) = &event.modalias
    {
        queue.push(modalias);
    }
    let verb = match event.action.as_str() {
        "add" => "appeared",
        "remove" => "is gone",
        _ => return,
    };
    match (event.subsystem.as_str(), event.kind.as_str()) {
        ("block", "disk") => log::note("modules", &format!("disk {} {verb}", event.name)),
        ("net", _) => log::note("modules", &format!("network link {} {verb}", event.name)),
        _ => {}
    }
}

/// The folders of the devices of each bus, the urgent ones first.
fn buses(root: &Path) -> Vec<PathBuf> {
    let folder = root.join("sys/bus");
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    let rank =
        |name: &std::ffi::OsString| FIRST.iter().position(|first| name == first).unwrap_or(FIRST.len());
    names.sort_by_key(|name| (rank(name), name.clone()));
    names.into_iter().map(|name| folder.join(name).join("devices")).collect()
}

fn coldplug(devices: &Path, queue: &mut Queue) {
    for device in std::fs::read_dir(devices).into_iter().flatten().flatten() {
        if let Some(modalias) = read_trimmed(&device.path().join("modalias")) {
            queue.push(&modalias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_read() {
        let message =
            b"add@/devices/x\0ACTION=add\0SUBSYSTEM=block\0DEVTYPE=disk\0DEVNAME=vda\0MODALIAS=virtio:d2\0";
        let event = parse(message).unwrap();
        assert_eq!((event.action.as_str(), event.kind.as_str(), event.name.as_str()), ("add", "disk", "vda"));
        assert_eq!(event.modalias.as_deref(), Some("virtio:d2"));
    }

    #[test]
    fn garbage_is_no_announcement() {
        for junk in [&b""[..], b"\0\0\0", b"libudev\0ACTION=add", b"add@\0ACTION", &[0xff; 70_000], b"a@b"] {
            assert_eq!(parse(junk), None);
        }
    }

    #[test]
    fn the_way_in_comes_first() {
        let mut queue = Queue::default();
        for modalias in [
            "acpi:PNP0C0C:",
            "pci:v00008086d00007010sv0sd0bc01sc01i80",
            "pci:v00008086d0000100Esv0sd0bc02sc00i00",
            "pci:v00001AF4d00001001sv0sd0bc01sc00i00",
            "virtio:d00000002v00001AF4",
            "acpi:PNP0C0C:",
        ] {
            queue.push(modalias);
        }
        assert_eq!(queue.pop().unwrap().1.len(), 2);
        assert_eq!(queue.pop().unwrap().1, ["virtio:d00000002v00001AF4"]);
        assert_eq!(queue.pop().unwrap().1, ["pci:v00008086d00007010sv0sd0bc01sc01i80"]);
        assert_eq!(queue.pop().unwrap().1, ["acpi:PNP0C0C:"]);
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn urgent_buses_are_looked_at_first() {
        let root = tempfile::tempdir().unwrap();
        for bus in ["acpi", "pci", "virtio"] {
            std::fs::create_dir_all(root.path().join("sys/bus").join(bus).join("devices/d0")).unwrap();
            std::fs::write(
                root.path().join("sys/bus").join(bus).join("devices/d0/modalias"),
                format!("{bus}:x\n"),
            )
            .unwrap();
        }
        let mut queue = Queue::default();
        let buses = buses(root.path());
        assert!(buses[0].ends_with("pci/devices") && buses[2].ends_with("acpi/devices"));
        buses.iter().for_each(|bus| coldplug(bus, &mut queue));
        assert_eq!(queue.pop().unwrap().1, ["pci:x", "virtio:x", "acpi:x"]);
    }
}
