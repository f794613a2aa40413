//! Reads all facts that an image is planned from: the kernel and what its modules say, the packages
//! and what their programs need, the `rescue` binary, busybox's applets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::additions::{Additions, HostFiles};
use crate::apt::{Lists, Package, Unknown};
use crate::elf::{self, Needs};
use crate::kmod::Packing;
use crate::packages::Cache;
use crate::spec::{Spec, Word};
use crate::store::Pack;

mod files;
mod kernel;

use files::files_of;
pub(crate) use files::interpreter;
pub(crate) use kernel::{KernelFacts, KernelSource};

/// Where the bytes of a file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Written by the builder.
    Inline(Vec<u8>),
    /// A file of this machine, and how it is compressed.
    Host(PathBuf, Packing),
    /// A file of a package.
    Packed { package: String, path: String },
}

/// A file of a package, as far as closures need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileFact {
    /// A regular file; what it needs if it is an ELF, its interpreter if it is a script.
    Regular { mode: u32, bytes: u64, needs: Option<Needs>, script: Option<String> },
    /// A link and its target.
    Symlink(String),
}

/// A package that programs or libraries are taken from.
#[derive(Debug)]
pub(crate) struct PackageFacts {
    pub(crate) package: Package,
    pub(crate) files: BTreeMap<String, FileFact>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) kernel: KernelFacts,
    pub(crate) packages: BTreeMap<String, PackageFacts>,
    /// What `busybox --list-full` says.
    pub(crate) applets: Vec<String>,
    pub(crate) init: PathBuf,
    /// Programs of this machine that were added, with their libraries.
    pub(crate) programs: HostFiles,
    /// What is laid over the image.
    pub(crate) overlay: HostFiles,
    /// The firmware of this machine, by the name that the kernel asks for.
    pub(crate) firmware: BTreeMap<String, (PathBuf, Packing)>,
    /// Packages that were resolved, for the manifest.
    pub(crate) resolved: BTreeMap<String, Package>,
}

/// The packages behind the facts, opened.
pub(crate) type Packs = BTreeMap<String, Pack>;

/// Observes.
///
/// # Errors
/// Whatever is missing, with what to do about it.
pub(crate) fn observe(
    spec: &Spec,
    kernel: &KernelSource,
    additions: &Additions,
    firmware: &Path,
    init: PathBuf,
) -> Result<(Facts, Packs)> {
    check_init(&init)?;
    if spec.profile.https {
        check_init(&https_of(&init))?;
    }
    ensure!(
        firmware == Path::new(crate::FIRMWARE) || firmware.is_dir(),
        "--firmware {}: no such folder",
        firmware.display()
    );
    let (programs, overlay) = (additions.programs()?, additions.overlay()?);
    names(spec, kernel)?;
    if let KernelSource::Host { vmlinuz, modules } = kernel {
        file(vmlinuz).with_context(|| format!("opening kernel {}", vmlinuz.display()))?;
        std::fs::read_dir(modules)
            .with_context(|| format!("reading modules directory {}", modules.display()))?;
    }
    let names: BTreeSet<String> = spec.packages().map(|tool| tool.name.text.clone()).collect();
    let named = |error: anyhow::Error| blame(spec, error);
    let cache = Cache::open()?;
    let lists = Lists::open(cache.answers());
    // apt takes its time to open its lists; the two questions do not depend on each other.
    let (kernel_package, tools) = std::thread::scope(|scope| {
        let kernel_package = scope.spawn(|| match kernel {
            KernelSource::Package => lists.kernel(&spec.profile.kernel.text).map(Some),
            KernelSource::Host { .. } | KernelSource::Deb(_) => Ok(None),
        });
        let tools = lists.with_libraries(&names);
        (kernel_package.join(), tools)
    });
    let kernel_package = kernel_package.map_err(|_| anyhow!("looking up the kernel's package failed"))?;
    let (kernel_package, tools) = (kernel_package.map_err(named)?, tools.map_err(named)?);
    lists.save();
    let wanted: Vec<&Package> = tools.values().chain(&kernel_package).collect();
    let mut packs = cache.fetch(&wanted)?;
    let mut kernel = match (kernel, &kernel_package) {
        (KernelSource::Host { vmlinuz, modules }, _) => kernel::of_host(vmlinuz, modules)?,
        (KernelSource::Package, Some(package)) => {
            let pack = packs.get(&package.name).context("the kernel's package")?;
            kernel::of_package(package, pack).with_context(|| format!("package {}", package.name))?
        }
        (KernelSource::Deb(path), _) => {
            let (package, pack) = cache.local(path)?;
            let kernel = kernel::of_package(&package, &pack).with_context(|| path.display().to_string())?;
            packs.insert(package.name, pack);
            KernelFacts { foreign: true, ..kernel }
        }
        (KernelSource::Package, None) => bail!("no kernel package"),
    };
    kernel.foreign |= !spec.profile.kernel.ours;
    kernel::check_release(&kernel, &packs)?;
    let named: BTreeSet<&str> = spec.packages().flat_map(|p| &p.programs).map(|w| w.text.as_str()).collect();
    let mut facts = BTreeMap::new();
    for (name, package) in &tools {
        let pack = packs.get(name).with_context(|| format!("package {name}"))?;
        let tools = || spec.packages().filter(|tool| tool.name.text == *name);
        let globs: Vec<&Word> = tools().flat_map(|tool| &tool.files).collect();
        let wanted = match tools().any(|tool| tool.every_program) {
            true => None,
            false => Some(&named),
        };
        let files = files_of(pack, wanted, &globs).with_context(|| format!("package {name}"))?;
        facts.insert(name.clone(), PackageFacts { package: package.clone(), files });
    }
    let applets = match packs.get("busybox-static") {
        Some(pack) => applets(&pack.read("bin/busybox").or_else(|_| pack.read("usr/bin/busybox"))?)?,
        None => Vec::new(),
    };
    let resolved = tools.into_iter().chain(kernel_package.map(|p| (p.name.clone(), p))).collect();
    let firmware = match spec.profile.firmware {
        true => firmware_of(firmware),
        false => BTreeMap::new(),
    };
    Ok((Facts { kernel, packages: facts, applets, init, programs, overlay, firmware, resolved }, packs))
}

