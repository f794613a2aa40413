//! Which card a name of the rescued system stands for: its udev rules (`70-persistent-net.rules` and
//! those of dracut's `ifname=`) and systemd's `.link` files say the MAC address or the place; names of
//! biosdevname say the place themselves.

use rescue_schema::network::{Kind, MacAddress};

use super::draft::Draft;
use super::{File, ini, text};

/// Most names that are kept.
const MOST: usize = 256;

/// What a name stands for.
#[derive(Debug)]
struct Named {
    name: String,
    mac: Option<MacAddress>,
    path: Option<String>,
}

/// Gives cards that are known by a name alone what the files say of that name.
pub(super) fn apply(draft: &mut Draft, files: &[File]) {
    let known = gather(files);
    for link in draft.links.iter_mut().filter(|link| link.kind == Kind::Ethernet) {
        if link.mac.is_some() || link.path.is_some() {
            continue;
        }
        let Some(name) = link.name.as_deref() else { continue };
        match known.iter().find(|known| known.name == name) {
            Some(Named { mac: Some(mac), .. }) => (link.mac, link.name) = (Some(*mac), None),
            Some(Named { path: Some(path), .. }) => {
                (link.path, link.name) = (Some(path.clone()), None);
            }
            _ => {
                if let Some(other) = biosdevname(name) {
                    link.name = Some(other);
                }
            }
        }
    }
    // A card may be described only as a port: it is named here too.
    let ports: Vec<String> = draft.links.iter().flat_map(|link| link.below().iter().cloned()).collect();
    for port in ports {
        if draft.has(&port) {
            continue;
        }
        let found = known.iter().find(|known| known.name == port);
        let other = biosdevname(&port);
        if found.is_some() || other.is_some() {
            draft.edit(&port, |link, _| match found {
                Some(found) => {
                    (link.mac, link.path) = (found.mac, found.path.clone().filter(|_| found.mac.is_none()));
                    link.name = None;
                }
                None => link.name = other,
            });
        }
    }
}

fn gather(files: &[File]) -> Vec<Named> {
    let mut known = Vec::new();
    for file in files {
        if file.path.ends_with(".rules") {
            text::lines(&file.bytes).iter().for_each(|(_, line)| known.extend(rule(line)));
        } else if file.path.ends_with(".link") || file.path.starts_with("network.link.") {
            known.extend(link_file(&ini::parse(&file.bytes)));
        }
        known.truncate(MOST);
    }
    known
}

/// `SUBSYSTEM=="net", …, ATTR{address}=="52:54:00:…", …, NAME="eth0"`
fn rule(line: &str) -> Option<Named> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (mut name, mut mac, mut path) = (None, None, None);
    for part in line.split(',') {
        let part = part.trim();
        let quoted = |rest: &str| rest.trim().trim_matches('"').to_string();
        if let Some(rest) = part.strip_prefix("NAME=").or_else(|| part.strip_prefix("NAME:=")) {
            name = Some(quoted(rest)).filter(|n| !n.starts_with('=') && !n.contains(['$', '%']));
        } else if let Some((key, value)) = part.split_once("==") {
            match key.trim() {
                "ATTR{address}" | "ATTRS{address}" | "SYSFS{address}" => mac = text::mac(&quoted(value)),
                "ENV{ID_PATH}" => path = Some(quoted(value)),
                "KERNELS" | "ID" if value.contains(':') => path = Some(quoted(value)),
                _ => {}
            }
        }
    }
    let name = name.filter(|name| !name.is_empty())?;
    (mac.is_some() || path.is_some()).then_some(Named { name, mac, path })
}

fn link_file(sections: &[ini::Section]) -> Option<Named> {
    let wanted = ini::section(sections, &["Match"]);
    let name = ini::section(sections, &["Link"]).get("Name")?.to_string();
    // Several addresses are several cards, which cannot all have this name.
    let mac = wanted.get("PermanentMACAddress").or_else(|| wanted.get("MACAddress")).unwrap_or_default();
    let mut macs = text::words(mac);
    let (first, second) = (macs.next().and_then(text::mac), macs.next());
    if first.is_some() && second.is_none() {
        return Some(Named { name, mac: first, path: None });
    }
    let path = wanted.get("Path").filter(|path| !path.contains(' ')).map(Into::into)?;
    Some(Named { name, mac: None, path: Some(path) })
}

/// biosdevname's `em1` is on the board, `p3p2` the second port in slot 3; in names of systemd.
fn biosdevname(name: &str) -> Option<String> {
    let digits = |text: &str| text.parse::<u8>().ok();
    if let Some(n) = name.strip_prefix("em").and_then(digits).filter(|n| *n > 0) {
        return Some(format!("eno{n}"));
    }
    let (slot, port) = name.strip_prefix('p')?.split_once('p')?;
    let (slot, port) = (digits(slot)?, digits(port)?.checked_sub(1)?);
    Some(format!("ens{slot}f{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_names() {
        let line = r#"SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="00:16:3e:00:00:07", ATTR{dev_id}=="0x0", ATTR{type}=="1", KERNEL=="eth*", NAME="eth3""#;
        let found = rule(line).unwrap();
        assert_eq!(
            (found.name.as_str(), found.mac.unwrap().to_string().as_str()),
            ("eth3", "00:16:3e:00:00:07")
        );
        assert!(rule("# NAME=\"eth0\"").is_none() && rule("NAME=\"x\"").is_none());
        assert_eq!(biosdevname("em1").as_deref(), Some("eno1"));
        assert_eq!(biosdevname("p3p2").as_deref(), Some("ens3f1"));
        assert_eq!((biosdevname("em0"), biosdevname("ens3"), biosdevname("p0")), (None, None, None));
    }
}
