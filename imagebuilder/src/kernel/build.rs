//! `imagebuilder kernel build`: merges fragments, checks that every symbol survived, compiles.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};

use super::fragment::{self, FRAGMENTS, Wanted};
use super::place::Place;
use super::reason::Definitions;
use super::signing::Signing;
use super::source::{self, Extent};
use super::{Configuration, configuration};
use crate::apt::Lists;
use crate::packages::{Cache, hex};

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    /// `cloud` or `server`.
    pub(crate) configuration: String,
    /// Fragments of the user's own, which come last.
    pub(crate) fragments: Vec<PathBuf>,
    /// A key and its certificate, in one PEM, that modules are signed with.
    pub(crate) signing_key: Option<PathBuf>,
    /// The package with the source, possibly a meta-package.
    pub(crate) source: String,
    /// Stop once every symbol is known to have survived.
    pub(crate) merge_only: bool,
    /// Take it from the cache or fail.
    pub(crate) cached: bool,
    /// Processes of the compiler.
    pub(crate) jobs: usize,
    /// Where `vmlinuz`, `config-RELEASE` and `modules/RELEASE` go.
    pub(crate) output: PathBuf,
}

/// What makes a build differ between machines and times, fixed (Documentation/kbuild/reproducible-builds.rst).
const REPRODUCIBLE: [(&str, &str); 5] = [
    ("KBUILD_BUILD_TIMESTAMP", "@0"),
    ("KBUILD_BUILD_USER", "rescue"),
    ("KBUILD_BUILD_HOST", "rescue"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("LC_ALL", "C"),
];
/// Programs that a build calls, the package of each, and whether merging needs it already.
const PROGRAMS: [(&str, &str, bool); 8] = [
    ("make", "make", true),
    ("gcc", "gcc", true),
    ("flex", "flex", true),
    ("bison", "bison", true),
    ("bc", "bc", false),
    ("lz4", "lz4", false),
    ("depmod", "kmod", false),
    ("openssl", "openssl", false),
];
/// Headers that a build includes, and the package of each.
const HEADERS: [(&str, &str); 2] =
    [("/usr/include/libelf.h", "libelf-dev"), ("/usr/include/openssl/opensslv.h", "libssl-dev")];
/// Largest fragment in bytes: more than all symbols of Linux with a reason each.
const MAX_FRAGMENT: u64 = 4 << 20;
/// Lines of the compiler that are kept to be shown when it fails.
const LAST_LINES: usize = 12;

/// Builds a kernel, or takes it from the cache.
///
/// # Errors
/// What is missing, a symbol that did not survive with the reason, or what the compiler said.
pub(crate) fn build(wish: &Wish) -> Result<()> {
    let started = Instant::now();
    let configuration = configuration(&wish.configuration)?;
    let mut wanted = wanted(configuration, &wish.fragments)?;
    let signing = Signing::new(&wanted, wish.signing_key.as_ref())?;
    wanted.extend(signing.symbols(&wanted));
    check_tools(wish.merge_only)?;
    let cache = Cache::open()?;
    let lists = Lists::open(cache.answers());
    let package = lists.source(&wish.source)?;
    lists.save();
    let merged = merged(&wanted);
    let key = key(&package.sha256, &merged, &signing)?;
    let kept = cache.folder("kernels")?.join(&key);
    if !wish.merge_only && kept.is_dir() {
        return deliver(&kept, &wish.output, started);
    }
    ensure!(
        !wish.cached,
        "the kernel {} is not in the cache; without --cached it is built",
        configuration.name
    );
    let extent = if wish.merge_only { Extent::Kconfig } else { Extent::Whole };
    let source = source::unpacked(&cache, &package, extent)?;
    let work = Place::new(&cache.folder("compiling")?)?;
    configure(&source, work.path(), &merged)?;
    let config = std::fs::read_to_string(work.path().join(".config")).context("reading the configuration")?;
    survived(&wanted, &config, &source)?;
    println!("{}: all {} symbols survived merging ({})", configuration.name, wanted.len(), package.version);
    if wish.merge_only {
        return Ok(());
    }
    signing.place(work.path())?;
    compile(&source, work.path(), wish.jobs)?;
    let made = collect(&source, work.path(), &cache)?;
    if let Err(error) = std::fs::rename(made.path(), &kept) {
        // Another build may have been first; what it made is as good.
        ensure!(kept.is_dir(), "moving the kernel into the cache: {error}");
    } else {
        let _ = made.keep();
    }
    deliver(&kept, &wish.output, started)
}

/// The symbols of a configuration and of the user's own fragments, which have the last word.
///
/// # Errors
/// A fragment that is wrong, or two of ours that contradict each other.
pub(super) fn wanted(configuration: &Configuration, own: &[PathBuf]) -> Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    for name in configuration.fragments {
        let row = FRAGMENTS.iter().find(|row| row.0 == *name);
        let (_, text) = row.with_context(|| format!("no kernel-configs/{name}.config"))?;
        for one in fragment::fragment(&format!("kernel-configs/{name}.config"), text)? {
            if let Some(other) = all.iter().find(|other| other.symbol == one.symbol) {
                bail!("{}: {} stands at {} already", one.at, one.symbol, other.at);
            }
            all.push(one);
        }
    }
    for path in own {
        let file = path.display().to_string();
        let mut text = String::new();
        let open = File::open(path).and_then(|open| open.take(MAX_FRAGMENT + 1).read_to_string(&mut text));
        open.with_context(|| format!("reading fragment {file}"))?;
        ensure!(text.len() as u64 <= MAX_FRAGMENT, "fragment {file}: over {} MiB", MAX_FRAGMENT >> 20);
        for one in fragment::fragment(&file, &text)? {
            all.retain(|other| other.symbol != one.symbol);
            all.push(one);
        }
    }
    Ok(all)
}

