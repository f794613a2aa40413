//! A tagged network on an 802.3ad bond, with a static address: the machine is reached there, and nothing
//! of it is on the untagged network.
use crate::lab::Lab;
use crate::qemu::mac;
use crate::switch::{SWITCH, Switch};

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let network = lab.network()?;
    let switch = Switch::new(&network)?;
    network.address(SWITCH, "192.0.2.1/24")?;
    switch.vlan("v7", 7, "198.51.100.1/24")?;
    let cables = switch.aggregate(["t0", "t1"], "")?;
    let device = lab
        .device()?
        .key_login("root")?
        .network(&serde_json::json!({"links": [
        {"id": "a", "mac": mac(0)}, {"id": "b", "mac": mac(1)},
        {"id": "bond0", "type": {"bond": {"links": ["a", "b"], "mode": "802.3ad", "lacp_fast": true}}},
        {"id": "bond0.7", "type": {"vlan": {"link": "bond0", "id": 7}}, "addresses": ["198.51.100.7/24"],
         "routes": [{"to": "0.0.0.0/0", "via": "198.51.100.1"}]}]}))?
        .build()?;
    let vm = lab.rescue(&device)?.network(&network, cables).start()?;
    vm.ready_at("198.51.100.7")?;
    let guest = vm.ssh_in(&network, &device, "198.51.100.7")?;
    guest.reach()?;
    assert_eq!(guest.ok("cat /proc/net/vlan/bond0.7 | head -n 1")?.split_whitespace().nth(2), Some("7"));
    let route = guest.ok("ip -4 route show default")?;
    assert!(route.contains("via 198.51.100.1 dev bond0.7"), "{route}");
    assert_eq!(guest.ok("ip -4 addr show dev bond0 | grep -c inet || true")?, "0");
    Ok(())
}
