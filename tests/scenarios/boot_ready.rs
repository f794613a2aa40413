//! A boot reports every stage, ends with the ready line and the fingerprint of the injected host
//! key, and `rescue status` says the same over SSH.
use rescue_schema::report::{StageResult, StatusReport};

use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.rescue(&device)?.start()?;
    let ready = vm.ready()?;
    assert_eq!(ready.hostkey, device.host_key_fingerprint);
    assert_eq!(ready.ssh, "10.0.2.15:22", "the address that QEMU's network gives out");
    vm.console.stage("modules", limit(60))?;
    let said = vm.console.stages();
    assert!(!said.is_empty(), "no stage was reported");
    let failed: Vec<_> = said.iter().filter(|s| s.result == StageResult::Failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let status: StatusReport = vm.ssh(&device, "root")?.json("rescue status --json")?;
    assert_eq!(status.hostname, "db7");
    assert_eq!(status.boot.ready, Some(ready));
    assert_eq!(status.boot.device.as_deref(), Some("srv-0142"));
    assert_eq!(status.boot.logins, ["root"]);
    let names: Vec<_> = status.boot.stages.iter().map(|s| &s.name).collect();
    assert!(said.iter().all(|stage| names.contains(&&stage.stage)), "{said:?} and {names:?}");
    Ok(())
}