fn check_tools(merge_only: bool) -> Result<()> {
    let folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let extra = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    let is_there = |name: &str| folders.iter().chain(&extra).any(|folder| folder.join(name).is_file());
    let programs = PROGRAMS.iter().filter(|row| (row.2 || !merge_only) && !is_there(row.0)).map(|row| row.1);
    let headers = HEADERS.iter().filter(|row| !merge_only && !Path::new(row.0).exists()).map(|row| row.1);
    let missing: BTreeSet<&str> = programs.chain(headers).collect();
    let list = missing.into_iter().collect::<Vec<_>>().join(" ");
    ensure!(
        list.is_empty(),
        "building a kernel needs packages that are not installed; run: apt-get install {list}"
    );
    Ok(())
}

fn merged(wanted: &[Wanted]) -> String {
    let mut text = String::new();
    for one in wanted {
        let _ = match one.value.as_str() {
            "n" => writeln!(text, "# {} is not set", one.symbol),
            value => writeln!(text, "{}={value}", one.symbol),
        };
    }
    text
}

/// Digest of all that a kernel is made of.
fn key(source: &str, merged: &str, signing: &Signing) -> Result<String> {
    let output = Command::new("gcc").arg("--version").output().context("running gcc")?;
    let mut hash = Sha256::new();
    for part in [source.as_bytes(), merged.as_bytes(), &output.stdout, signing.digested()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Ok(hex(&hash.finalize()))
}

fn make(source: &Path, work: &Path) -> Command {
    let mut command = Command::new("make");
    command.arg("-C").arg(source).arg(format!("O={}", work.display())).arg("ARCH=x86_64");
    command.envs(REPRODUCIBLE).stdin(Stdio::null());
    // What the caller's own make or configuration says is not ours.
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "KCONFIG_CONFIG", "LOCALVERSION", "CROSS_COMPILE"] {
        command.env_remove(name);
    }
    command
}

fn configure(source: &Path, work: &Path, merged: &str) -> Result<()> {
    let file = work.join("merged.config");
    std::fs::write(&file, merged).context("writing the merged fragments")?;
    let output = make(source, work)
        .args(["-s", "allnoconfig"])
        .env("KCONFIG_ALLCONFIG", &file)
        .output()
        .context("running make")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "configuring the kernel: {}",
        said.lines().last().unwrap_or("make failed")
    );
    Ok(())
}

