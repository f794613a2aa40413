//! Coverage-guided fuzzing of every parser of foreign bytes, for a bounded time.
//!
//! `init/fuzz` is one libFuzzer program with a row a target. It needs a nightly compiler (for the coverage
//! counters) and a C++ one (for libFuzzer itself); the seeds and changed seeds run on stable Rust in the
//! unit tests whether this does or not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::image::workspace;
use crate::process;

/// What the compiler is asked for: counters at every edge and comparison, as `cargo fuzz` does. It stands
/// in for the flags of `.cargo/config.toml`, whose static binary libFuzzer cannot be.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing -Copt-level=2";
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// For cargo, which has everything to compile.
const COMPILE: Duration = Duration::from_secs(45 * 60);

/// What is not there and has to be, if anything: a nightly compiler, a C++ compiler.
pub fn missing() -> Option<&'static str> {
    let needed = [
        ("cargo", &["+nightly", "--version"][..], "a nightly compiler (rustup toolchain install nightly)"),
        ("c++", &["--version"], "a C++ compiler (apt-get install g++)"),
    ];
    let gone = |program: &str, words: &[&str]| {
        // `cargo run` names its own toolchain to its children.
        let there = Command::new(program).args(words).env_remove("RUSTUP_TOOLCHAIN").output();
        !there.is_ok_and(|output| output.status.success())
    };
    needed.iter().find(|(program, words, _)| gone(program, words)).map(|(_, _, what)| *what)
}

/// The program, compiled.
#[derive(Debug)]
pub struct Fuzzer {
    program: PathBuf,
}

impl Fuzzer {
    /// Compiles it.
    ///
    /// # Errors
    /// What the compiler said.
    pub fn build() -> Result<Self> {
        let crate_dir = crate_dir();
        // The versions that are shipped are the ones that are fuzzed.
        std::fs::copy(workspace().join("Cargo.lock"), crate_dir.join("Cargo.lock"))
            .context("copying Cargo.lock")?;
        let target_dir = workspace().join("target/fuzz");
        let mut build = Command::new("cargo");
        build.args(["+nightly", "build", "--quiet", "--release", "--target", TARGET, "--target-dir"]);
        build.arg(&target_dir).current_dir(&crate_dir).env("RUSTFLAGS", FLAGS);
        for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
            build.env_remove(name);
        }
        let output = process::run(&mut build, b"", COMPILE)?;
        if output.status != 0 {
            bail!("building init/fuzz:\n{}{}", output.stdout, output.stderr);
        }
        Ok(Self { program: target_dir.join(TARGET).join("release/fuzz") })
    }

    /// Fuzzes every target for `seconds`, two at once; gives their number.
    ///
    /// # Errors
    /// What a target found, with the input that does it.
    pub fn run(&self, seconds: u64) -> Result<usize> {
        let targets = targets(&crate_dir().join("corpus"))?;
        let work = std::sync::Mutex::new(targets.iter());
        let next = || work.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
        let worker = || {
            let mut findings = Vec::new();
            while let Some(target) = next() {
                if let Err(error) = self.fuzz(target, seconds) {
                    findings.push(format!("{error:#}"));
                }
            }
            findings
        };
        let findings: Vec<String> = std::thread::scope(|scope| {
            let workers = [scope.spawn(worker), scope.spawn(worker)];
            workers.into_iter().filter_map(|w| w.join().ok()).flatten().collect()
        });
        match findings.is_empty() {
            true => Ok(targets.len()),
            false => bail!("{}", findings.join("\n")),
        }
    }

    fn fuzz(&self, target: &str, seconds: u64) -> Result<()> {
        let kept: PathBuf = workspace().join("target/fuzz/corpus").join(target);
        let found: PathBuf = workspace().join("target/fuzz/found").join(target);
        for folder in [&kept, &found] {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let mut command = Command::new(&self.program);
        command.env("RESCUE_FUZZ", target).args([
            format!("-max_total_time={seconds}"),
            "-timeout=10".into(),
            "-rss_limit_mb=1024".into(),
            "-max_len=65536".into(),
            "-verbosity=0".into(),
            "-print_final_stats=0".into(),
            format!("-artifact_prefix={}/", found.display()),
        ]);
        // What is new goes to the first folder; the seeds are only read.
        command.arg(&kept).arg(crate_dir().join("corpus").join(target));
        let output = process::run(&mut command, b"", Duration::from_secs(seconds * 4 + 120))
            .with_context(|| format!("fuzzing {target}"))?;
        if output.status == 0 {
            return Ok(());
        }
        let said: Vec<&str> = output.stderr.lines().collect();
        let from = said.len().saturating_sub(30);
        bail!(
            "fuzzing {target} found something; the input is in {}, and becomes a seed in init/fuzz/corpus/{target} \
             once it is mended:\n{}",
            found.display(),
            said[from..].join("\n")
        )
    }
}

fn crate_dir() -> PathBuf {
    workspace().join("init/fuzz")
}

/// Every target has a folder of seeds; a test of `init` keeps it so.
fn targets(corpus: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(corpus).with_context(|| format!("reading {}", corpus.display()))?;
    let mut names: Vec<String> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}
