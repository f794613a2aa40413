//! Reads all facts that an image is planned from: the kernel and what its modules say, the packages
//! and what their programs need, the `rescue` binary, busybox's applets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::apt::{Lists, Package};
use crate::elf::{self, Needs};
use crate::kmod::{self, Module, Packing, modinfo};
use crate::packages::Cache;
use crate::spec::Spec;
use crate::store::{Pack, Packed};

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

/// A kernel and its modules.
#[derive(Debug)]
pub(crate) struct KernelFacts {
    pub(crate) release: String,
    pub(crate) vmlinuz: Content,
    pub(crate) modules: Vec<Module>,
    /// Content of each module by its path in `modules`.
    pub(crate) files: BTreeMap<String, Content>,
    /// Text of `modules.builtin`.
    pub(crate) builtin: String,
    /// `name=version`, or `host`.
    pub(crate) origin: String,
}

/// A file of a package, as far as closures need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileFact {
    /// A regular file, and what it needs if it is an ELF.
    Regular { mode: u32, needs: Option<Needs> },
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
    /// Packages that were resolved, for the manifest.
    pub(crate) resolved: BTreeMap<String, Package>,
}

/// The packages behind the facts, opened.
pub(crate) type Packs = BTreeMap<String, Pack>;

/// Where the kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KernelSource {
    /// The family's package.
    Package,
    /// A kernel and its modules on this machine.
    Host { vmlinuz: PathBuf, modules: PathBuf },
}

/// Observes.
///
/// # Errors
/// Whatever is missing, with what to do about it.
pub(crate) fn observe(spec: &Spec, kernel: &KernelSource, init: PathBuf) -> Result<(Facts, Packs)> {
    check_init(&init)?;
    if let KernelSource::Host { vmlinuz, modules } = kernel {
        File::open(vmlinuz).with_context(|| format!("opening kernel {}", vmlinuz.display()))?;
        std::fs::read_dir(modules)
            .with_context(|| format!("reading modules directory {}", modules.display()))?;
    }
    let names: BTreeSet<String> =
        spec.toolsets.iter().flat_map(|set| set.packages.iter().map(|p| p.name.clone())).collect();
    let cache = Cache::open()?;
    let lists = Lists::open(cache.answers());
    // apt takes its time to open its lists; the two questions do not depend on each other.
    let (kernel_package, tools) = std::thread::scope(|scope| {
        let kernel_package = scope.spawn(|| match kernel {
            KernelSource::Package => lists.kernel(&spec.profile.kernel).map(Some),
            KernelSource::Host { .. } => Ok(None),
        });
        let tools = lists.with_libraries(&names);
        (kernel_package.join(), tools)
    });
    let kernel_package = kernel_package.map_err(|_| anyhow!("looking up the kernel's package failed"))??;
    let tools = tools?;
    lists.save();
    let wanted: Vec<&Package> = tools.values().chain(&kernel_package).collect();
    let packs = cache.fetch(&wanted)?;
    let kernel = match (kernel, &kernel_package) {
        (KernelSource::Host { vmlinuz, modules }, _) => kernel_of_host(vmlinuz, modules)?,
        (KernelSource::Package, Some(package)) => {
            let pack = packs.get(&package.name).context("the kernel's package")?;
            kernel_of_package(package, pack).with_context(|| format!("package {}", package.name))?
        }
        (KernelSource::Package, None) => bail!("no kernel package"),
    };
    let programs: BTreeSet<&str> = spec
        .toolsets
        .iter()
        .flat_map(|s| &s.packages)
        .flat_map(|p| &p.programs)
        .map(String::as_str)
        .collect();
    let mut facts = BTreeMap::new();
    for (name, package) in &tools {
        let pack = packs.get(name).with_context(|| format!("package {name}"))?;
        let tools = spec.toolsets.iter().flat_map(|set| &set.packages).filter(|tool| tool.name == *name);
        let globs: Vec<&String> = tools.flat_map(|tool| &tool.files).collect();
        let files = files_of(pack, &programs, &globs).with_context(|| format!("package {name}"))?;
        facts.insert(name.clone(), PackageFacts { package: package.clone(), files });
    }
    let applets = match packs.get("busybox-static") {
        Some(pack) => applets(&pack.read("bin/busybox").or_else(|_| pack.read("usr/bin/busybox"))?)?,
        None => Vec::new(),
    };
    let resolved = tools.into_iter().chain(kernel_package.map(|p| (p.name.clone(), p))).collect();
    Ok((Facts { kernel, packages: facts, applets, init, resolved }, packs))
}

