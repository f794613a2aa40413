//! Where no DHCP server is and a router advertises a prefix, a name server and a search domain, the
//! machine makes itself an address, routes by the router, and is reached.
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (device, network) = (lab.root_device()?, lab.network()?);
    let cable = network.cable("t0", &["2001:db8:5::1/64", "fe80::1/64"])?;
    let _router = network.radvd(
        "t0",
        "prefix 2001:db8:5::/64 { AdvPreferredLifetime 3600; AdvValidLifetime 7200; };\n\
         RDNSS 2001:db8:5::53 { }; DNSSL lab.example { }; AdvLinkMTU 1400;",
    )?;
    let vm = lab.rescue(&device)?.network(&network, vec![cable]).start()?;
    // RFC 4291, appendix A, of 52:54:00:12:34:56.
    let address = "2001:db8:5:0:5054:ff:fe12:3456";
    vm.ready_at(address)?;
    let guest = vm.ssh_in(&network, &device, address)?;
    guest.reach()?;
    let routes = guest.ok("ip -6 route show default")?;
    assert!(routes.contains("via fe80::1 dev eth0"), "{routes}");
    assert_eq!(guest.ok("cat /etc/resolv.conf")?, "search lab.example\nnameserver 2001:db8:5::53");
    assert!(guest.ok("ip link show dev eth0; cat /proc/sys/net/ipv6/conf/eth0/mtu")?.contains("1400"));
    Ok(())
}
