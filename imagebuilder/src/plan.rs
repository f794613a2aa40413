//! From facts to an image: which entries it has and where each comes from. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use rescue_schema::manifest::ImageInfo;
use rescue_schema::paths;

use crate::additions::{ADDED_PROGRAMS, HostFile};
use crate::bzimage;
use crate::etc;
use crate::image::{Entry, Image, Node, OWN};
use crate::kernel::fragment;
use crate::kmod::closure::{Closure, Modules, Pattern};
use crate::kmod::{Module, Packing, tables};
use crate::observe::{self, Content, Facts, FileFact, PROGRAM_FOLDERS};
use crate::spec::{Spec, Word};
use crate::{pack, taken};

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) info: ImageInfo,
    pub(crate) vmlinuz: Content,
    /// By path without leading slash, which is the order in the archive.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// How many modules are among them.
    pub(crate) modules: usize,
    /// How hard what is packed by itself is packed: zstd's level.
    pub(crate) pack_level: i32,
    /// What the image does without, and what to do about it.
    pub(crate) remarks: Vec<String>,
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let i = &self.info;
        write!(
            f,
            "{} {}: kernel {}, {} modules, {} entries",
            i.family,
            i.profile,
            i.kernel,
            self.modules,
            self.entries.len()
        )
    }
}

/// Links to `/init` that busybox must not take, and applets that have no place here.
const OWN_LINKS: [&str; 7] = [
    "sbin/reboot",
    "sbin/poweroff",
    "sbin/halt",
    "sbin/shutdown",
    "sbin/init",
    "sbin/telinit",
    // What `scp -O` starts; where the image has the program itself, that is found first.
    "bin/scp",
];
/// PID 1 makes `modprobe` itself: a kernel that boots calls it for every cipher that it has not, and waits for it.
const NO_APPLET: [&str; 3] = ["init", "linuxrc", "modprobe"];

const DIRECTORIES: [(&str, u32); 17] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/rescue", 0o700),
    ("home", 0o755),
    ("lib", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];
/// Before devtmpfs is mounted, PID 1 needs somewhere to speak. Numbers: Documentation/admin-guide/devices.txt.
const DEVICES: [(&str, u32, u32, u32); 3] =
    [("dev/console", 0o600, 5, 1), ("dev/null", 0o666, 1, 3), ("dev/kmsg", 0o644, 1, 11)];

/// PATH_MAX of Linux.
const MAX_PATH: usize = 4096;

/// Plans.
///
/// # Errors
/// A program, library or module that is wanted and not there.
pub(crate) fn plan(spec: &Spec, facts: &Facts) -> Result<Plan> {
    let info = ImageInfo {
        family: spec.family.clone(),
        profile: spec.profile_name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: facts.kernel.release.clone(),
        guest: spec.guest.clone(),
    };
    let mut remarks = Vec::new();
    remarks.extend(check_kernel(spec, facts)?);
    let mut image = Image::default();
    for (path, mode) in DIRECTORIES {
        image.put(path, mode, Node::Directory, OWN)?;
    }
    for (path, mode, major, minor) in DEVICES {
        image.put(path, mode, Node::CharDevice(major, minor), OWN)?;
    }
    image.put("init", 0o755, Node::File(Content::Host(facts.init.clone(), Packing::Plain)), OWN)?;
    if spec.profile.https {
        let path = paths::HTTPS_PROGRAM.trim_start_matches('/');
        image.put(path, 0o777, Node::Symlink("/init".into()), OWN)?;
        image.pack(path, Content::Host(observe::https_of(&facts.init), Packing::Plain), OWN)?;
    }
    for path in OWN_LINKS.into_iter().chain(["bin/rescue"]) {
        image.put(path, 0o777, Node::Symlink("/init".into()), OWN)?;
    }
    for (path, text) in etc::files(&info) {
        image.text(path, text)?;
    }
    image.text("etc/rescue/image.json", serde_json::to_string(&info)? + "\n")?;
    let Closure { modules: chosen, absent } = chosen(spec, facts)?;
    remarks.extend(lacking(&facts.kernel.release, &absent));
    let modules = chosen.len();
    modules_of(&mut image, spec, facts, &chosen)?;
    if spec.profile.firmware {
        remarks.extend(firmware_of(&mut image, facts, &chosen)?);
    }
    taken::packages(&mut image, spec, facts)?;
    for file in &spec.profile.files {
        let path = inside(&file.path)?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        let content = Content::Inline(file.text.clone().into_bytes());
        image.put(path, mode, Node::File(content), OWN).with_context(|| file.path.at.clone())?;
    }
    for link in &spec.profile.links {
        let path = inside(&link.path)?;
        ensure!(
            !link.to.is_empty() && !link.to.contains('\0') && link.to.len() < MAX_PATH,
            "{}: {:?} is nothing that a link can lead to",
            link.path.at,
            link.to
        );
        image.put(path, 0o777, Node::Symlink(link.to.clone()), OWN).with_context(|| link.path.at.clone())?;
    }
    for (path, file) in &facts.programs {
        // A library that a package has brought is the one that its programs were built with.
        if !image.entries.contains_key(path) {
            image.host(path, file)?;
        }
    }
    applets(&mut image, facts)?;
    remarks.extend(scripts(&mut image, spec, facts)?);
    if let Some(above) = spec.profile.pack_programs_above {
        pack::pack(&mut image, spec, facts, above)?;
    }
    for (path, file) in &facts.overlay {
        if !matches!(file, HostFile::Directory { .. }) {
            ensure!(
                image.entries.get(path).is_none_or(|entry| entry.node != Node::Directory),
                "--overlay: /{path} is a folder of the image; lay a folder over it"
            );
            image.entries.remove(path);
        }
        image.host(path, file).with_context(|| format!("--overlay: /{path}"))?;
    }
    let (entries, pack_level) = (image.entries, spec.profile.pack_level);
    Ok(Plan { info, vmlinuz: facts.kernel.vmlinuz.clone(), entries, modules, pack_level, remarks })
}

