//! A flood of router advertisements, each from another router with other prefixes and routes, costs
//! neither the SSH session that is open nor the next, nor memory.
use crate::lab::Lab;
use crate::process;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (device, network) = (lab.root_device()?, lab.network()?);
    let cable = network.cable("t0", &["192.0.2.1/24", "fe80::1/64"])?;
    let _dhcp = network.dnsmasq("t0", "192.0.2.50,192.0.2.50", &[])?;
    let vm = lab.rescue(&device)?.network(&network, vec![cable]).start()?;
    vm.ready_at("192.0.2.50")?;
    let guest = vm.ssh_in(&network, &device, "192.0.2.50")?;
    guest.reach()?;
    let mut session = guest.open("while read line; do echo got $line; done")?;
    assert_eq!(session.ask("before")?, "got before");
    // THC's tool sends as fast as the wire takes, until it is ended.
    let mut flood = network.command("timeout");
    flood.args(["--signal=KILL", "8", "atk6-flood_router26", "-F", "t0"]);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| process::run(&mut flood, b"", std::time::Duration::from_secs(60)));
        for n in 0..4 {
            assert_eq!(session.ask(&n.to_string())?, format!("got {n}"));
            guest.reach()?;
        }
        let said = flood.join().map_err(|_| anyhow::anyhow!("the flood"))??;
        anyhow::ensure!(said.status == 137, "{said:?}");
        Ok(())
    })?;
    assert_eq!(session.ask("after")?, "got after");
    guest.until("ip -6 addr show dev eth0 scope global | grep -c inet6 || true", |n| {
        n.parse::<u32>().is_ok_and(|n| n <= 16)
    })?;
    let status = guest.ok(&format!("cat /proc/{}/status", guest.pid_of("netd")?))?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let kib: u64 = kib.ok_or_else(|| anyhow::anyhow!("no VmRSS in {status}"))?;
    assert!(kib < 8 << 10, "netd takes {kib} KiB");
    Ok(())
}
