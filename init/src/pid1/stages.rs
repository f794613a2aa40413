//! The table of contents of a boot.

use std::time::{Duration, Instant};

use rescue_schema::report::StageResult;

use super::boot::Boot;
use super::{consoles, fatal, mounts};
use crate::sys::log;

/// What happens when a stage fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing can be done without it: the fatal path.
    Must,
    /// It is reported, and the boot goes on.
    Should,
}

/// How a stage ended, with the reason where it did not simply succeed.
pub(super) type Outcome = (StageResult, String);

/// How a stage is done.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// At once: it asks only what RAM answers, so it cannot hang.
    Now(fn(&mut Boot) -> Outcome),
    /// Starts something and returns. The boot goes on beside it; the stage ends by a notice
    /// ([`Boot::note`]) or by its deadline.
    Begin(fn(&mut Boot)),
}

/// One stage.
pub(super) struct Stage {
    /// Its name in kmsg, in the order of this table.
    pub(super) name: &'static str,
    pub(super) need: Need,
    /// How long it may take before it is reported as failed. A stage that was begun goes on
    /// nevertheless, and what it brings later is used.
    pub(super) deadline: Duration,
    pub(super) step: Step,
}

const fn stage(name: &'static str, need: Need, seconds: u64, step: Step) -> Stage {
    Stage { name, need, deadline: Duration::from_secs(seconds), step }
}

/// The boot, in its order. What waits for something outside is begun as early as what it needs is
/// there, and everything after it overlaps: drivers load while credentials become accounts, and the
/// SSH server starts while DHCP waits. The consoles come last because each costs a process on the
/// way to the first login; they do not wait for anything.
pub(super) const STAGES: &[Stage] = &[
    stage("mounts", Need::Must, 5, Step::Now(mounts::stage)),
    stage("console", Need::Must, 5, Step::Now(consoles::stage)),
    stage("modules", Need::Should, 60, Step::Begin(Boot::begin_modules)),
    stage("credentials", Need::Should, 5, Step::Now(Boot::read_credentials)),
    stage("network", Need::Should, 30, Step::Begin(Boot::begin_network)),
    stage("accounts", Need::Should, 5, Step::Now(Boot::make_accounts)),
    stage("sources", Need::Should, 60, Step::Begin(Boot::begin_sources)),
    stage("ssh", Need::Should, 30, Step::Begin(Boot::begin_ssh)),
    stage("hostname", Need::Should, 5, Step::Now(Boot::set_hostname)),
    stage("logins", Need::Should, 5, Step::Now(Boot::start_consoles)),
];

/// Walks the table.
pub(super) fn walk(boot: &mut Boot) {
    for stage in STAGES {
        let begun = Instant::now();
        match stage.step {
            Step::Now(work) => {
                let (result, mut why) = work(boot);
                let took = begun.elapsed();
                if took > stage.deadline && why.is_empty() {
                    why = format!("took {} s", took.as_secs());
                }
                if result == StageResult::Failed && stage.need == Need::Must {
                    fatal::end(&format!("stage {}: {why}", stage.name));
                }
                boot.stage_ended(stage.name, result, took, why);
            }
            Step::Begin(work) => {
                boot.stage_begun(stage, begun);
                work(boot);
            }
        }
    }
    log::note("pid1", "every stage is done or under way");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_and_console_are_musts() {
        let musts: Vec<_> = STAGES.iter().filter(|s| s.need == Need::Must).map(|s| s.name).collect();
        assert_eq!(musts, ["mounts", "console"]);
    }

    #[test]
    fn names_are_unique_single_words() {
        for (i, stage) in STAGES.iter().enumerate() {
            assert!(stage.name.bytes().all(|b| b.is_ascii_lowercase()));
            assert!(STAGES[..i].iter().all(|other| other.name != stage.name));
        }
    }
}
