//! Two cards are one 802.3ad bond with a switch that wants LACP, as `device.json` says; an SSH session
//! lives when either cable is cut.
use crate::lab::Lab;
use crate::qemu::mac;
use crate::switch::{SWITCH, Switch};

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let network = lab.network()?;
    let switch = Switch::new(&network)?;
    network.address(SWITCH, "192.0.2.1/24")?;
    let cables = switch.aggregate(["t0", "t1"], "")?;
    let device = lab
        .device()?
        .key_login("root")?
        .network(&serde_json::json!({"links": [
        {"id": "a", "mac": mac(0)}, {"id": "b", "mac": mac(1)},
        {"id": "bond0", "type": {"bond": {"links": ["a", "b"], "mode": "802.3ad", "lacp_fast": true,
         "xmit_hash_policy": "layer3+4"}}, "addresses": ["192.0.2.7/24"],
         "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}]}]}))?
        .build()?;
    let mut vm = lab.rescue(&device)?.network(&network, cables).start()?;
    vm.ready_at("192.0.2.7")?;
    let guest = vm.ssh_in(&network, &device, "192.0.2.7")?;
    guest.reach()?;
    switch.until_member("t0", true)?;
    switch.until_member("t1", true)?;
    let mut session = guest.open("while read line; do echo got $line; done")?;
    assert_eq!(session.ask("whole")?, "got whole");
    for (n, port) in ["t0", "t1"].into_iter().enumerate() {
        vm.cable(n, false)?;
        switch.until_member(port, false)?;
        assert_eq!(session.ask(port)?, format!("got {port}"));
        guest.reach()?;
        vm.cable(n, true)?;
        switch.until_member(port, true)?;
    }
    let bond = guest.ok("cat /proc/net/bonding/bond0")?;
    assert!(
        bond.contains("802.3ad") && bond.contains("layer3+4") && bond.contains("LACP rate: fast"),
        "{bond}"
    );
    Ok(())
}
