//! The ladder, carried out: what is tried when nothing was said of the network.

use std::time::Duration;

use rescue_schema::network::{Kind, MacAddress, Network};

use super::{Daemon, Settings};
use crate::net::ladder::{Decision, Rung, decide};
use crate::sys::files::{read_capped, replace};
use crate::sys::time::since_boot;

/// Largest network that is read back, in bytes.
const MAX_NETWORK: usize = 64 << 10;

/// What an earlier run made of nothing said. Without it a bond that stands would be taken for an
/// engineer's, and its lease would run out.
pub(super) fn earlier(settings: &Settings<'_>) -> Option<Network> {
    let bytes = read_capped(&settings.ladder, MAX_NETWORK).ok()?;
    serde_json::from_slice(&bytes).ok()
}

impl Daemon<'_> {
    /// Goes on from where an earlier run was.
    pub(super) fn climb_back(&mut self) {
        if let Some(network) = self.climbed.as_ref().filter(|_| self.wished.links.is_empty()) {
            self.network = network.clone();
        }
    }

    /// Takes the next step where one is due. Nothing is done once a document or an engineer has said
    /// what the network is.
    pub(super) fn climb(&mut self) {
        self.look_again = None;
        let is_ours = self.network.links.is_empty() || self.climbed.as_ref() == Some(&self.network);
        if !is_ours {
            self.climbing = false;
            return;
        }
        let cards = self.ports.values().filter(|port| port.role.card && port.role.managed);
        let cards = cards.filter_map(|port| {
            let partner = port.protocols.iter().find_map(|(_, protocol)| protocol.partner());
            Some(Rung { mac: MacAddress(port.link.identity()?), partner })
        });
        let cards: Vec<Rung> = cards.collect();
        // What an engineer set by hand is an answer as well.
        let answered = self.ports.values().any(|port| {
            let usable = |ip: std::net::IpAddr| !super::publish::is_of_every_link(ip);
            port.keeps() || port.addresses.iter().any(|address| usable(address.address))
        });
        self.climbing = !answered;
        match decide(&cards, answered, &self.network, since_boot()) {
            Decision::Stay(until) => self.look_again = until,
            Decision::Climb(network) => {
                for link in &network.links {
                    if let Kind::Bond(bond) = &link.kind {
                        (self.settings.say)(&format!(
                            "nothing answers and the switch wants LACP: {} of {}",
                            link.id,
                            bond.links.join(" and ")
                        ));
                    }
                }
                let kept = serde_json::to_vec(&network).map_err(std::io::Error::from);
                let kept = kept.and_then(|json| replace(&self.settings.ladder, 0o600, &json));
                if let Err(error) = kept {
                    (self.settings.say)(&format!("writing {}: {error}", self.settings.ladder.display()));
                }
                self.climbed = Some((*network).clone());
                self.network = *network;
                self.begin_anew();
            }
        }
    }

    /// When [`Self::climb`] has something to do although nothing happens.
    pub(super) fn climbs_at(&self) -> Option<Duration> {
        self.look_again
    }
}
