//! Names that say which card it is: systemd.net-naming-scheme(7), read and written.

use super::cards::{Card, Pci};

/// What a predictable name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Predictable {
    place: Place,
    function: Option<u8>,
    pub(super) port: Option<Port>,
    /// Ports of the hubs on the way: `u1u2` is `1.2`; and the interface.
    usb: Option<(String, Option<u32>)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// `enx525400123456`
    Mac([u8; 6]),
    /// `eno1`
    Onboard(u32),
    /// `ens3`, `enP1s3`
    Slot(u32),
    /// `enp1s0`, `enP1p1s0`
    Pci { domain: u32, bus: u32, device: u32 },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// `d1`
    Number(u32),
    /// `np0`
    Name(String),
}

impl Port {
    pub(super) fn fits(&self, card: &Card) -> bool {
        match self {
            Self::Number(n) => card.dev_port == *n,
            Self::Name(name) => card.port_name.as_ref() == Some(name),
        }
    }
}

impl Predictable {
    /// Reads a name; none where it is no predictable one.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("en")?;
        let plain = |place| Self { place, function: None, port: None, usb: None };
        if let Some(hex) = rest.strip_prefix('x').filter(|hex| hex.len() == 12) {
            let bytes = u64::from_str_radix(hex, 16).ok()?.to_be_bytes();
            return Some(plain(Place::Mac(*bytes.last_chunk()?)));
        }
        let (place, rest) = if let Some(rest) = rest.strip_prefix('o') {
            let (n, rest) = number(rest)?;
            (Place::Onboard(n), rest)
        } else {
            let (domain, rest) = match rest.strip_prefix('P') {
                Some(rest) => number(rest)?,
                None => (0, rest),
            };
            match rest.strip_prefix('p') {
                Some(rest) => {
                    let (bus, rest) = number(rest)?;
                    let (device, rest) = number(rest.strip_prefix('s')?)?;
                    (Place::Pci { domain, bus, device }, rest)
                }
                None => {
                    let (slot, rest) = number(rest.strip_prefix('s')?)?;
                    (Place::Slot(slot), rest)
                }
            }
        };
        plain(place).suffixes(rest)
    }

    fn suffixes(mut self, mut rest: &str) -> Option<Self> {
        while let Some(letter) = rest.chars().next() {
            let value = rest.get(letter.len_utf8()..)?;
            if letter == 'n' {
                self.port = Some(Port::Name(value.into()));
                return (!value.is_empty()).then_some(self);
            }
            let (n, after) = number(value)?;
            match letter {
                'f' => self.function = Some(u8::try_from(n).ok()?),
                'd' => self.port = Some(Port::Number(n)),
                'u' => match &mut self.usb {
                    Some((ports, _)) => ports.push_str(&format!(".{n}")),
                    None => self.usb = Some((n.to_string(), None)),
                },
                'i' => self.usb.as_mut()?.1 = Some(n),
                // Virtual functions, controllers and what else schemes add: nothing that we can follow.
                _ => return None,
            }
            rest = after;
        }
        Some(self)
    }

    pub(super) fn fits(&self, card: &Card) -> bool {
        let function = |pci: Pci| pci.function == self.function.unwrap_or(0);
        let place = match self.place {
            Place::Mac(mac) => return card.mac == Some(mac),
            Place::Onboard(n) => card.onboard == Some(n),
            Place::Slot(n) => card.slot == Some(n) && card.pci.is_some_and(function),
            Place::Pci { domain, bus, device } => card.pci.is_some_and(|pci| {
                let same = (pci.domain, u32::from(pci.bus), u32::from(pci.device)) == (domain, bus, device);
                same && function(pci)
            }),
        };
        let usb = match (&self.usb, &card.usb) {
            (Some((ports, interface)), Some((at, its))) => {
                // The interface is `configuration.interface`, and is named where it is not 1.0.
                ports == at && interface.is_none_or(|n| its.ends_with(&format!(".{n}")))
            }
            (None, None) => true,
            _ => false,
        };
        place && usb
    }
}

/// A decimal number and what follows it.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// What a system with predictable names would call a card: by its address, by what the firmware counts
/// and by its place, each with and without what schemes add at the end.
#[must_use]
pub fn names(card: &Card) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(mac) = card.mac {
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        names.push(format!("enx{hex}"));
    }
    names.extend(card.onboard.map(|n| format!("eno{n}")));
    let Some(Pci { domain, bus, device, function }) = card.pci else { return names };
    let domain = if domain == 0 { String::new() } else { format!("P{domain}") };
    let slot = card.slot.map(|n| format!("en{domain}s{n}"));
    let usb = card.usb.as_ref().map_or(String::new(), |(ports, interface)| {
        let number = interface.rsplit('.').next().unwrap_or("0");
        let interface = if number == "0" { String::new() } else { format!("i{number}") };
        ports.split('.').map(|port| format!("u{port}")).collect::<String>() + &interface
    });
    for place in [format!("en{domain}p{bus}s{device}")].into_iter().chain(slot) {
        let mut found = vec![format!("{place}f{function}{usb}")];
        if function == 0 {
            found.insert(0, format!("{place}{usb}"));
        }
        let port = card.port_name.as_ref().map(|name| format!("n{name}"));
        let port = port.or_else(|| (card.dev_port > 0).then(|| format!("d{}", card.dev_port)));
        if let Some(port) = port {
            let with_port: Vec<String> = found.iter().map(|name| format!("{name}{port}")).collect();
            found.extend(with_port);
        }
        names.extend(found);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_found_by_each_of_its_names() {
        let card =
            |pci: &str| Card { mac: Some([2, 0, 0, 0, 0, 1]), pci: pci.parse().ok(), ..Card::default() };
        let plain = card("0000:0a:00.0");
        assert_eq!(names(&plain), ["enx020000000001", "enp10s0", "enp10s0f0"]);
        let second = Card { slot: Some(3), port_name: Some("p1".into()), ..card("0001:b1:00.1") };
        let said = ["enx020000000001", "enP1p177s0f1", "enP1p177s0f1np1", "enP1s3f1", "enP1s3f1np1"];
        assert_eq!(names(&second), said);
        let usb = Card { usb: Some(("1.2".into(), "1.0".into())), ..card("0000:00:14.0") };
        assert_eq!(names(&usb)[1..], ["enp0s20u1u2", "enp0s20f0u1u2"]);
        let onboard = Card { onboard: Some(1), dev_port: 1, ..card("0000:03:00.0") };
        assert!(names(&onboard).contains(&"eno1".into()) && names(&onboard).contains(&"enp3s0d1".into()));
        for card in [plain, second, usb, onboard] {
            for name in names(&card) {
                assert!(Predictable::parse(&name).is_some_and(|said| said.fits(&card)), "{name}");
            }
        }
        assert!(names(&Card::default()).is_empty());
    }
}