/// A path that a family names, below the root of the image.
fn inside(path: &Word) -> Result<&str> {
    let below = path.text.strip_prefix('/').unwrap_or_default();
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    ensure!(
        below.split('/').all(plain) && !below.contains('\0') && below.len() < MAX_PATH,
        "{}: {:?} is not the absolute path of a file, without . and ..",
        path.at,
        path.text
    );
    Ok(below)
}

/// Whether the kernel can do what the rescue and its family need. Says so where nobody can tell.
fn check_kernel(spec: &Spec, facts: &Facts) -> Result<Option<String>> {
    let kernel = &facts.kernel;
    ensure!(
        bzimage::unpacks_zstd(&kernel.release) != Some(false),
        "kernel {}: it is older than 5.9 and cannot unpack an image, which is packed with zstd; take a newer one",
        kernel.release
    );
    let wanted = fragment::named(&spec.profile.kernel_config)?;
    let Some(config) = &kernel.config else {
        let text = format!(
            "kernel {}: no configuration beside it, so that nobody has checked whether it can do what is needed; \
             `imagebuilder kernel check` does",
            kernel.release
        );
        return Ok((!wanted.is_empty()).then_some(text));
    };
    let config = fragment::config(config);
    let missing = fragment::missing(&wanted, &config);
    let Some((first, has)) = missing.first() else { return Ok(None) };
    let more = match missing.len() {
        1 => String::new(),
        n => format!("; and {} more: `imagebuilder kernel check` lists them", n - 1),
    };
    bail!(
        "kernel {}: {}={has}, wanted ={} ({}: {}); build it with that, or take another kernel{more}",
        kernel.release,
        first.symbol,
        first.value,
        first.at,
        first.reason
    )
}

/// The modules that go in.
fn chosen<'a>(spec: &'a Spec, facts: &'a Facts) -> Result<Closure<'a>> {
    let (kernel, profile) = (&facts.kernel, &spec.profile);
    Modules::new(&kernel.modules, &kernel.builtin)
        .closure(&profile.modules, &profile.modules_if_present, &profile.modules_without, kernel.foreign)
        .with_context(|| format!("kernel {}", kernel.release))
}

/// Most drivers that are named in a remark.
const NAMED: usize = 24;

/// Says which drivers a kernel of the user's own has not.
fn lacking(release: &str, absent: &[&Word]) -> Option<String> {
    let (first, last) = (absent.first()?, absent.last()?);
    let names: Vec<&str> = absent.iter().take(NAMED).map(|word| word.text.as_str()).collect();
    let between = if first.at == last.at { first.at.clone() } else { format!("{} to {}", first.at, last.at) };
    Some(format!(
        "drivers: kernel {release} has none for {} of the module globs at {between} ({}{}); \
         to be sure of one, name it with --module",
        absent.len(),
        names.join(", "),
        if absent.len() > names.len() { ", …" } else { "" },
    ))
}

fn modules_of(image: &mut Image, spec: &Spec, facts: &Facts, chosen: &[&Module]) -> Result<()> {
    let kernel = &facts.kernel;
    let folder = format!("lib/modules/{}", kernel.release);
    let mut shipped = Vec::new();
    let plain = spec.profile.modules_plain.iter().map(Pattern::new).collect::<Result<Vec<_>>>()?;
    for module in chosen {
        let content = kernel.files.get(&module.path).cloned().context("a module without content")?;
        let mut module = (*module).clone();
        let stays = plain.iter().any(|pattern| pattern.matches(&module.name, &module.path));
        let node = match !stays && module.bytes > spec.profile.pack_modules_above {
            true => {
                module.path.push_str(".zst");
                Node::Zstd(content)
            }
            false => Node::File(content),
        };
        image.put(&format!("{folder}/{}", module.path), 0o644, node, &kernel.origin)?;
        shipped.push(module);
    }
    let tables = tables::tables(&shipped.iter().collect::<Vec<_>>());
    for (name, text) in [
        ("modules.dep", tables.dep),
        ("modules.alias", tables.alias),
        ("modules.softdep", tables.softdep),
        ("modules.builtin", kernel.builtin.clone()),
    ] {
        image.text(&format!("{folder}/{name}"), text)?;
    }
    Ok(())
}

