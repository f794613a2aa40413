//! What netd is to configure, of all that is said about it: the kernel command line, else the injected
//! document, else (`rescue.network=from-disk`) the rescued system's own configuration, else nothing,
//! which is the ladder.

use std::path::Path;

use rescue_schema::network::{Kind, Network};
use rescue_schema::paths;

use super::{drivers, net_disk};
use crate::net::translate::{self, cmdline, present};
use crate::sys::cmdline::Cmdline;
use crate::sys::{files, log};

/// The wishes, with `root` in the place of `/`; `injected` are those of the document. What cannot be read
/// or is for other machines must not cost this one its network: DHCP on every link is then the best
/// guess, and `say` says why.
///
/// It is decided once a boot, and kept where the document's wishes were: what an engineer corrects there
/// must outlive a restart of netd, and the disks may then be in other hands.
pub(super) fn wanted(root: &Path, injected: Network, say: &dyn Fn(&str)) -> Network {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    if at(paths::NETWORK_DECIDED).exists() {
        return injected;
    }
    let network = decide(root, injected.clone(), say);
    let kept = (|| {
        if network != injected {
            let json = serde_json::to_vec(&network)?;
            files::replace(&at(paths::NETWORK_WISHES), 0o600, &json)?;
        }
        files::replace(&at(paths::NETWORK_DECIDED), 0o644, b"")
    })();
    if let Err(error) = kept {
        say(&format!("writing {}: {error}", paths::NETWORK_WISHES));
    }
    network
}

fn decide(root: &Path, injected: Network, say: &dyn Fn(&str)) -> Network {
    let line = Cmdline::observe(root);
    let reading = cmdline::read(&line).unwrap_or_else(|error| {
        say(&format!("kernel command line: {error}; it is not used"));
        cmdline::Reading::default()
    });
    for remark in &reading.translation.remarks {
        say(&format!("kernel command line: {remark}"));
    }
    let mut said = reading.translation.network;
    let from_disk = line.get("rescue.network") == Some("from-disk");
    if reading.overrides {
        if injected != Network::default() {
            say("the kernel command line says how; the network of the injected document is not used");
        }
        if said.links.is_empty() {
            return said;
        }
        return here(said, "kernel command line", say);
    }
    // Name servers alone come before the document's.
    let mut network = injected;
    said.dns.servers.append(&mut network.dns.servers);
    said.dns.search.append(&mut network.dns.search);
    network.dns = said.dns;
    if !network.links.is_empty() {
        if from_disk {
            say("rescue.network=from-disk: not used, a network was injected");
        }
        return network;
    }
    if let Some(other) = line.get("rescue.network").filter(|_| !from_disk) {
        say(&format!("rescue.network={other:?} is not known; from-disk is"));
    }
    if from_disk {
        match net_disk::ask() {
            Ok(answer) => {
                answer.remarks.iter().for_each(|remark| say(remark));
                let mut own = answer.network;
                network.dns.servers.append(&mut own.dns.servers);
                network.dns.search.append(&mut own.dns.search);
                own.dns = network.dns;
                own.dns.servers.dedup();
                return here(own, "the system on the disk", say);
            }
            Err(error) => say(&format!("rescue.network=from-disk: {error:#}; using DHCP on every link")),
        }
    }
    network
}

/// A network for the cards of this machine, or for all of them where it is for none.
fn here(network: Network, whose: &str, say: &dyn Fn(&str)) -> Network {
    // The network is that of this process, wherever its files are.
    let mut cards = present::observe(Path::new("/"));
    let patterns =
        network.links.iter().any(|l| l.kind == Kind::Ethernet && l.name.as_deref().is_some_and(has_pattern));
    if patterns || !present::any(&network, &cards) {
        // Drivers that are still loading bring cards; a pattern is for all of them.
        drivers::settled();
        cards = present::observe(Path::new("/"));
    }
    for card in &cards {
        log::note("netd", &format!("card {}", describe(card)));
    }
    let why = if !translate::brings_address(&network) {
        "brings no address to any link"
    } else if !present::any(&network, &cards) {
        "names only cards that are not here"
    } else {
        let settled = present::settle(&network, &cards);
        match settled.validate("network") {
            Ok(()) if !settled.links.is_empty() => return settled,
            Ok(()) => "names only cards that are not here",
            Err(_) => "cannot be built of the cards that are here",
        }
    };
    say(&format!("{whose}: {why}; using DHCP on every link"));
    Network { links: Vec::new(), dns: network.dns }
}

fn has_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

fn describe(card: &present::Card) -> String {
    let mac = card.mac.map(|mac| mac.to_string()).unwrap_or_default();
    format!("{} {mac} {}", card.name, card.pci.as_deref().unwrap_or("not on PCI"))
}
