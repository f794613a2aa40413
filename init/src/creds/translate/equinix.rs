//! The document of a machine of Equinix Metal (`metadata`; packethost/packngo, package `metadata`).

use serde_json::{Value, json};

use super::draft::{Draft, malformed};
use crate::creds::part::{NetworkDocument, NetworkFormat, Part};
use crate::tree::{self, Node};

/// Most interfaces, most addresses and most routes that are looked at.
const MOST: usize = 64;

/// Reads it.
///
/// # Errors
/// One that is malformed, or whose keys all are.
pub fn metadata(bytes: &[u8]) -> Result<Part, String> {
    let root = tree::json(bytes).map_err(|error| malformed(&error))?;
    let Some(id) = root.get("id").text() else { return Err("no id in it".into()) };
    let mut draft = Draft::default();
    draft.id("id", id);
    if let Some(name) = root.get("hostname").text() {
        draft.hostname("hostname", name);
    }
    draft.keys("ssh_keys", "root", root.get("ssh_keys").items().iter().filter_map(Node::text));
    if let Some(config) = network(root.get("network"), root.get("private_subnets")) {
        let json = config.to_string();
        let document = NetworkDocument::one(NetworkFormat::CloudInit, "network", json.as_bytes());
        draft.part.network.push(document);
    }
    draft.finish()
}

/// Its network as cloud-init's `network-config`, version 1, as the machine is set up by packet-networking
/// (`distros/debian/templates`): all addresses on the first bond, or on the first interface where there is
/// none. Addresses that are not the machine's own but have been given to it are for its services.
fn network(network: &Node, subnets: &Node) -> Option<Value> {
    let interfaces: Vec<&Node> = network.get("interfaces").items().iter().take(MOST).collect();
    let name = |node: &Node| node.get("name").text().filter(|name| !name.is_empty()).map(String::from);
    let bond = interfaces.iter().find_map(|one| one.get("bond").text()).filter(|bond| !bond.is_empty());
    let mut config = Vec::new();
    for interface in &interfaces {
        let (Some(name), Some(mac)) = (name(interface), interface.get("mac").text()) else { continue };
        config.push(json!({ "type": "physical", "name": name, "mac_address": mac }));
    }
    if config.is_empty() {
        return None;
    }
    let addresses = subnet(network.get("addresses"), subnets);
    if let Some(bond) = bond {
        let ports = interfaces.iter().filter(|one| one.get("bond").text() == Some(bond));
        let ports: Vec<String> = ports.filter_map(|one| name(one)).collect();
        let params = json!({
            "bond-mode": network.get("bonding").get("mode").text().unwrap_or("4"),
            "bond-miimon": "100",
            "bond-updelay": "200",
            "bond-downdelay": "200",
            "bond-xmit-hash-policy": "layer3+4",
            "bond-lacp-rate": "1",
        });
        config.push(json!({ "type": "bond", "name": bond, "bond_interfaces": ports, "params": params, "subnets": addresses }));
    } else if let Some(one) = config.first_mut().and_then(Value::as_object_mut) {
        one.insert("subnets".into(), addresses);
    }
    Some(json!({ "version": 1, "config": config }))
}

fn subnet(addresses: &Node, subnets: &Node) -> Value {
    let own = |one: &&Node| {
        let says_no = |key: &str| one.get(key).flag() == Some(false);
        !says_no("management") && !says_no("enabled")
    };
    let own: Vec<&Node> = addresses.items().iter().take(MOST).filter(own).collect();
    let v6 = |one: &Node| one.get("address_family").text() == Some("6");
    let public = |one: &Node| one.get("public").flag() == Some(true);
    let reached = own.iter().any(|one| !v6(one) && public(one));
    let mut all = Vec::new();
    for one in own {
        let (Some(address), Some(length)) = (one.get("address").text(), one.get("cidr").text()) else {
            continue;
        };
        let mut entry = serde_json::Map::new();
        entry.insert("type".into(), if v6(one) { "static6" } else { "static" }.into());
        entry.insert("address".into(), format!("{address}/{length}").into());
        match one.get("gateway").text() {
            None => {}
            // Beside a public address it leads to the other private networks, and the world is elsewhere.
            Some(gateway) if reached && !v6(one) && !public(one) => {
                let to = subnets.items().iter().take(MOST).filter_map(Node::text);
                let routes: Vec<Value> = to.map(|to| json!({ "network": to, "gateway": gateway })).collect();
                entry.insert("routes".into(), routes.into());
            }
            Some(gateway) => drop(entry.insert("gateway".into(), gateway.into())),
        }
        all.push(Value::Object(entry));
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_with_its_network() {
        let part = metadata(include_bytes!("testdata/equinix.json")).unwrap();
        let d = &part.document;
        assert_eq!((d.validate(), d.device.hostname.as_deref()), (Ok(()), Some("db7")));
        assert_eq!(d.device.id.as_deref(), Some("c5ce85c5-1eef-4581-90b6-88a91e47e207"));
        assert_eq!((d.logins[0].name.as_str(), d.logins[0].authorized_keys.len()), ("root", 2));
        let config: Value = serde_json::from_slice(&part.network[0].files[0].1).unwrap();
        let bond = &config["config"][2];
        assert_eq!(
            config["config"][1],
            json!({"type": "physical", "name": "eth1", "mac_address": "50:6b:4b:b4:a9:3b"})
        );
        assert_eq!(
            (&bond["bond_interfaces"], &bond["params"]["bond-mode"]),
            (&json!(["eth0", "eth1"]), &json!("4"))
        );
        // The fourth is an address that was given to it.
        let expected = json!([
            {"type": "static", "address": "192.0.2.130/30", "gateway": "192.0.2.129"},
            {"type": "static6", "address": "2001:db8:0:a4::1/127", "gateway": "2001:db8:0:a4::"},
            {"type": "static", "address": "10.80.76.5/31", "routes": [{"network": "10.0.0.0/8", "gateway": "10.80.76.4"}]},
        ]);
        assert_eq!(bond["subnets"], expected);
    }

    #[test]
    fn without_a_bond_the_first_interface_has_the_addresses() {
        let part = metadata(
            br#"{"id":"x","network":{"interfaces":[{"name":"eth0","mac":"50:6b:4b:b4:a9:3a"},{"name":"eth1"}],
            "addresses":[{"address_family":4,"public":false,"cidr":31,"address":"10.80.76.5","gateway":"10.80.76.4"}]}}"#,
        );
        let config: Value = serde_json::from_slice(&part.unwrap().network[0].files[0].1).unwrap();
        let expected = json!([{"type": "physical", "name": "eth0", "mac_address": "50:6b:4b:b4:a9:3a",
            "subnets": [{"type": "static", "address": "10.80.76.5/31", "gateway": "10.80.76.4"}]}]);
        assert_eq!(config["config"], expected);
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for bad in [&b"{"[..], b"{}", br#"{"id":"x","ssh_keys":["hunter2"]}"#] {
            assert!(!metadata(bad).unwrap_err().contains("hunter2"));
        }
        for odd in [
            &br#"{"id":"x","network":7}"#[..],
            br#"{"id":"x","network":{"interfaces":[1,{}],"addresses":"a"}}"#,
        ] {
            assert!(metadata(odd).unwrap().network.is_empty());
        }
    }
}
