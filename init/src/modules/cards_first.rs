//! Network cards before the other devices of their driver.
//!
//! Every virtio device on PCI has the one driver `virtio_pci`, and a driver looks at all of its devices
//! while it is loaded. To enable one the kernel evaluates the firmware's interrupt routing (`_PRT`), which
//! an emulated PC computes anew each time: some 100 ms a device under QEMU's TCG. So while a card waits for
//! its driver, the bus offers devices to drivers only when asked to (`drivers_autoprobe`,
//! `drivers_probe`; drivers/base/bus.c): the cards are asked for first, the others once they have theirs.

use std::path::{Path, PathBuf};

use super::pci::{self, Bus};
use crate::sys::files::read_trimmed;

/// The vendor of virtio devices.
const VIRTIO: &str = "0x1af4";
/// The PCI class of network cards.
const NETWORK: &str = "0x02";

/// Devices of the PCI bus that are held back for as long as this lives.
pub(super) struct CardsFirst {
    bus: Bus,
    holds: bool,
}

impl CardsFirst {
    /// Holds the other devices back where virtio cards and others wait for their driver.
    pub(super) fn begin(root: &Path) -> Self {
        let mut this = Self { bus: Bus::of(root), holds: false };
        let virtio = |path: &PathBuf| read_trimmed(&path.join("vendor")).is_some_and(|v| v == VIRTIO);
        let (cards, others): (Vec<_>, Vec<_>) = this.waiting().filter(virtio).partition(|path| is_card(path));
        if !cards.is_empty() && !others.is_empty() {
            this.holds = this.bus.write("drivers_autoprobe", "0");
        } else if read_trimmed(&this.bus.join("drivers_autoprobe")).is_some_and(|on| on == "0") {
            // A service that was killed while it held devices back left the bus so.
            this.holds = true;
        }
        this
    }

    /// Whether devices are held back.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Offers the cards to the drivers that are there.
    pub(super) fn offer(&self) {
        if self.holds {
            self.waiting().filter(|path| is_card(path)).for_each(|path| self.probe(&path));
        }
    }

    /// Holds nothing back any more.
    pub(super) fn release(&mut self) {
        if std::mem::take(&mut self.holds) {
            self.bus.write("drivers_autoprobe", "1");
            self.waiting().for_each(|path| self.probe(&path));
        }
    }

    /// The devices without a driver, in the order of their places: the first card is to be `eth0`, as it
    /// would be had the kernel gone through them.
    fn waiting(&self) -> impl Iterator<Item = PathBuf> + use<> {
        self.bus.devices().into_iter().filter(|path| !path.join("driver").exists())
    }

    fn probe(&self, device: &Path) {
        // Most devices have no driver at all, and one that was unplugged is no error.
        let _ = pci::name(device).map(|name| self.bus.probe(name));
    }
}

impl Drop for CardsFirst {
    fn drop(&mut self) {
        self.release();
    }
}

fn is_card(device: &Path) -> bool {
    pci::is_of(device, NETWORK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(bus: &Path, name: &str, vendor: &str, class: &str) {
        let device = bus.join("devices").join(name);
        std::fs::create_dir_all(&device).unwrap();
        std::fs::write(device.join("vendor"), format!("{vendor}\n")).unwrap();
        std::fs::write(device.join("class"), format!("{class}\n")).unwrap();
    }

    #[test]
    fn the_card_is_asked_for_first_and_nothing_stays_held() {
        let root = tempfile::tempdir().unwrap();
        let bus = root.path().join("sys/bus/pci");
        let read = |file: &str| std::fs::read_to_string(bus.join(file)).unwrap();
        device(&bus, "0000:00:03.0", VIRTIO, "0x020000");
        std::fs::write(bus.join("drivers_autoprobe"), "1\n").unwrap();
        std::fs::write(bus.join("drivers_probe"), "").unwrap();
        assert!(!CardsFirst::begin(root.path()).holds(), "there is nothing to hold back");
        assert_eq!(read("drivers_autoprobe"), "1\n");

        device(&bus, "0000:00:04.0", VIRTIO, "0x010000");
        let mut first = CardsFirst::begin(root.path());
        assert!(first.holds());
        assert_eq!(read("drivers_autoprobe"), "0");
        first.offer();
        assert_eq!(read("drivers_probe"), "0000:00:03.0");
        std::fs::create_dir(bus.join("devices/0000:00:03.0/driver")).unwrap();
        first.release();
        assert!(!first.holds());
        assert_eq!((read("drivers_autoprobe"), read("drivers_probe")), ("1".into(), "0000:00:04.0".into()));
    }

    #[test]
    fn what_a_killed_service_held_back_is_released() {
        let root = tempfile::tempdir().unwrap();
        let bus = root.path().join("sys/bus/pci");
        device(&bus, "0000:00:04.0", VIRTIO, "0x010000");
        std::fs::write(bus.join("drivers_autoprobe"), "0\n").unwrap();
        drop(CardsFirst::begin(root.path()));
        assert_eq!(std::fs::read_to_string(bus.join("drivers_autoprobe")).unwrap(), "1");
        assert_eq!(std::fs::read_to_string(bus.join("drivers_probe")).unwrap(), "0000:00:04.0");
    }
}
