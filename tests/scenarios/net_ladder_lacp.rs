//! Nothing is said of the network, and the switch forwards nothing until LACP has agreed, of which it says
//! nothing unless it is spoken to: it is asked, its LACPDUs are heard, the cards become a bond, DHCP answers there, and the engineer sees which port of which switch
//! it is.
use rescue_schema::report::StatusReport;

use crate::lab::Lab;
use crate::switch::{SWITCH, Switch};

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (device, network) = (lab.root_device()?, lab.network()?);
    let switch = Switch::new(&network)?;
    network.address(SWITCH, "192.0.2.1/24")?;
    let _dhcp = network.dnsmasq(SWITCH, "192.0.2.50,192.0.2.50", &[])?;
    let cables = switch.aggregate(["t0", "t1"], "lacp=passive other_config:lacp-time=slow")?;
    let _lldp = network.lldpd("t0", "sw-17.dc3", "Ethernet17/1", 7)?;
    let vm = lab.rescue(&device)?.network(&network, cables).start()?;
    vm.ready_at("192.0.2.50")?;
    let guest = vm.ssh_in(&network, &device, "192.0.2.50")?;
    guest.reach()?;
    switch.until_member("t0", true)?;
    switch.until_member("t1", true)?;
    guest.until("rescue status", |text| text.contains("sw-17.dc3 port Ethernet17/1, VLAN 7"))?;
    let links = guest.json::<StatusReport>("rescue status --json")?.network.links;
    let partners: Vec<_> =
        links.iter().flat_map(|link| &link.neighbours).filter(|n| n.by == "lacp").collect();
    assert_eq!(partners.len(), 2, "{links:?}");
    assert_eq!(guest.ok("cat /sys/class/net/bond0/bonding/mode")?, "802.3ad 4");
    // What a service of before has built is not taken for an engineer's when it comes again.
    let old = guest.pid_of("netd")?;
    guest.ok(&format!("rm /run/rescue/net.json; kill -9 {old}"))?;
    let mine = |report: &str| report.contains("bond0") && report.contains("lease of 3600 s");
    guest.until("cat /run/rescue/net.json 2>&1 || true", |report| {
        mine(report) && !report.contains("left alone")
    })?;
    assert_eq!(guest.ok("cat /sys/class/net/bond0/bonding/slaves")?.split(' ').count(), 2);
    Ok(())
}
