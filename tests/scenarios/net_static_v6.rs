//! A machine with nothing but a static IPv6 address, whose gateway is outside its subnet, is reached there.
use rescue_schema::network::Link;

use crate::lab::Lab;
use crate::qemu::mac;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let network = lab.network()?;
    let cable = network.cable("t0", &["2001:db8:ffff::1/64", "fe80::1/64"])?;
    let card: Link = serde_json::from_value(serde_json::json!({
        "mac": mac(0), "addresses": ["2001:db8:7::7/64"],
        "routes": [{"to": "::/0", "via": "2001:db8:ffff::1"}],
    }))?;
    network.ip("route add 2001:db8:7::/64 dev t0")?;
    let device = lab.device()?.key_login("root")?.with(|d| d.network.links.push(card)).build()?;
    let vm = lab.rescue(&device)?.network(&network, vec![cable]).start()?;
    vm.ready_at("2001:db8:7::7")?;
    let guest = vm.ssh_in(&network, &device, "2001:db8:7::7")?;
    guest.reach()?;
    let routes = guest.ok("ip -6 route show default")?;
    assert!(routes.contains("via 2001:db8:ffff::1 dev eth0"), "{routes}");
    assert_eq!(guest.ok("ip -4 addr show dev eth0 | grep -c inet || true")?, "0");
    Ok(())
}