/// Puts in the firmware that the modules ask for, and says how much of it this machine has not.
fn firmware_of(image: &mut Image, facts: &Facts, chosen: &[&Module]) -> Result<Option<String>> {
    let asked = chosen.iter().flat_map(|module| module.firmware.iter().map(|name| (name, &module.name)));
    let (mut all, mut without) = (0, BTreeSet::new());
    for (name, module) in asked {
        all += 1;
        // A name with a pattern is a family of files, of which the module says no more.
        match facts.firmware.get(name) {
            Some((from, packing)) => {
                let content = Content::Host(from.clone(), *packing);
                image.put(&format!("lib/firmware/{name}"), 0o644, Node::File(content), "host")?;
            }
            None => drop(without.insert(module.as_str())),
        }
    }
    let count = without.len();
    let first: Vec<&str> = without.into_iter().take(6).collect();
    Ok((count > 0).then(|| {
        format!(
            "firmware: {count} modules ask for some of {all} files that this machine has not ({}{}); \
             Debian has them in the packages firmware-*",
            first.join(", "),
            if count > first.len() { ", …" } else { "" }
        )
    }))
}

/// Whether the image has what its scripts are for. Of a package that was added with all its programs, those that it
/// has not are left out, and the remarks say so; unless nothing would be left.
fn scripts(image: &mut Image, spec: &Spec, facts: &Facts) -> Result<Vec<String>> {
    let whole = |name: &str| spec.packages().any(|tool| tool.every_program && tool.name.text == name);
    let (mut left_out, mut kept) = (Vec::new(), BTreeSet::new());
    let there = |interpreter: &str| match interpreter.strip_prefix('/') {
        Some(path) => {
            let elsewhere = path.strip_prefix("usr/").map_or_else(|| format!("usr/{path}"), String::from);
            image.entries.contains_key(path) || image.entries.contains_key(&elsewhere)
        }
        None => PROGRAM_FOLDERS
            .iter()
            .chain(&[ADDED_PROGRAMS])
            .any(|f| image.entries.contains_key(&format!("{f}/{interpreter}"))),
    };
    for (path, entry) in &image.entries {
        let mut added = None;
        let (whose, script) = match &entry.node {
            Node::File(Content::Packed { package, path: from }) => {
                added = Some(package).filter(|package| whole(package));
                match facts.packages.get(package).and_then(|p| p.files.get(from)) {
                    Some(FileFact::Regular { script, .. }) => (format!("package {package}"), script.as_ref()),
                    _ => continue,
                }
            }
            Node::File(Content::Host(from, _)) => match facts.programs.get(path) {
                Some(HostFile::Regular { script, .. }) => (from.display().to_string(), script.as_ref()),
                _ => continue,
            },
            _ => continue,
        };
        let Some(interpreter) = script.filter(|name| !there(name)) else {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            kept.extend(added.filter(|_| PROGRAM_FOLDERS.contains(&folder)));
            continue;
        };
        let is = format!("is a script for {}, which the image has not", interpreter.escape_debug());
        left_out.push((path.clone(), whose, is, added));
    }
    let mut remarks = Vec::new();
    for (path, whose, is, added) in &left_out {
        ensure!(
            added.is_some_and(|package| kept.contains(package)),
            "/{path} of {whose} {is}; add the package that has it, or leave the program out"
        );
        remarks.push(format!("left out: /{path} of {whose}, which {is}"));
    }
    let paths: Vec<String> = left_out.into_iter().map(|(path, ..)| path).collect();
    paths.iter().for_each(|path| drop(image.entries.remove(path)));
    Ok(remarks)
}

/// Links every applet of busybox, unless a program of that name is there: the full one wins, in
/// whatever folder it is.
fn applets(image: &mut Image, facts: &Facts) -> Result<()> {
    let Some(busybox) =
        ["bin/busybox", "usr/bin/busybox"].into_iter().find(|p| image.entries.contains_key(*p))
    else {
        return Ok(());
    };
    if let Some(entry) = image.entries.get(busybox).filter(|_| busybox != "bin/busybox").cloned() {
        image.entries.remove(busybox);
        image.entries.insert("bin/busybox".into(), entry);
    }
    let origin = image.entries.get("bin/busybox").map(|e| e.origin.clone()).unwrap_or_default();
    let in_path = |path: &str| {
        path.rsplit_once('/').filter(|p| PROGRAM_FOLDERS.contains(&p.0)).map(|p| p.1.to_string())
    };
    let taken: BTreeSet<String> = image.entries.keys().filter_map(|p| in_path(p)).collect();
    for applet in &facts.applets {
        let name = applet.rsplit('/').next().unwrap_or(applet);
        if taken.contains(name) || NO_APPLET.contains(&name) || in_path(applet).is_none() {
            continue;
        }
        image.put(applet, 0o777, Node::Symlink("/bin/busybox".into()), &origin)?;
    }
    Ok(())
}
