//! `sshd` and `netd` that are killed come back by themselves, and open sessions of others live on.
use rescue_schema::report::StatusReport;

use crate::lab::Lab;
use crate::vm::limit;

/// The process that PID 1 started for this service: the oldest of that command line.
const PID: &str = "pid_of() { for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' <$p/cmdline 2>/dev/null)\" ] && \
    set -- $1 $(tr '\\0' ' ' <$p/cmdline) && [ \"$(awk '/^PPid/{print $2}' $p/status)\" = 1 ] && \
    case \" $(tr '\\0' ' ' <$p/cmdline)\" in *\" $1 \"*) echo ${p#/proc/};; esac; set -- $1; done; }; ";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.ready(&device, &[])?;
    let guest = vm.ssh(&device, "root")?;
    let mut other = guest.open("while read line; do echo \"heard $line\"; done")?;
    assert_eq!(other.ask("one")?, "heard one");
    for service in ["sshd", "netd"] {
        let pid = guest.ok(&format!("{PID} pid_of {service} | head -n 1"))?;
        assert!(!pid.is_empty(), "{service} does not run");
        guest.run(&format!("kill -9 {pid}"))?;
        let end = std::time::Instant::now() + limit(30);
        loop {
            let back = guest.run(&format!("{PID} pid_of {service} | head -n 1"))?;
            if back.status == 0 && !back.stdout.trim().is_empty() && back.stdout.trim() != pid {
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
