//! Reads all facts that an image is planned from: the kernel and what its modules say, the packages
//! and what their programs need, the `rescue` binary, busybox's applets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::additions::{Additions, HostFiles};
use crate::apt::{Lists, Package, Unknown};
use crate::deb::resolve_link;
use crate::elf::{self, Needs};
use crate::kmod::Packing;
use crate::packages::Cache;
use crate::spec::{Spec, Word};
use crate::store::{Pack, Packed};

mod kernel;

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

/// What closures need of a package's files; `programs` are those that are wanted, all of them if `None`.
fn files_of(
    pack: &Pack,
    programs: Option<&BTreeSet<&str>>,
    globs: &[&Word],
) -> Result<BTreeMap<String, FileFact>> {
    let mut files = BTreeMap::new();
    let globs = globs.iter().map(|word| glob(word)).collect::<Result<Vec<_>>>()?;
    // What a wanted name leads to is wanted.
    let targets = targets(pack, programs);
    for (path, entry) in pack.entries() {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let library = folder.contains("lib") && name.contains(".so");
        let program = PROGRAM_FOLDERS.contains(&folder);
        let target = targets.contains(path);
        let named = globs.iter().any(|glob| glob.is_match(path));
        if !library && !program && !target && !named {
            continue;
        }
        let fact = match entry {
            Packed::Symlink(target) => FileFact::Symlink(target.clone()),
            // Plug-ins in subfolders (gconv's, PAM's) are nobody's DT_NEEDED, so that reading each
            // would only cost time; nor is a program that nobody wants. What a file's glob names is a program as
            // well where it can be executed.
            Packed::File { mode, len, .. } => {
                let wanted = target
                    || (named && mode & 0o111 != 0)
                    || match program {
                        true => programs.is_none_or(|p| p.contains(name)),
                        false => library,
                    };
                if wanted && !folder.ends_with("gconv") {
                    let bytes = pack.read(path)?;
                    let needs = elf::needs(&bytes).with_context(|| path.clone())?;
                    FileFact::Regular { mode: *mode, bytes: *len, needs, script: interpreter(&bytes) }
                } else {
                    FileFact::Regular { mode: *mode, bytes: *len, needs: None, script: None }
                }
            }
        };
        files.insert(path.clone(), fact);
    }
    Ok(files)
}

/// What the links among the wanted programs lead to, wherever in the package that lies.
fn targets(pack: &Pack, programs: Option<&BTreeSet<&str>>) -> BTreeSet<String> {
    let mut targets = BTreeSet::new();
    let wanted = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        PROGRAM_FOLDERS.contains(&folder) && programs.is_none_or(|wanted| wanted.contains(name))
    };
    let mut queue: Vec<String> = pack.entries().keys().filter(|path| wanted(path)).cloned().collect();
    while let Some(path) = queue.pop() {
        let Some(Packed::Symlink(target)) = pack.entries().get(&path) else { continue };
        if let Some(to) = resolve_link(&path, target)
            && targets.insert(to.clone())
        {
            queue.push(to);
        }
    }
    targets
}

/// The interpreter that a script names in its first line (execve(2)): its path, or the name that env(1) looks for.
pub(crate) fn interpreter(bytes: &[u8]) -> Option<String> {
    let line = bytes.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line.get(..255).unwrap_or(line)).ok()?;
    // Blanks and tabs alone: a carriage return is part of the name, so that the kernel does not find it.
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let first = words.next()?;
    match (first.ends_with("/env"), words.next()) {
        (true, Some(name)) if !name.starts_with('-') && !name.contains('=') => Some(name.into()),
        _ => Some(first.into()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PackWriter;

    #[test]
    fn the_first_line_of_a_script_is_read_as_the_kernel_does() {
        let of = |text: &str| interpreter(text.as_bytes());
        assert_eq!(of("#!/bin/sh\nx"), Some("/bin/sh".into()));
        assert_eq!(of("#! \t/bin/sh -e\n"), Some("/bin/sh".into()));
        assert_eq!(of("#!/bin/sh\r\n"), Some("/bin/sh\r".into()), "no kernel finds that");
        assert_eq!(of("#!/usr/bin/env python3\n"), Some("python3".into()));
        assert_eq!(of("#!/usr/bin/env -S python3 -u\n"), Some("/usr/bin/env".into()));
        assert_eq!((of("#!"), of("#!\n"), of("\u{7f}ELF"), of("")), (None, None, None, None));
    }

    #[test]
    fn what_a_program_leads_to_is_taken_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = PackWriter::create(folder.path()).unwrap();
        for path in ["usr/share/x/real.sh", "usr/share/x/other", "usr/bin/own"] {
            writer.file(path, 0o755, &mut &b"#!/bin/sh\n"[..]).unwrap();
        }
        writer.file("usr/share/x/data", 0o644, &mut &b"#!/bin/sh\n"[..]).unwrap();
        writer.symlink("usr/bin/run", "../share/x/link");
        writer.symlink("usr/share/x/link", "/usr/share/x/real.sh");
        writer.symlink("usr/bin/ring", "ring");
        writer.finish(folder.path()).unwrap();
        let pack = Pack::open(folder.path()).unwrap();
        let files = |programs: &[&str]| {
            let programs = programs.iter().copied().collect();
            files_of(&pack, Some(&programs), &[]).unwrap()
        };
        let taken = files(&["run"]);
        let script = |path: &str| match taken.get(path) {
            Some(FileFact::Regular { script, .. }) => script.clone(),
            _ => None,
        };
        assert_eq!(script("usr/share/x/real.sh"), Some("/bin/sh".into()), "{taken:?}");
        assert!(taken.contains_key("usr/share/x/link") && !taken.contains_key("usr/share/x/other"));
        assert_eq!(script("usr/bin/own"), None, "nobody wants it, so that it is not read");
        assert!(!files(&["own", "ring"]).contains_key("usr/share/x/real.sh"));
        let globs = [&Word::of_option("a", "usr/share/x/*")];
        let taken = files_of(&pack, Some(&BTreeSet::new()), &globs).unwrap();
        let script = |path: &str| match &taken[path] {
            FileFact::Regular { script, .. } => script.clone(),
            FileFact::Symlink(_) => None,
        };
        assert_eq!(script("usr/share/x/other"), Some("/bin/sh".into()), "a program of a glob has needs, too");
        assert_eq!(script("usr/share/x/data"), None, "data has none");
    }
}
