//! `sshd` and `netd` that are killed come back by themselves, and open sessions of others live on.
use rescue_schema::report::StatusReport;

use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.ready(&device, &[])?;
    let guest = vm.ssh(&device, "root")?;
    let mut other = guest.open("while read line; do echo \"heard $line\"; done")?;
    assert_eq!(other.ask("one")?, "heard one");
    for service in ["sshd", "netd"] {
        let pid = guest.pid_of(service)?;
        assert!(!pid.is_empty(), "{service} does not run");
        guest.run(&format!("kill -9 {pid}"))?;
        let end = std::time::Instant::now() + limit(30);
        loop {
            let back = guest.pid_of(service);
            if back.as_ref().is_ok_and(|back| !back.is_empty() && *back != pid) {
                break;
            }
            anyhow::ensure!(std::time::Instant::now() < end, "{service} did not come back: {back:?}");
        }
        assert_eq!(other.ask(service)?, format!("heard {service}"));
    }
    let status: StatusReport = guest.json("rescue status --json")?;
    let restarted = |name: &str| status.boot.restarts.iter().any(|(service, n)| service == name && *n > 0);
    assert!(restarted("sshd") && restarted("netd"), "{:?}", status.boot.restarts);
    Ok(())
}
