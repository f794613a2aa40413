//! A kernel and what its modules say, out of a package or from this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{Content, Packs};
use crate::apt::Package;
use crate::kmod::{self, Module, Packing, modinfo};
use crate::store::{Pack, Packed};
use crate::{build, bzimage};

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
    /// Its `.config`, where it comes with one.
    pub(crate) config: Option<String>,
    /// `name=version`, or `host`.
    pub(crate) origin: String,
    /// It is the user's own, not the one that our families were written for.
    pub(crate) foreign: bool,
}

/// Where the kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KernelSource {
    /// The family's package.
    Package,
    /// A package file on this machine.
    Deb(PathBuf),
    /// A kernel and its modules on this machine.
    Host { vmlinuz: PathBuf, modules: PathBuf },
}

/// Whether the kernel is one, and its modules are its own: a machine with others has no network.
///
/// # Errors
/// When they are not.
pub(super) fn check_release(kernel: &KernelFacts, packs: &Packs) -> Result<()> {
    let name = match &kernel.vmlinuz {
        Content::Host(path, _) => path.display().to_string(),
        Content::Packed { package, path } => format!("package {package}: {path}"),
        Content::Inline(_) => "kernel".into(),
    };
    let bytes = build::read(&kernel.vmlinuz, packs).with_context(|| name.clone())?;
    let release = bzimage::release(&bytes).with_context(|| name.clone())?;
    if let Some(release) = release.filter(|release| *release != kernel.release && !kernel.modules.is_empty())
    {
        bail!(
            "{name}: this is kernel {release}, and the modules are those of {}; name the modules of this kernel",
            kernel.release
        );
    }
    Ok(())
}

/// The kernel of a package.
///
/// # Errors
/// When it holds none.
pub(super) fn of_package(package: &Package, pack: &Pack) -> Result<KernelFacts> {
    let vmlinuz =
        pack.entries().keys().find(|p| p.starts_with("boot/vmlinuz-")).context("no boot/vmlinuz-* inside")?;
    let release = vmlinuz.trim_start_matches("boot/vmlinuz-").to_string();
    let packed = |path: &str| Content::Packed { package: package.name.clone(), path: path.to_string() };
    let (mut modules, mut files) = (Vec::new(), BTreeMap::new());
    let mut builtin = String::new();
    let config = format!("boot/config-{release}");
    let config = match pack.entries().contains_key(&config) {
        true => {
            Some(String::from_utf8(pack.read(&config)?).with_context(|| format!("{config} is not UTF-8"))?)
        }
        false => None,
    };
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
    Ok(KernelFacts { release, vmlinuz, modules, files, builtin, config, origin, foreign: false })
}

/// A kernel of this machine and its modules.
///
/// # Errors
/// What cannot be read, or modules of two kernels.
pub(super) fn of_host(vmlinuz: &Path, folder: &Path) -> Result<KernelFacts> {
    let (mut modules, mut files) = (Vec::new(), BTreeMap::new());
    // Where kernels, depmod(8) and dkms(8) have them, and Proxmox VE its zfs.ko.
    let mut queue: Vec<PathBuf> = ["kernel", "updates", "extra", "zfs"].map(|name| folder.join(name)).into();
    queue.retain(|f| f.is_dir());
    let builtin_list = folder.join("modules.builtin");
    ensure!(
        !queue.is_empty() || builtin_list.is_file(),
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
            ensure!(path.is_file(), "{}: not a file", path.display());
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
    let builtin = text(&builtin_list).unwrap_or_default();
    let config = config_of_host(vmlinuz, folder, &release);
    let vmlinuz = Content::Host(vmlinuz.into(), Packing::Plain);
    Ok(KernelFacts {
        release,
        vmlinuz,
        modules,
        files,
        builtin,
        config,
        origin: "host".into(),
        foreign: true,
    })
}

/// A kernel's configuration, where one keeps it: beside the kernel or its modules.
fn config_of_host(vmlinuz: &Path, modules: &Path, release: &str) -> Option<String> {
    let beside = vmlinuz.parent().unwrap_or(Path::new(""));
    let places = [
        beside.join(format!("config-{release}")),
        modules.join("config"),
        modules.join("build/.config"),
        beside.join("config"),
    ];
    places.iter().find_map(|path| text(path))
}

/// A file's text; nothing if it is no file.
fn text(path: &Path) -> Option<String> {
    path.is_file().then(|| std::fs::read_to_string(path).ok())?
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
