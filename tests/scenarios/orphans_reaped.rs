//! Ten thousand orphans leave no zombie behind, and PID 1 serves on.
use crate::lab::Lab;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.ready(&device, &[])?;
    let guest = vm.ssh(&device, "root")?;
    // A subshell that ends before its background child hands the child to PID 1. In batches, so that
    // one command stays within its limit on a slow machine.
    for _ in 0..20 {
        guest.ok("i=0; while [ $i -lt 500 ]; do ( : & ); i=$((i+1)); done")?;
    }
    let zombies = "sleep 1; n=0; for s in /proc/[0-9]*/status; do \
                   grep -qs '^State:.Z' $s && n=$((n+1)); done; echo $n";
    assert_eq!(guest.ok(zombies)?, "0");
    assert_eq!(guest.ok("tr '\\0' ' ' </proc/1/cmdline | cut -c1-5")?, "/init");
    Ok(())
}
