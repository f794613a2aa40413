//! `cargo verify`: everything that must hold before a change is merged.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rescue_tests::fuzz::{self, Fuzzed};
use rescue_tests::image::workspace;
use rescue_tests::lab::Bench;
use rescue_tests::narrate::{Narrator, seconds};
use rescue_tests::runner::{self, Tally};
use rescue_tests::scenarios::{SCENARIOS, Scenario};
use rescue_tests::{apt, process};

const USAGE: &str = "\
usage: cargo verify -- [--only TEXT]… [--kernel] [--list]

Formatting, lints, the unit tests of the workspace, the fuzzer for a short time, and every scenario in
QEMU.
  --only TEXT   only the scenarios whose name holds TEXT, and nothing else
  --kernel      builds the kernel of kernel-configs/ for its scenario, which takes some ten minutes the first
                time; without this that scenario is done when the kernel is in the cache
  --list        the names of the scenarios";

/// For cargo, which may have everything to compile.
const COMPILE: Duration = Duration::from_secs(45 * 60);
/// For each target of the fuzzer.
const FUZZ_SECONDS: u64 = 5;

struct Wishes {
    only: Vec<String>,
    kernel: bool,
    list: bool,
}

fn main() -> ExitCode {
    let wishes = match arguments() {
        Ok(Some(wishes)) => wishes,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("verify: {error:#}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match verify(&wishes) {
        Ok(Tally { failed: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Option<Wishes>> {
    use lexopt::prelude::*;
    let mut wishes = Wishes { only: Vec::new(), kernel: false, list: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("only") => wishes.only.push(parser.value()?.string()?),
            Long("kernel") => wishes.kernel = true,
            Long("list") => wishes.list = true,
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(wishes))
}

fn verify(wishes: &Wishes) -> Result<Tally> {
    let mut chosen: Vec<&'static Scenario> = SCENARIOS
        .iter()
        .filter(|s| wishes.only.is_empty() || wishes.only.iter().any(|text| s.name.contains(text.as_str())))
        .collect();
    if wishes.list {
        chosen.iter().for_each(|scenario| println!("{}", scenario.name));
        return Ok(Tally::default());
    }
    if chosen.is_empty() {
        bail!("no scenario's name holds {}; `cargo verify -- --list` names them", wishes.only.join(" or "));
    }
    let whole = wishes.only.is_empty();
    let mut story = Narrator::new(if whole { 6 } else { 2 });
    story.step("Packages");
    apt::install_missing(&[apt::DEMO, apt::TESTS], |command| story.command(command))?;
    story.say("every program that is needed is there");
    let mut failed_checks = Vec::new();
    if whole {
        for (title, words) in CHECKS {
            story.step(title);
            if let Err(error) = cargo(&story, words) {
                println!("{error:#}");
                failed_checks.push(*title);
            }
        }
    }
    if whole {
        story.step("Fuzzing");
        match fuzz::run(&story, FUZZ_SECONDS) {
            Ok(Fuzzed::Clean(targets)) => {
                story.say(&format!("{targets} targets found nothing in {FUZZ_SECONDS} s each"));
            }
            Ok(Fuzzed::Unavailable(what)) => {
                story.say(&format!("not done: it needs {what}; the seeds were among the unit tests"));
            }
            Err(error) => {
                println!("{error:#}");
                failed_checks.push("Fuzzing");
            }
        }
    }
    story.step("Scenarios");
    let bench = Bench::default();
    if whole && !wishes.kernel && !kernel_is_cached(&bench)? {
        chosen.retain(|scenario| scenario.name != OWN_KERNEL);
        story.say("the kernel of kernel-configs/ is not in the cache: cargo verify -- --kernel builds it");
    }
    let mut tally = runner::run(&bench, &chosen)?;
    for check in &failed_checks {
        println!("FAILED  {check}");
    }
    tally.failed += failed_checks.len();
    tally.passed += if whole { CHECKS.len() + 1 - failed_checks.len() } else { 0 };
    println!("\nafter {}:", seconds(story.so_far()));
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally)
}

/// The scenario of the kernel that is built from `kernel-configs/`.
const OWN_KERNEL: &str = "own_kernel";

fn kernel_is_cached(bench: &Bench) -> Result<bool> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let mut command = bench.binaries()?.kernel_command("cloud", folder.path());
    Ok(process::run(command.arg("--cached"), b"", Duration::from_secs(120))?.status == 0)
}

/// What cargo checks: each row is a title and the words after `cargo`.
const CHECKS: &[(&str, &[&str])] = &[
    ("Formatting", &["fmt", "--all", "--check"]),
    ("Lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("Unit tests", &["test", "--quiet", "--workspace", "--no-fail-fast"]),
];

fn cargo(story: &Narrator, words: &[&str]) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(workspace());
    story.command(&format!("cargo {}", words.join(" ")));
    let title = words.first().copied().unwrap_or_default();
    let output = story.during(&format!("cargo {title}"), || process::run(&mut command, b"", COMPILE))?;
    if output.status != 0 {
        bail!("{}{}", output.stdout, output.stderr);
    }
    let tests: usize = output.stdout.lines().filter_map(passed_tests).sum();
    if tests > 0 {
        story.say(&format!("{tests} tests passed"));
    }
    Ok(())
}

/// The count in a line of the test harness: `test result: ok. 12 passed; 0 failed; …`.
fn passed_tests(line: &str) -> Option<usize> {
    line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse().context("a count").ok()
}
