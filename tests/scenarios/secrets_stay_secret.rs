//! No secret of the device document is in kmsg, the boot log, a command line, an environment or a
//! file that others may read.
use crate::guest::Guest;
use crate::lab::Lab;
use crate::vm::Vm;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.ready(&device, &[])?;
    let guest = vm.ssh(&device, "root")?;
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&device.document)?)?;
    let hash = document["logins"][0]["password_hash"].as_str().unwrap_or_default();
    let key = document["ssh"]["host_keys"][0].as_str().unwrap_or_default();
    for secret in [&hash[20..60], key.lines().nth(2).unwrap_or_default()] {
        nowhere(&vm, &guest, secret)?;
    }
    assert_eq!(guest.run("test -e /etc/rescue/device.json")?.status, 1, "the document is removed once read");
    Ok(())
}

/// It is in no log, argument, environment, or file that others may read.
pub(super) fn nowhere(vm: &Vm, guest: &Guest, secret: &str) -> anyhow::Result<()> {
    assert!(secret.len() > 30, "no secret to look for");
    let found = guest.run_with_input(
        "read -r s; dmesg | grep -cF -- \"$s\"; cat /run/rescue/log | grep -cF -- \"$s\"; \
             cat /proc/cmdline /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | grep -acF -- \"$s\"; \
             find / -xdev -type f -perm /044 2>/dev/null -exec grep -lF -- \"$s\" {} + ; \
             find /run /tmp /etc -type f -perm /044 -exec grep -lF -- \"$s\" {} + ; true",
        format!("{secret}\n").as_bytes(),
    )?;
    assert_eq!(found.stdout, "0\n0\n0\n", "{found:?}");
    assert!(!vm.console.lines().iter().any(|line| line.contains(secret)), "on the console");
    Ok(())
}
