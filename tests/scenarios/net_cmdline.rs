//! An address, a gateway, a name server and a tagged network on the kernel command line, as dracut reads
//! it, come before the injected network.
use crate::lab::Lab;
use crate::qemu::mac;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let network = lab.network()?;
    let cable = network.cable("t0", &["192.0.2.1/24"])?;
    let device = lab
        .device()?
        .key_login("root")?
        .network(&serde_json::json!({"links": [
        {"mac": mac(0), "addresses": ["203.0.113.7/24"]}]}))?
        .build()?;
    let line = "ip=192.0.2.7::192.0.2.1:255.255.255.0:db7:eth0:none:1400 nameserver=192.0.2.53 \
        vlan=eth0.7:eth0 ip=198.51.100.7::198.51.100.1:24::eth0.7:none";
    let vm = lab.rescue(&device)?.append(line).network(&network, vec![cable]).start()?;
    vm.ready_at("192.0.2.7")?;
    let guest = vm.ssh_in(&network, &device, "192.0.2.7")?;
    guest.reach()?;
    guest.until("ip -4 -o addr show", |said| said.contains("198.51.100.7/24"))?;
    let addresses = guest.ok("ip -4 -o addr show")?;
    assert!(!addresses.contains("203.0.113.7"), "{addresses}");
    assert_eq!(guest.ok("cat /sys/class/net/eth0/mtu")?.trim(), "1400");
    assert!(guest.ok("cat /etc/resolv.conf")?.contains("nameserver 192.0.2.53"));
    Ok(())
}
