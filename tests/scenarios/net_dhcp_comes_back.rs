//! A DHCP server falls silent until its leases have run out, and comes back with other addresses: the
//! machine gives the old one up, takes a new one, and is reached there.
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (device, network) = (lab.root_device()?, lab.network()?);
    let cable = network.cable("t0", &["192.0.2.1/24"])?;
    let server = network.dhcpd("t0", "192.0.2.50 192.0.2.50", 12)?;
    let vm = lab.rescue(&device)?.network(&network, vec![cable]).start()?;
    vm.ready_at("192.0.2.50")?;
    vm.ssh_in(&network, &device, "192.0.2.50")?.reach()?;
    let served = vm.console.mark();
    drop(server);
    vm.console.line("asking for a lease", served, limit(30))?;
    let _other = network.dhcpd("t0", "192.0.2.90 192.0.2.90", 3600)?;
    let guest = vm.ssh_in(&network, &device, "192.0.2.90")?;
    guest.reach()?;
    assert_eq!(guest.ok("ip -4 addr show dev eth0 | grep -c 'inet '")?, "1");
    assert_eq!(guest.ok("ip -4 route show default | grep -c default")?, "1");
    Ok(())
}
