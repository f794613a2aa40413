//! Where cards are: what /sys says of a link's place in the machine (`Documentation/ABI/testing/
//! sysfs-class-net`), by which documents that name no MAC address find their cards.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rescue_schema::network::MacAddress;

use super::links::is_card;
use crate::sys::files::read_trimmed;
use crate::sys::netlink::{Link, Netlink};

/// Most PCI devices and slots that are looked at.
const MOST_DEVICES: usize = 4096;

/// A PCI function: domain, bus, device, function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pci {
    /// Domain, 0 on nearly every machine; virtual ones (Hyper-V, VMD) are past 16 bits.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device, which udev calls the slot.
    pub device: u8,
    /// Function.
    pub function: u8,
}

impl std::str::FromStr for Pci {
    type Err = ();

    /// As the kernel writes it: `0000:01:00.0`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (place, function) = text.split_once('.').ok_or(())?;
        let mut parts = place.split(':');
        let mut hex = |digits: std::ops::RangeInclusive<usize>| {
            let part = parts.next().filter(|p| digits.contains(&p.len())).ok_or(())?;
            u32::from_str_radix(part, 16).map_err(drop)
        };
        let (domain, bus, device) = (hex(4..=8)?, hex(2..=2)?, hex(2..=2)?);
        let function = function.parse().ok().filter(|f| *f < 8).ok_or(())?;
        match parts.next() {
            None => Ok(Self {
                domain,
                bus: u8::try_from(bus).map_err(drop)?,
                device: u8::try_from(device).ok().filter(|d| *d < 32).ok_or(())?,
                function,
            }),
            Some(_) => Err(()),
        }
    }
}

impl std::fmt::Display for Pci {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

/// What tells one card from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// Index of the link.
    pub index: u32,
    /// The kernel's name.
    pub name: String,
    /// The address that it came with.
    pub mac: Option<[u8; 6]>,
    /// It is part of another card (a virtual function behind a paravirtual one), which stands for both.
    pub hidden: bool,
    /// Its PCI function.
    pub pci: Option<Pci>,
    /// Its USB port and interface, as the kernel writes them: `1.2`, `1.0`.
    pub usb: Option<(String, String)>,
    /// Number of the slot that it is in, as the firmware counts.
    pub slot: Option<u32>,
    /// Number that the firmware gives to a card on the board.
    pub onboard: Option<u32>,
    /// Which port of its PCI function it is.
    pub dev_port: u32,
    /// How the hardware calls this port: `p0`.
    pub port_name: Option<String>,
}

impl Card {
    /// Looks at a link below `root`.
    #[must_use]
    pub fn observe(root: &Path, link: &Link) -> Self {
        let class = root.join("sys/class/net").join(&link.name);
        let attribute = |name: &str| read_trimmed(&class.join(name));
        let mut card = Self {
            index: link.index,
            name: link.name.clone(),
            mac: link.identity(),
            dev_port: attribute("dev_port").and_then(|n| n.parse().ok()).unwrap_or(0),
            port_name: attribute("phys_port_name").filter(|n| !n.is_empty()),
            ..Self::default()
        };
        let Ok(device) = std::fs::canonicalize(class.join("device")) else { return card };
        if let Some(function) = card.place(&device) {
            let number = |file: &str| read_trimmed(&function.join(file)).and_then(|n| n.parse().ok());
            card.onboard = number("acpi_index").or_else(|| number("index")).filter(|n| *n > 0);
            card.slot = slot(root, function);
        }
        card
    }

    /// udev's `ID_PATH` of the link of this name below `root`, without the rest of what there is to see.
    #[must_use]
    pub fn path_of(root: &Path, link: &str) -> Option<String> {
        let device = std::fs::canonicalize(root.join("sys/class/net").join(link).join("device")).ok()?;
        let mut card = Self::default();
        card.place(&device)?;
        card.id_path()
    }

    /// Takes note of the PCI function, and the USB port on the way to it, that a device hangs on, and
    /// gives the function's folder.
    fn place<'a>(&mut self, device: &'a Path) -> Option<&'a Path> {
        // The device and those that it hangs on, nearest first; the last part of each is its name.
        for ancestor in device.ancestors() {
            let name = ancestor.file_name().and_then(|n| n.to_str())?;
            if let Ok(pci) = name.parse() {
                self.pci = Some(pci);
                return Some(ancestor);
            }
            if let Some((port, interface)) = name.split_once(':')
                && let Some((_, port)) = port.split_once('-')
            {
                self.usb = Some((port.into(), interface.into()));
            }
        }
        None
    }

    /// udev's `ID_PATH` of a card on PCI.
    #[must_use]
    pub fn id_path(&self) -> Option<String> {
        let pci = self.pci?;
        Some(match &self.usb {
            Some((port, interface)) => format!("pci-{pci}-usb-0:{port}:{interface}"),
            None => format!("pci-{pci}"),
        })
    }
}

impl std::fmt::Display for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mac = self.mac.map(|mac| MacAddress(mac).to_string()).unwrap_or_default();
        let place = self.pci.map_or_else(|| "not on PCI".into(), |pci| pci.to_string());
        write!(f, "{} {mac} {place}", self.name)
    }
}

/// The cards of this process's network, their places as /sys below `root` says.
///
/// # Errors
/// Those of netlink(7).
pub fn observe(root: &Path) -> io::Result<Vec<Card>> {
    let links = Netlink::open()?.links()?;
    let links: BTreeMap<u32, Link> = links.into_iter().map(|link| (link.index, link)).collect();
    let cards = links.values().filter(|link| is_card(link));
    Ok(cards.map(|link| Card { hidden: is_part(link, &links), ..Card::observe(root, link) }).collect())
}

