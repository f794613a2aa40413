//! What netd is to configure, of all that is said about it: the kernel command line, else the injected
//! document, else (`rescue.network=from-disk`) the rescued system's own configuration, else nothing,
//! which is the ladder.

use std::path::Path;

use anyhow::Context;
use rescue_schema::network::{Kind, Network};
use rescue_schema::paths;

use super::{drivers, net_disk};
use crate::net::translate::{self, cmdline};
use crate::net::{cards, glob, settle};
use crate::sys;
use crate::sys::cmdline::Cmdline;

/// Largest document of wishes that is read, in bytes.
const MAX_WISHES: usize = 1 << 20;

/// The wishes that netd goes by: what stands in the file `kept`, from an earlier life of the service or from
/// `rescue net`, which has the last word; else what is said elsewhere, which is then kept there.
pub(super) fn in_force(kept: &Path, root: &Path, say: &dyn Fn(&str)) -> Network {
    if kept.exists() {
        match read(kept) {
            Ok(network) => return network,
            Err(error) => say(&format!("{error:#}; beginning anew")),
        }
    }
    let network = wanted(root, say);
    keep(&network, kept, root, say);
    network
}

/// What was said anew is put in the place of what was chosen before, unless an engineer has corrected that
/// meanwhile; says whether netd must read it.
pub(super) fn adopt(kept: &Path, root: &Path, say: &dyn Fn(&str)) -> anyhow::Result<bool> {
    let (in_force, chosen) = (read(kept)?, read(&at(root, paths::NETWORK_CHOSEN))?);
    if in_force != chosen {
        say("a network was found, and is not used: `rescue net` has corrected the one in force");
        return Ok(false);
    }
    let network = wanted(root, say);
    if network == in_force {
        return Ok(false);
    }
    keep(&network, kept, root, say);
    Ok(true)
}

fn keep(network: &Network, kept: &Path, root: &Path, say: &dyn Fn(&str)) {
    // The one in force is last: who waits for it finds the other.
    for path in [&at(root, paths::NETWORK_CHOSEN), kept] {
        let written = serde_json::to_vec(network)
            .map_err(std::io::Error::from)
            .and_then(|json| sys::files::replace(path, 0o600, &json));
        if let Err(error) = written {
            say(&format!("writing {}: {error}", path.display()));
        }
    }
}

fn at(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The wishes, with `root` in the place of `/`. What cannot be read or is for other machines must not
/// cost this one its network: DHCP on every link is then the best guess, and `say` says why.
fn wanted(root: &Path, say: &dyn Fn(&str)) -> Network {
    let injected = read(&root.join(paths::NETWORK_WISHES.trim_start_matches('/'))).unwrap_or_else(|error| {
        say(&format!("{error:#}; using DHCP on every link"));
        Network::default()
    });
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
        return here(said, "kernel command line", root, say);
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
        // A document of ours knows cards by what they are; one that was translated may know names.
        let named = |link: &rescue_schema::network::Link| link.name.is_some();
        return match network.links.iter().any(named) {
            true => here(network, "the network that was found", root, say),
            false => network,
        };
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
                return here(own, "the system on the disk", root, say);
            }
            Err(error) => say(&format!("rescue.network=from-disk: {error:#}; using DHCP on every link")),
        }
    }
    network
}

/// The wishes in a file; none where there is no file.
pub(super) fn read(path: &Path) -> anyhow::Result<Network> {
    match sys::files::read_capped(path, MAX_WISHES) {
        Ok(bytes) => {
            let reading = || format!("reading {}", path.display());
            let network: Network = serde_json::from_slice(&bytes).with_context(reading)?;
            network.validate("network").with_context(reading)?;
            Ok(network)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Network::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// A network for the cards of this machine, or for all of them where it is for none.
fn here(network: Network, whose: &str, root: &Path, say: &dyn Fn(&str)) -> Network {
    // The network is that of this process, wherever its files are.
    let own = Path::new("/");
    let observe = || {
        cards::observe(own).unwrap_or_else(|error| {
            say(&format!("listing the cards: {error}"));
            Vec::new()
        })
    };
    let mut cards = observe();
    let is_pattern = |name: &String| glob::is_pattern(name);
    let patterns =
        network.links.iter().any(|l| l.kind == Kind::Ethernet && l.name.as_ref().is_some_and(is_pattern));
    if patterns || !settle::any(&network, &cards) {
        // Drivers that are still loading bring cards; a pattern is for all of them.
        drivers::settle(root);
        cards = observe();
    }
    for card in &cards {
        sys::log::note("netd", &format!("card {card}"));
    }
    let why = if !translate::brings_address(&network) {
        "brings no address to any link"
    } else if !settle::any(&network, &cards) {
        "names only cards that are not here"
    } else {
        let settled = settle::settle(&network, &cards, &cards::pci_cards(own));
        match settled.validate("network") {
            Ok(()) if !settled.links.is_empty() => return settled,
            Ok(()) => "names only cards that are not here",
            Err(_) => "cannot be built of the cards that are here",
        }
    };
    say(&format!("{whose}: {why}; using DHCP on every link"));
    Network { links: Vec::new(), dns: network.dns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_later_is_adopted_unless_an_engineer_has_corrected_the_network() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::fs::create_dir_all(root.join("run/rescue")).unwrap();
        let kept = at(root, paths::NETWORK_IN_FORCE);
        let found = |mtu: u32| {
            let json = format!(r#"{{"links":[{{"id":"a","mac":"02:00:00:00:00:01","mtu":{mtu}}}]}}"#);
            std::fs::write(at(root, paths::NETWORK_WISHES), json).unwrap();
        };
        assert_eq!(in_force(&kept, root, &|_| ()), Network::default());
        assert!(!adopt(&kept, root, &|_| ()).unwrap());
        found(1400);
        assert!(adopt(&kept, root, &|_| ()).unwrap());
        assert_eq!(read(&kept).unwrap().links[0].mtu, Some(1400));
        assert!(!adopt(&kept, root, &|_| ()).unwrap());
        std::fs::write(&kept, r#"{"links":[{"id":"a","mac":"02:00:00:00:00:01","mtu":1300}]}"#).unwrap();
        found(1500);
        assert!(!adopt(&kept, root, &|_| ()).unwrap());
        assert_eq!(read(&kept).unwrap().links[0].mtu, Some(1300));
    }
}
