//! `cargo verify`: everything that must hold before a change is merged.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rescue_tests::fuzz::{self, Fuzzer};
use rescue_tests::image::workspace;
use rescue_tests::lab::Bench;
use rescue_tests::narrate::{Narrator, seconds};
use rescue_tests::runner::{self, Tally};
use rescue_tests::scenarios::{self, SCENARIOS, Scenario};
use rescue_tests::{apt, process};

const USAGE: &str = "\
usage: cargo verify -- [--only TEXT]… [--kernel] [--zfs DIR] [--list]

Formatting, lints, the unit tests of the workspace, every scenario in QEMU, and the fuzzer for a short time.
  --only TEXT   only the scenarios whose name holds TEXT, and nothing else
  --kernel      builds the kernels of kernel-configs/ for their scenarios, which takes some ten minutes each the
                first time; without this such a scenario is done when its kernel is in the cache
  --zfs DIR     the modules of a kernel that has a zfs.ko (Debian: zfs-dkms, /lib/modules/VERSION), for the scenarios
                of ZFS; apt must know zfsutils-linux (contrib). Without this it is not done
  --list        the names of the scenarios";

/// For cargo, which may have everything to compile.
const COMPILE: Duration = Duration::from_secs(45 * 60);
/// For each target of the fuzzer.
const FUZZ_SECONDS: u64 = 5;
/// The title of that step.
const FUZZING: &str = "Fuzzing";

struct Wishes {
    only: Vec<String>,
    kernel: bool,
    zfs: Option<PathBuf>,
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
        Ok(tally) if tally.failed.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Option<Wishes>> {
    use lexopt::prelude::*;
    let mut wishes = Wishes { only: Vec::new(), kernel: false, zfs: None, list: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("only") => wishes.only.push(parser.value()?.string()?),
            Long("kernel") => wishes.kernel = true,
            Long("zfs") => wishes.zfs = Some(parser.value()?.into()),
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
    let without_zfs = wishes.zfs.is_none() && chosen.iter().any(|scenario| ZFS.contains(&scenario.name));
    if without_zfs {
        chosen.retain(|scenario| !ZFS.contains(&scenario.name));
        if chosen.is_empty() {
            bail!("{NO_ZFS}");
        }
    }
    let whole = wishes.only.is_empty();
    let mut story = Narrator::new(if whole { 6 } else { 2 });
    story.step("Packages");
    let compiles =
        wishes.kernel || chosen.iter().all(|scenario| OWN_KERNELS.iter().any(|row| row.0 == scenario.name));
    let kernel = if compiles { apt::KERNEL } else { &[] };
    apt::install_missing(&[apt::DEMO, apt::TESTS, kernel], |command| story.command(command))?;
    story.say("every program that is needed is there");
    let bench = Bench::with_zfs(wishes.zfs.clone());
    std::thread::scope(|scope| {
        let fuzzer = whole.then(|| compile_meanwhile(scope, &bench));
        let mut failed: Vec<&str> = Vec::new();
        if whole {
            failed.extend(CHECKS.iter().filter_map(|(title, words)| {
                story.step(title);
                said(cargo(&story, words)).is_none().then_some(*title)
            }));
        }
        story.step("Scenarios");
        if without_zfs {
            story.say(NO_ZFS);
        }
        if whole {
            story.during("compiling the programs (begun with the lints)", || bench.binaries())?;
        }
        if whole && !wishes.kernel {
            for (name, configuration) in OWN_KERNELS {
                if !kernel_is_cached(&bench, configuration)? {
                    chosen.retain(|scenario| scenario.name != *name);
                    story.say(&format!(
                        "{name}: the kernel {configuration} of kernel-configs/ is not in the cache: \
                         cargo verify -- --kernel builds it"
                    ));
                }
            }
        }
        let mut tally = runner::run(&bench, &chosen)?;
        if let Some(fuzzer) = fuzzer {
            story.step(FUZZING);
            if said(fuzzing(&story, fuzzer)).is_none() {
                failed.push(FUZZING);
            }
            tally.passed += CHECKS.len() + 1 - failed.len();
        }
        tally.failed.extend(failed.into_iter().map(str::to_string));
        // Again and at the end, where the one who comes back to a long output looks.
        for failure in &tally.failed {
            println!("FAILED  {failure}");
        }
        println!("\nafter {}:", seconds(story.so_far()));
        println!("{} passed, {} failed", tally.passed, tally.failed.len());
        Ok(tally)
    })
}

/// Compiles what the scenarios and the fuzzer run, at a lower priority: lints, tests that wait for a clock and machines
/// that do nothing leave processors idle.
fn compile_meanwhile<'s>(
    scope: &'s Scope<'s, '_>,
    bench: &'s Bench,
) -> ScopedJoinHandle<'s, Option<Result<Fuzzer>>> {
    // Of one thread and of what it starts. Refused or not: it is a courtesy.
    let courteous = || {
        let _ = rustix::process::nice(10);
    };
    scope.spawn(move || {
        courteous();
        // What fails here is told where they are waited for, which tries again.
        drop(bench.binaries());
    });
    scope.spawn(move || {
        courteous();
        fuzz::missing().is_none().then(Fuzzer::build)
    })
}

/// Fuzzes with the program that this thread compiles, if it can be compiled here.
fn fuzzing(story: &Narrator, fuzzer: ScopedJoinHandle<'_, Option<Result<Fuzzer>>>) -> Result<()> {
    let made = story.during("compiling for the fuzzer (begun with the lints)", || {
        fuzzer.join().map_err(|_| anyhow!("the thread that compiles ended by a panic"))
    })?;
    let Some(fuzzer) = made else {
        let what = fuzz::missing().unwrap_or_default();
        story.say(&format!("not done: it needs {what}; the seeds were among the unit tests"));
        return Ok(());
    };
    let fuzzer = fuzzer?;
    let targets = story.during("fuzzing", || fuzzer.run(FUZZ_SECONDS))?;
    story.say(&format!("{targets} targets found nothing in {FUZZ_SECONDS} s each"));
    Ok(())
}

/// What came of a check; an error is printed.
fn said<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(|error| println!("{error:#}")).ok()
}

/// The scenarios of the kernels that are built from `kernel-configs/`, and the configuration of each.
const OWN_KERNELS: &[(&str, &str)] = &[("own_kernel", "cloud"), ("server_kernel", "server")];

/// The scenarios that need a zfs.ko, and what is said where none was named.
const ZFS: &[&str] = &["zfs_root", "zfs_layouts"];
const NO_ZFS: &str = "zfs_root and zfs_layouts are not done without the modules of a kernel that has a zfs.ko: cargo verify -- --zfs DIR";

fn kernel_is_cached(bench: &Bench, configuration: &str) -> Result<bool> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let mut command = bench.binaries()?.kernel_command(configuration, folder.path());
    Ok(process::run(command.arg("--cached"), b"", Duration::from_secs(120))?.status == 0)
}

/// What cargo checks: each row is a title and the words after `cargo`.
const CHECKS: &[(&str, &[&str])] = &[
    ("Formatting", &["fmt", "--all", "--", "--check"]),
    ("Lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("Unit tests", &["test", "--quiet", "--workspace", "--no-fail-fast"]),
];

fn cargo(story: &Narrator, words: &[&str]) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(workspace());
    if words.first() == Some(&"fmt") {
        // Modules that a macro names are not seen by rustfmt.
        command.args(scenarios::files()?);
    }
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
