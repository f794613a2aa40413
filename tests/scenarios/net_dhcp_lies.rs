//! A DHCP server that lies (options that overflow, another server's name, leases of no time, addresses
//! that are none, texts that write on a terminal) is not believed; what it says between that is true,
//! with a router outside the subnet, makes the machine reachable.
use crate::lab::Lab;
use crate::liar;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (device, network) = (lab.root_device()?, lab.network()?);
    let cable = network.cable("t0", &["192.0.2.1/24"])?;
    let liar = liar::serve(&network, "t0")?;
    let vm = lab.rescue(&device)?.network(&network, vec![cable]).start()?;
    vm.ready_at(&liar::TRUTH.to_string())?;
    let guest = vm.ssh_in(&network, &device, &liar::TRUTH.to_string())?;
    guest.reach()?;
    assert!(liar.lies() >= 20, "{} lies", liar.lies());
    assert_eq!(guest.ok("ip -4 addr show dev eth0 | grep -c 'inet '")?, "1");
    let route = guest.ok("ip -4 route show default")?;
    assert!(route.contains("via 203.0.113.1 dev eth0") && route.contains("onlink"), "{route}");
    let said =
        guest.ok("cat /etc/resolv.conf /run/rescue/net.json; hostname; rescue log; dmesg | grep rescue:")?;
    assert!(!said.contains(['\u{1b}', '\u{7}']), "{said:?}");
    assert_eq!(
        guest.ok("hostname; cat /sys/class/net/eth0/mtu; cat /etc/resolv.conf")?,
        "db7\n1500\nnameserver 192.0.2.53"
    );
    Ok(())
}