/// Whether every symbol is as it was wanted.
fn survived(wanted: &[Wanted], config: &str, source: &Path) -> Result<()> {
    let config = fragment::config(config);
    let missing = fragment::missing(wanted, &config);
    if missing.is_empty() {
        return Ok(());
    }
    let definitions = Definitions::read(source);
    let lines: Vec<String> = missing
        .iter()
        .map(|(one, has)| {
            format!(
                "{}: {}={has}, wanted ={}: {}",
                one.at,
                one.symbol,
                one.value,
                definitions.why(&one.symbol, &config)
            )
        })
        .collect();
    for line in &lines {
        eprintln!("{line}");
    }
    bail!("{} symbols did not survive merging", lines.len())
}

fn compile(source: &Path, work: &Path, jobs: usize) -> Result<()> {
    let bar = indicatif::ProgressBar::new_spinner().with_message("compiling the kernel");
    bar.enable_steady_tick(Duration::from_millis(200));
    let log = work.join("build.log");
    let errors = File::create(&log).context("making a log")?;
    let mut child = make(source, work)
        .arg(format!("-j{jobs}"))
        .args(["bzImage", "modules"])
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("running make")?;
    let mut files = 0_u64;
    for line in BufReader::new(child.stdout.take().context("make's output")?).split(b'\n') {
        let line = line.context("reading make's output")?;
        if line.starts_with(b"  CC") {
            files += 1;
            bar.set_message(format!("compiling the kernel: {files} files"));
        }
    }
    let status = child.wait().context("waiting for make")?;
    bar.finish_and_clear();
    if status.success() {
        return Ok(());
    }
    let said = std::fs::read(&log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
        eprintln!("  {line}");
    }
    let error = lines.iter().find(|line| line.contains("rror:")).copied().unwrap_or("make failed");
    Err(anyhow!("compiling the kernel: {}", error.trim()))
}

/// Gathers what a build made.
fn collect(source: &Path, work: &Path, cache: &Cache) -> Result<tempfile::TempDir> {
    let made = cache.temporary()?;
    let release = std::fs::read_to_string(work.join("include/config/kernel.release"));
    let release = release.context("reading the kernel's release")?.trim().to_string();
    let copy = |from: &str, to: &str| {
        std::fs::copy(work.join(from), made.path().join(to))
            .map(drop)
            .with_context(|| format!("copying {from}"))
    };
    copy("arch/x86/boot/bzImage", "vmlinuz")?;
    copy(".config", &format!("config-{release}"))?;
    let root = work.join("installed");
    let output = make(source, work)
        .args(["-s", "modules_install", "INSTALL_MOD_STRIP=1"])
        .arg(format!("INSTALL_MOD_PATH={}", root.display()))
        .output()
        .context("running make modules_install")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "installing the modules: {}",
        said.lines().last().unwrap_or("make failed")
    );
    let modules = made.path().join("modules").join(&release);
    copy_tree(&root.join("lib/modules").join(&release), &modules)?;
    Ok(made)
}

/// Files and folders alone: the links that a kernel leaves lead to its source.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (kind, there) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &there)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &there).with_context(|| format!("copying {}", there.display()))?;
        }
    }
    Ok(())
}

fn deliver(kept: &Path, output: &Path, started: Instant) -> Result<()> {
    copy_tree(kept, output)?;
    let release = std::fs::read_dir(kept.join("modules"))?.flatten().next().context("no modules folder")?;
    let bytes = std::fs::metadata(kept.join("vmlinuz"))?.len();
    let out = output.display();
    println!("{out}/vmlinuz: {:.1} MiB", bytes as f64 / 1_048_576.0);
    println!(
        "use it: imagebuilder build --kernel {out}/vmlinuz --modules {out}/modules/{} …",
        release.file_name().to_string_lossy()
    );
    println!("in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