/// Whether a link is part of a card, as a virtual function behind a paravirtual card is.
#[must_use]
pub fn is_part(link: &Link, links: &BTreeMap<u32, Link>) -> bool {
    link.controller.and_then(|index| links.get(&index)).is_some_and(is_card)
}

/// The slot whose address is that of a device or of a bridge above it.
fn slot(root: &Path, device: &Path) -> Option<u32> {
    let slots: Vec<(String, u32)> = std::fs::read_dir(root.join("sys/bus/pci/slots"))
        .ok()?
        .take(MOST_DEVICES)
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // `3`, or `3-1` where the firmware numbers two slots the same: that one is no name.
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((read_trimmed(&entry.path().join("address"))?, number))
        })
        .collect();
    device.ancestors().find_map(|ancestor| {
        let name = ancestor.file_name()?.to_str()?;
        name.parse::<Pci>().ok()?;
        let (place, _) = name.split_once('.')?;
        slots.iter().find(|(address, _)| address == place).map(|(_, number)| *number)
    })
}

/// The PCI functions that are network cards (class 0x02), with or without a driver yet, in order.
#[must_use]
pub fn pci_cards(root: &Path) -> Vec<Pci> {
    let Ok(entries) = std::fs::read_dir(root.join("sys/bus/pci/devices")) else { return Vec::new() };
    let mut all: Vec<Pci> = entries
        .take(MOST_DEVICES)
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pci = entry.file_name().to_str()?.parse().ok()?;
            read_trimmed(&entry.path().join("class"))?.starts_with("0x02").then_some(pci)
        })
        .collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
pub(super) mod testing {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// Puts a card into a tree that stands for /sys.
    pub(in crate::net) fn card(root: &Path, name: &str, device: &str) {
        let device = root.join("sys/devices").join(device);
        std::fs::create_dir_all(&device).unwrap();
        let class = root.join("sys/class/net").join(name);
        std::fs::create_dir_all(&class).unwrap();
        symlink(&device, class.join("device")).unwrap();
        let bus = root.join("sys/bus/pci/devices");
        std::fs::create_dir_all(&bus).unwrap();
        for ancestor in device.ancestors() {
            let Some(name) = ancestor.file_name().and_then(|n| n.to_str()) else { break };
            if name.parse::<super::Pci>().is_ok() {
                std::fs::write(ancestor.join("class"), "0x020000\n").unwrap();
                let _ = symlink(ancestor, bus.join(name));
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(root: &Path, name: &str) -> Card {
        Card::observe(root, &Link { index: 7, name: name.into(), ..Link::default() })
    }

    #[test]
    fn places_are_read() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        testing::card(root, "eth0", "pci0000:00/0000:00:1c.4/0000:03:00.1");
        testing::card(root, "eth1", "pci0000:00/0000:00:03.0/virtio0");
        testing::card(root, "usb0", "pci0000:00/0000:00:14.0/usb3/3-1/3-1.2/3-1.2:1.0");
        testing::card(root, "vif0", "vif-0");
        let slots = root.join("sys/bus/pci/slots");
        for (slot, address) in [("3", "0000:00:03"), ("8", "0000:00:1c"), ("8-1", "0000:03:00")] {
            std::fs::create_dir_all(slots.join(slot)).unwrap();
            std::fs::write(slots.join(slot).join("address"), format!("{address}\n")).unwrap();
        }
        std::fs::write(root.join("sys/devices/pci0000:00/0000:00:03.0/acpi_index"), "1\n").unwrap();
        std::fs::write(root.join("sys/class/net/eth0/phys_port_name"), "p1\n").unwrap();
        let eth0 = observe(root, "eth0");
        assert_eq!(eth0.pci.map(|p| p.to_string()).as_deref(), Some("0000:03:00.1"));
        assert_eq!((eth0.slot, eth0.onboard, eth0.port_name.as_deref()), (Some(8), None, Some("p1")));
        let eth1 = observe(root, "eth1");
        assert_eq!(eth1.id_path().as_deref(), Some("pci-0000:00:03.0"));
        assert_eq!((eth1.slot, eth1.onboard), (Some(3), Some(1)));
        assert_eq!(observe(root, "usb0").id_path().as_deref(), Some("pci-0000:00:14.0-usb-0:1.2:1.0"));
        assert_eq!(observe(root, "vif0").id_path(), None);
        for name in ["eth0", "eth1", "usb0", "vif0", "nothing"] {
            assert_eq!(Card::path_of(root, name), observe(root, name).id_path(), "{name}");
        }
        assert_eq!(observe(root, "nothing").pci, None);
        let cards: Vec<String> = pci_cards(root).iter().map(ToString::to_string).collect();
        assert_eq!(cards, ["0000:00:03.0", "0000:00:14.0", "0000:03:00.1"]);
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "",
            "0000:01:00",
            "0000:01:00.8",
            "0000:01:20.0",
            "1:01:00.0",
            "0000:01:00.0.0",
            "0000:01:00:00.0",
        ] {
            assert!(text.parse::<Pci>().is_err(), "{text}");
        }
        assert_eq!("10000:e1:00.0".parse::<Pci>().unwrap().to_string(), "10000:e1:00.0");
    }
}
