//! A machine whose firmware says that it is one of OpenStack's asks its metadata service who may log in; where
//! a web page answers instead, nobody may, and the console says why.
use std::path::Path;

use crate::console::Mark;
use crate::lab::Lab;
use crate::vm::limit;

const ADDRESS: &str = "192.0.2.50";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    // The host key alone: who may log in, the service says.
    let device = lab.root_device()?;
    let host = lab.path("host.json");
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&device.document)?)?;
    document.as_object_mut().map(|all| all.remove("logins"));
    crate::device::write_private(&host, document.to_string().as_bytes())?;
    let key = std::fs::read_to_string(device.dir.join("client_key.pub"))?;

    let network = lab.network()?;
    let _cable = network.cable("t0", &["192.0.2.1/24", "169.254.169.254/32"])?;
    let _dhcp = network.dnsmasq("t0", &format!("{ADDRESS},{ADDRESS}"), &[])?;
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../init/tests/metadata/server.py");
    let serve = |kind: &str| {
        let mut command = network.command("python3");
        command.arg(&server).args([kind, "169.254.169.254"]).env("KEY", key.trim());
        network.start(&mut command, kind, "listening")
    };
    let boot = || {
        let link = crate::qemu::Link::Tap { name: "t0".into() };
        let nova = "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova";
        let vm = lab.rescue_with(&[])?.fw_cfg("rescue.device.json", &host);
        vm.qemu(&["-smbios", nova]).network(&network, vec![link]).start()
    };

    let openstack = serve("openstack")?;
    let vm = boot()?;
    vm.ready_at(ADDRESS)?;
    let guest = vm.ssh_in(&network, &device, ADDRESS)?;
    guest.reach()?;
    let shown = guest.ok("rescue status --sources")?;
    assert!(shown.contains("OpenStack at 169.254.169.254"), "{shown}");
    assert!(openstack.log().contains("/openstack/latest/meta_data.json"), "{}", openstack.log());
    assert!(!shown.contains(key.trim()), "{shown}");
    drop((vm, openstack));

    let _html = serve("html")?;
    let vm = boot()?;
    vm.console.wait("why nobody may log in", Mark::default(), limit(90), |line| {
        (line.contains("nobody can log in") && line.contains("OpenStack at 169.254.169.254")).then_some(())
    })?;
    let refused = vm.ssh_in(&network, &device, ADDRESS)?.run("true")?;
    assert_eq!(refused.status, 255, "{refused:?}");
    Ok(())
}
