//! Runs scenarios, a few at once, and says how each ended.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::image::target;
use crate::lab::{Bench, Lab};
use crate::scenarios::Scenario;

/// Machines at once. Emulated, each keeps a processor busy while it boots, and waits for clocks, a server or a program
/// of the host for some third of its time.
fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get() * 3 / 2).min(6)
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many held.
    pub passed: usize,
    /// What did not: each by its name and what was wrong, in one line.
    pub failed: Vec<String>,
}

/// Runs `chosen`, prints a line for each as it ends, and each failure in full.
///
/// # Errors
/// When the scenarios' folder cannot be made.
pub fn run(bench: &Bench, chosen: &[&'static Scenario]) -> Result<Tally> {
    let root = target().join("rescue-tests/scenarios");
    std::fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
    let queue = Mutex::new(chosen.iter().copied().collect::<VecDeque<_>>());
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..at_once().min(chosen.len()) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(scenario) = next else { break };
                    let start = Instant::now();
                    let result = run_one(bench, scenario, &root);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    say(scenario.name, start.elapsed(), &result);
                    match result {
                        Ok(()) => tally.passed += 1,
                        Err(error) => tally.failed.push(format!("{}: {}", scenario.name, one_line(&error))),
                    }
                }
            });
        }
    });
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_string()
}

fn run_one(bench: &Bench, scenario: &Scenario, root: &Path) -> Result<()> {
    let dir = root.join(scenario.name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("clearing {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir)?;
    let lab = Lab { name: scenario.name, dir: dir.clone(), bench };
    // A panic (an assertion) is a failure of this scenario alone.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (scenario.run)(&lab)));
    let result = match outcome {
        Ok(result) => result,
        Err(panic) => Err(anyhow::anyhow!(
            "{}\nthe whole console: {}\nrun it again: cargo verify -- --only {}",
            panic_text(panic.as_ref()),
            dir.join("console.log").display(),
            scenario.name
        )),
    };
    if result.is_ok() {
        clear_large_files(&dir);
    }
    result
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_string()
}

/// Disks and initramfs files of a scenario that held are of no use any more; logs are.
fn clear_large_files(dir: &Path) {
    const KEPT: u64 = 4 << 20;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.metadata().is_ok_and(|m| m.is_file() && m.len() > KEPT) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn say(name: &str, took: Duration, result: &Result<()>) {
    let mut out = std::io::stdout().lock();
    let seconds = took.as_secs_f64();
    let _ = match result {
        Ok(()) => writeln!(out, "ok      {name:<28} {seconds:6.1} s"),
        Err(error) => {
            let text = format!("{error:#}").replace('\n', "\n        ");
            writeln!(out, "FAILED  {name:<28} {seconds:6.1} s\n        {text}\n")
        }
    };
    let _ = out.flush();
}
