//! What `rescue mount` tells a person of one system.

use rescue_schema::report::MountReport;

use super::mount_one::How;
use super::wrapped::tell;
use crate::disk::mount;

/// What is there, or what is about to be done: said before it is done.
pub(super) fn say(report: &MountReport, plan: Option<&mount::Plan>, how: &How) {
    if how.json || how.quiet {
        return;
    }
    let pretty = report.pretty_name.as_deref().map(|p| format!(": {p}")).unwrap_or_default();
    let Some(plan) = plan else {
        let state = if report.read_only { "read-only" } else { "read-write" };
        tell!("{}{pretty}\n  already mounted at {}, {state}", report.system, report.target);
        return;
    };
    tell!("{}{pretty}", report.system);
    let rows: Vec<(String, String, String)> = plan
        .steps
        .iter()
        .map(|s| {
            (
                mount::shown(s.bind.as_ref().unwrap_or(&s.device)),
                mount::shown(&plan.place(s).to_string_lossy()),
                s.how(),
            )
        })
        .collect();
    let width = |column: fn(&(String, String, String)) -> &String| {
        rows.iter().map(|r| column(r).chars().count()).max().unwrap_or(0)
    };
    let (device, place) = (width(|r| &r.0), width(|r| &r.1));
    for row in &rows {
        tell!("  {:<device$} → {:<place$}  {}", row.0, row.1, row.2);
    }
    report.left_out.iter().for_each(|line| tell!("  - {line}"));
    report.trouble.iter().for_each(|line| tell!("  ! {line}"));
    if how.dry_run {
        tell!("nothing was done");
    }
}

pub(super) fn hint(report: &MountReport, how: &How) -> String {
    if !report.read_only {
        return format!("repair it in {}, then: rescue umount, reboot", report.target);
    }
    if how.leave.write {
        return format!("look around in {}; this file system is only read here", report.target);
    }
    format!("look around in {}; to change it: rescue mount --rw{}", report.target, how.again)
}
