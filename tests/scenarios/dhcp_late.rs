//! A DHCP server that is silent for its first 20 seconds is asked again and again, and the lease
//! that it then gives makes the machine reachable.
use std::time::Duration;

use crate::dhcp::{CLIENT, Server};
use crate::lab::Lab;
use crate::qemu::Link;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let server = Server::silent_for(Duration::from_secs(20))?;
    let vm = lab.rescue(&device)?.links(vec![Link::Wire { port: server.port }]).start()?;
    let ready = vm.console.wait("an address", crate::console::Mark::default(), limit(120), |line| {
        rescue_schema::report::Ready::find(line).filter(|r| r.ssh.starts_with(&CLIENT.to_string()))
    })?;
    assert_eq!(ready.ssh, format!("{CLIENT}:22"));
    assert!(server.asked() >= 3, "asked {} times", server.asked());
    assert!(server.answered() >= 1, "no lease was asked for");
    Ok(())
}
