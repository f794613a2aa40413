//! What was heard of the other end of one cable, and for how long it holds.

use std::time::Duration;

use rescue_schema::report::NeighbourReport;

use super::lacp::{Lacpdu, Side, parse_lacp};
use super::ladder::Partner;
use super::lldp::{Neighbour, parse_cdp, parse_lldp};

/// Neighbours that are kept of one card: a cable has one other end, but a hub or a telephone may be
/// between, and a liar may send any number.
const MOST: usize = 4;
/// CDP may hold for 255 s, LLDP for 18 hours: longer than this, a switch that was replaced is no news.
const LONGEST: Duration = Duration::from_secs(600);

/// Lines for the log about one card: neighbours that come and go must not fill it.
const MOST_SAID: usize = 16;

/// A frame of one of the protocols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// LLDP or CDP.
    Neighbour(Neighbour),
    /// LACP.
    Lacp(Lacpdu),
}

/// Reads an Ethernet frame.
#[must_use]
pub fn parse_frame(frame: &[u8]) -> Option<Heard> {
    match frame.get(12..)? {
        [0x88, 0xcc, pdu @ ..] => parse_lldp(pdu).map(Heard::Neighbour),
        [0x88, 0x09, pdu @ ..] => parse_lacp(pdu).map(Heard::Lacp),
        // IEEE 802.3 with a length, LLC and SNAP; what follows the length is padding.
        [a, b, 0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*a, *b])).checked_sub(8)?;
            parse_cdp(rest.get(..length)?).map(Heard::Neighbour)
        }
        _ => None,
    }
}

/// What is known of the other end of one card's cable.
#[derive(Debug, Clone, Default)]
pub struct Neighbours {
    known: Vec<(Neighbour, Duration)>,
    partner: Option<Partner>,
    /// Lines for the log so far.
    said: usize,
}

impl Neighbours {
    /// Takes a frame that arrived at `now`. A line for the log where somebody is heard for the first time.
    pub fn hear(&mut self, heard: Heard, now: Duration) -> Option<String> {
        match heard {
            Heard::Lacp(pdu) => {
                let actor = pdu.actor;
                let known = self.partner.filter(|known| known.is(&actor));
                let since = known.map_or(now, |known| known.since);
                self.partner = Some(Partner { side: actor, since });
                let is_news = known.is_none() && self.said < MOST_SAID;
                self.said += usize::from(is_news);
                is_news.then(|| format!("LACP of {} with key {}", actor.system, actor.key))
            }
            Heard::Neighbour(new) => {
                let is_same = |old: &Neighbour| {
                    (old.cdp, &old.chassis, &old.port) == (new.cdp, &new.chassis, &new.port)
                };
                let at = self.known.iter().position(|(old, _)| is_same(old));
                if new.ttl == 0 {
                    at.map(|at| self.known.remove(at));
                    return None;
                }
                let until = now + Duration::from_secs(new.ttl.into()).min(LONGEST);
                if let Some(known) = at.and_then(|at| self.known.get_mut(at)) {
                    *known = (new, until);
                    return None;
                }
                if self.known.len() >= MOST {
                    return None;
                }
                let line = format!("at {}", report(&new));
                self.known.push((new, until));
                let is_news = self.said < MOST_SAID;
                self.said += usize::from(is_news);
                is_news.then_some(line)
            }
        }
    }

    /// The cable is out: whoever was at its end need not be there when it is back.
    pub fn forget(&mut self) {
        *self = Self { said: self.said, ..Self::default() };
    }

    /// Drops what holds no more. Whether anything did.
    pub fn expire(&mut self, now: Duration) -> bool {
        let before = self.known.len();
        self.known.retain(|(_, until)| *until > now);
        self.known.len() != before
    }

    /// When [`Neighbours::expire`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.known.iter().map(|(_, until)| *until).min()
    }

    /// The LACP system at the other end.
    #[must_use]
    pub fn partner(&self) -> Option<Partner> {
        self.partner
    }

    /// For `rescue net` and `rescue status`; LLDP comes before CDP, which tends to say less.
    #[must_use]
    pub fn report(&self) -> Vec<NeighbourReport> {
        let mut known: Vec<&Neighbour> = self.known.iter().map(|(neighbour, _)| neighbour).collect();
        known.sort_by_key(|neighbour| neighbour.cdp);
        let known = known.into_iter().map(report);
        known.chain(self.partner.map(|partner| partner_report(&partner.side))).collect()
    }
}

