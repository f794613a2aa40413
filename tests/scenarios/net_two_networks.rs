//! Two cards on two networks with a DHCP server and a router each: the machine is reached on both, has one
//! default route by each, and keeps the second when the first network is unplugged.
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (device, network) = (lab.root_device()?, lab.network()?);
    let cables = vec![network.cable("t0", &["192.0.2.1/24"])?, network.cable("t1", &["198.51.100.1/24"])?];
    let _one = network.dnsmasq("t0", "192.0.2.50,192.0.2.50", &[])?;
    let _two = network.dnsmasq("t1", "198.51.100.60,198.51.100.60", &[])?;
    let mut vm = lab.rescue(&device)?.network(&network, cables).start()?;
    vm.ready()?;
    let (one, two) =
        (vm.ssh_in(&network, &device, "192.0.2.50")?, vm.ssh_in(&network, &device, "198.51.100.60")?);
    one.reach()?;
    two.reach()?;
    let routes = two.ok("ip -4 route show default")?;
    let vias: Vec<_> = routes.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(vias, ["192.0.2.1", "198.51.100.1"], "{routes}");
    vm.cable(0, false)?;
    two.until("rescue status", |status| status.contains("no carrier"))?;
    assert_eq!(two.ok("ip -4 route show default | grep -c 198.51.100.1")?, "1");
    vm.cable(0, true)?;
    one.reach()
}
