//! A network card that is plugged in after the boot gets its driver and a lease, and the machine is
//! reached by it.
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (device, network) = (lab.root_device()?, lab.network()?);
    let first = network.cable("t0", &["192.0.2.1/24"])?;
    let second = network.cable("t1", &["198.51.100.1/24"])?;
    let _dhcp = network.dnsmasq("t0", "192.0.2.50,192.0.2.50", &[])?;
    let mut vm = lab.rescue(&device)?.network(&network, vec![first]).start()?;
    vm.ready_at("192.0.2.50")?;
    let _late = network.dnsmasq("t1", "198.51.100.60,198.51.100.60", &[])?;
    vm.plug_network(1, &second)?;
    vm.ssh_in(&network, &device, "198.51.100.60")?.reach()
}