/// Says where a package that apt does not know is named.
fn blame(spec: &Spec, error: anyhow::Error) -> anyhow::Error {
    let Some(unknown) = error.downcast_ref::<Unknown>() else { return error };
    let words = spec.packages().map(|tool| &tool.name).chain([&spec.profile.kernel]);
    match words.into_iter().find(|word| word.text == unknown.0) {
        Some(word) => anyhow!("{}: {error}", word.at),
        None => error,
    }
}

/// Deepest folder of firmware that is looked into.
const FIRMWARE_DEPTH: usize = 8;

/// The firmware in a folder, by the name that the kernel asks for (Documentation/driver-api/firmware).
fn firmware_of(folder: &Path) -> BTreeMap<String, (PathBuf, Packing)> {
    let mut found = BTreeMap::new();
    let mut queue = vec![(folder.to_path_buf(), String::new(), 0)];
    while let Some((at, below, depth)) = queue.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
            let (path, Ok(name)) = (entry.path(), entry.file_name().into_string()) else { continue };
            let name = if below.is_empty() { name } else { format!("{below}/{name}") };
            // Links name the same firmware for another card.
            let Ok(data) = std::fs::metadata(&path) else { continue };
            if data.is_dir() && depth < FIRMWARE_DEPTH {
                queue.push((path, name, depth + 1));
            } else if data.is_file() {
                let ends = [(".xz", Packing::Xz), (".zst", Packing::Zstd)];
                let packed = ends.into_iter().find_map(|(end, how)| Some((name.strip_suffix(end)?, how)));
                let (plain, packing) = packed.unwrap_or((&name, Packing::Plain));
                found.entry(plain.to_string()).or_insert((path, packing));
            }
        }
    }
    found
}

/// What speaks HTTPS is built beside the rescue.
pub(crate) fn https_of(init: &Path) -> PathBuf {
    init.with_file_name("rescue-https")
}

/// Largest kernel or rescue binary.
const MAX_FILE: u64 = 256 << 20;

/// Whether it is a file that can be read to its end.
fn file(path: &Path) -> Result<()> {
    let data = std::fs::metadata(path)?;
    ensure!(data.is_file(), "not a file");
    ensure!(data.len() <= MAX_FILE, "{} MiB; at most {}", data.len() >> 20, MAX_FILE >> 20);
    File::open(path)?;
    Ok(())
}

/// Whether packages are named as packages are.
fn names(spec: &Spec, kernel: &KernelSource) -> Result<()> {
    let own = (*kernel == KernelSource::Package).then_some(&spec.profile.kernel);
    for word in spec.packages().map(|tool| &tool.name).chain(own) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-.:_".contains(c);
        ensure!(
            word.text.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.text.chars().all(plain),
            "{}: {:?} is no name of a package; correct it",
            word.at,
            word.text
        );
    }
    Ok(())
}

fn check_init(path: &Path) -> Result<()> {
    let bytes = file(path).and_then(|()| Ok(std::fs::read(path)?)).with_context(|| {
        format!(
            "reading the rescue binary {}: build it (cargo build --release), or name it with --init",
            path.display()
        )
    })?;
    let fixed = elf::is_static(&bytes).with_context(|| format!("{}", path.display()))?;
    ensure!(
        fixed,
        "{}: not a static binary, so that it cannot be PID 1; build it with target-feature=+crt-static",
        path.display()
    );
    Ok(())
}

/// Folders that programs are taken from.
pub(crate) const PROGRAM_FOLDERS: [&str; 4] = ["sbin", "bin", "usr/sbin", "usr/bin"];

/// The matcher of a toolset's glob.
///
/// # Errors
/// When it is malformed.
pub(crate) fn glob(word: &Word) -> Result<globset::GlobMatcher> {
    let glob = globset::Glob::new(&word.text);
    Ok(glob.with_context(|| format!("{}: glob {:?}", word.at, word.text))?.compile_matcher())
}

/// Asks busybox itself, from memory: the cache may lie on a file system mounted noexec.
fn applets(busybox: &[u8]) -> Result<Vec<String>> {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let memory =
        rustix::fs::memfd_create("busybox", rustix::fs::MemfdFlags::empty()).context("memfd_create")?;
    let mut file = File::from(memory);
    file.write_all(busybox)?;
    let output = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .arg0_busybox()
        .stdin(Stdio::null())
        .output()
        .context("running busybox --list-full")?;
    let text = String::from_utf8(output.stdout).context("busybox --list-full is not UTF-8")?;
    let applets: Vec<String> = text.lines().map(String::from).collect();
    ensure!(output.status.success() && applets.len() > 50, "busybox --list-full: {} applets", applets.len());
    Ok(applets)
}

trait Arg0 {
    fn arg0_busybox(&mut self) -> &mut Self;
}

impl Arg0 for Command {
    fn arg0_busybox(&mut self) -> &mut Self {
        use std::os::unix::process::CommandExt;
        self.arg0("busybox").arg("--list-full")
    }
}