fn report(neighbour: &Neighbour) -> NeighbourReport {
    let Neighbour { chassis, port, port_description, system, description, .. } = neighbour;
    let mut about = Vec::new();
    if !port_description.is_empty() && port_description != port {
        about.push(port_description.clone());
    }
    if !description.is_empty() {
        about.push(description.clone());
    }
    about.extend(neighbour.address.map(|address| format!("managed at {address}")));
    if !system.is_empty() && !chassis.is_empty() {
        about.push(format!("chassis {chassis}"));
    }
    match neighbour.aggregated {
        Some(true) => about.push("in an aggregate".into()),
        Some(false) => about.push("in no aggregate".into()),
        None => {}
    }
    about.extend(neighbour.max_frame.map(|bytes| format!("frames of up to {bytes} bytes")));
    NeighbourReport {
        by: if neighbour.cdp { "cdp" } else { "lldp" }.into(),
        system: if system.is_empty() { chassis } else { system }.clone(),
        port: port.clone(),
        vlans: neighbour.vlan.iter().map(ToString::to_string).collect(),
        about,
    }
}

fn partner_report(side: &Side) -> NeighbourReport {
    let carries = if side.carries() { "carries frames" } else { "carries no frames" };
    NeighbourReport {
        by: "lacp".into(),
        system: side.system.to_string(),
        port: side.port.to_string(),
        vlans: Vec::new(),
        about: vec![format!("key {}", side.key), format!("priority {}", side.priority), carries.into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str) -> Heard {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/neighbour").join(name);
        parse_frame(&std::fs::read(path).unwrap()).unwrap()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_neighbour_holds_as_long_as_it_says() {
        let mut neighbours = Neighbours::default();
        assert!(neighbours.hear(frame("cdp"), at(1)).is_some());
        assert_eq!(neighbours.hear(frame("lldp"), at(1)).unwrap(), "at sw-17.dc3 port Ethernet17/1, VLAN 7");
        assert_eq!(neighbours.hear(frame("lldp"), at(2)), None, "it said nothing new");
        assert_eq!(neighbours.report().iter().map(|n| n.by.as_str()).collect::<Vec<_>>(), ["lldp", "cdp"]);
        assert_eq!(neighbours.report()[0].to_string(), "sw-17.dc3 port Ethernet17/1, VLAN 7");
        // CDP's 4 s from 1, LLDP's from 2.
        assert_eq!(neighbours.deadline(), Some(at(5)));
        assert!(neighbours.expire(at(5)));
        assert_eq!(neighbours.report().len(), 1);
        let Heard::Neighbour(said) = frame("lldp") else { panic!() };
        // It says goodbye.
        neighbours.hear(Heard::Neighbour(Neighbour { ttl: 0, ..said }), at(5));
        assert!(neighbours.report().is_empty() && !neighbours.expire(at(9)));
    }

    #[test]
    fn a_liar_fills_no_memory() {
        let mut neighbours = Neighbours::default();
        for n in 0..1000_u32 {
            let lie =
                Neighbour { chassis: n.to_string(), port: "1".into(), ttl: u16::MAX, ..Neighbour::default() };
            neighbours.hear(Heard::Neighbour(lie), at(1));
        }
        assert_eq!(neighbours.report().len(), MOST);
        assert!(neighbours.deadline().unwrap() <= at(1) + LONGEST);
    }

    #[test]
    fn a_partner_is_heard_since_its_first_word() {
        let mut neighbours = Neighbours::default();
        let Heard::Lacp(mut pdu) = frame("lacp") else { panic!() };
        assert_eq!(neighbours.hear(Heard::Lacp(pdu), at(3)).unwrap(), "LACP of 52:54:00:5a:00:01 with key 1");
        assert_eq!(neighbours.hear(Heard::Lacp(pdu), at(4)), None);
        assert_eq!(neighbours.partner().unwrap().since, at(3));
        pdu.actor.key = 9;
        assert!(neighbours.hear(Heard::Lacp(pdu), at(5)).is_some());
        assert_eq!(neighbours.partner().unwrap().since, at(5), "another key is another aggregate");
        assert_eq!(neighbours.report()[0].about[0], "key 9");
        neighbours.forget();
        assert_eq!(neighbours.report(), []);
    }

    #[test]
    fn frames_are_told_apart() {
        for junk in [&[0_u8; 13][..], &[0; 14], &[0x88; 60]] {
            assert_eq!(parse_frame(junk), None);
        }
        // A length that is longer than the frame.
        let mut cdp = vec![0; 12];
        cdp.extend([0x05, 0, 0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0, 2, 1, 0, 0]);
        assert_eq!(parse_frame(&cdp), None);
    }
}