fn check_init(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| {
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

fn kernel_of_package(package: &Package, pack: &Pack) -> Result<KernelFacts> {
    let vmlinuz =
        pack.entries().keys().find(|p| p.starts_with("boot/vmlinuz-")).context("no boot/vmlinuz-* inside")?;
    let release = vmlinuz.trim_start_matches("boot/vmlinuz-").to_string();
    let packed = |path: &str| Content::Packed { package: package.name.clone(), path: path.to_string() };
    let (mut modules, mut files) = (Vec::new(), BTreeMap::new());
    let mut builtin = String::new();
    for (path, entry) in pack.entries() {
        let Some(below) = path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/") else {
            continue;
        };
        let Some(below) = below.strip_prefix(&release).and_then(|p| p.strip_prefix('/')) else { continue };
        let Packed::File { offset, len, .. } = entry else { continue };
        if below == "modules.builtin" {
            builtin = String::from_utf8(pack.read(path)?).context("modules.builtin is not UTF-8")?;
        }
        if !below.ends_with(".ko") {
            continue;
        }
        let module = modinfo::read(below, *len, &|at, bytes| pack.read_at(offset + at, bytes))
            .with_context(|| path.clone())?;
        files.insert(below.to_string(), packed(path));
        modules.push(module);
    }
    let vmlinuz = packed(vmlinuz);
    let origin = format!("{}={}", package.name, package.version);
    Ok(KernelFacts { release, vmlinuz, modules, files, builtin, origin })
}

fn kernel_of_host(vmlinuz: &Path, folder: &Path) -> Result<KernelFacts> {
    let (mut modules, mut files) = (Vec::new(), BTreeMap::new());
    let mut queue = vec![folder.join("kernel"), folder.join("updates"), folder.join("extra")];
    queue.retain(|f| f.is_dir());
    ensure!(
        !queue.is_empty(),
        "{}: no modules directory; name one such as /lib/modules/$(uname -r)",
        folder.display()
    );
    while let Some(at) = queue.pop() {
        for entry in
            std::fs::read_dir(&at).with_context(|| format!("reading modules directory {}", at.display()))?
        {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                queue.push(path);
                continue;
            }
            let below = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            let Some((plain, packing)) = kmod::packing(&below) else { continue };
            let module = module_of_host(&path, plain, packing)
                .with_context(|| format!("module {}", path.display()))?;
            files.insert(plain.to_string(), Content::Host(path.clone(), packing));
            modules.push(module);
        }
    }
    modules.sort_by(|a, b| a.path.cmp(&b.path));
    let release = match modules.first() {
        Some(module) => module.release.clone(),
        None => {
            folder.file_name().context("the modules directory has no name")?.to_string_lossy().into_owned()
        }
    };
    if let Some(other) = modules.iter().find(|m| m.release != release) {
        bail!(
            "{}: modules of two kernels, {release} and {}; name the directory of one",
            folder.display(),
            other.release
        );
    }
    let builtin = std::fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
    let vmlinuz = Content::Host(vmlinuz.into(), Packing::Plain);
    Ok(KernelFacts { release, vmlinuz, modules, files, builtin, origin: "host".into() })
}

fn module_of_host(path: &Path, plain: &str, packing: Packing) -> Result<Module> {
    if packing == Packing::Plain {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        return Ok(modinfo::read(plain, len, &|at, bytes| file.read_exact_at(bytes, at))?);
    }
    let bytes = kmod::unpack(packing, std::fs::read(path)?)?;
    let at = |from: u64, buffer: &mut [u8]| {
        let from = usize::try_from(from).map_err(std::io::Error::other)?;
        let part = bytes.get(from..from + buffer.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    };
    Ok(modinfo::read(plain, bytes.len() as u64, &at)?)
}

/// Folders that programs are taken from.
pub(crate) const PROGRAM_FOLDERS: [&str; 4] = ["sbin", "bin", "usr/sbin", "usr/bin"];

/// The matcher of a toolset's glob.
///
/// # Errors
/// When it is malformed.
pub(crate) fn glob(text: &str) -> Result<globset::GlobMatcher> {
    Ok(globset::Glob::new(text).with_context(|| format!("glob {text:?}"))?.compile_matcher())
}

fn files_of(pack: &Pack, programs: &BTreeSet<&str>, globs: &[&String]) -> Result<BTreeMap<String, FileFact>> {
    let mut files = BTreeMap::new();
    let globs = globs.iter().map(|text| glob(text)).collect::<Result<Vec<_>>>()?;
    for (path, entry) in pack.entries() {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let library = folder.contains("lib") && name.contains(".so");
        let program = PROGRAM_FOLDERS.contains(&folder);
        if !library && !program && !globs.iter().any(|glob| glob.is_match(path)) {
            continue;
        }
        let fact = match entry {
            Packed::Symlink(target) => FileFact::Symlink(target.clone()),
            // Plug-ins in subfolders (gconv's, PAM's) are nobody's DT_NEEDED, so that reading each
            // would only cost time; nor is a program that nobody wants.
            Packed::File { mode, .. } => {
                let wanted = if program { programs.contains(name) } else { library };
                let needs = match wanted && !folder.ends_with("gconv") {
                    true => elf::needs(&pack.read(path)?).with_context(|| path.clone())?,
                    false => None,
                };
                FileFact::Regular { mode: *mode, needs }
            }
        };
        files.insert(path.clone(), fact);
    }
    Ok(files)
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
