//! From facts to an image: which entries it has and where each comes from. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rescue_schema::manifest::ImageInfo;
use rescue_schema::paths;

use crate::additions::{ADDED_PROGRAMS, HostFile};
use crate::bzimage;
use crate::deb::resolve_link;
use crate::etc;
use crate::kernel::fragment;
use crate::kmod::closure::{Modules, Pattern};
use crate::kmod::{Module, Packing, tables};
use crate::observe::{self, Content, Facts, FileFact, PROGRAM_FOLDERS, glob};
use crate::spec::{Spec, Tool, Word};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(Content),
    /// A file that is packed with zstd in the image too.
    Zstd(Content),
    Symlink(String),
    CharDevice(u32, u32),
}

/// One entry of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) node: Node,
    /// `name=version` of a package, `host`, or `rescue`.
    pub(crate) origin: String,
}

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

const OWN: &str = "rescue";

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
        let stored = format!("{}/{path}.zst", paths::PACKED_PROGRAMS.trim_start_matches('/'));
        let content = Content::Host(observe::https_of(&facts.init), Packing::Plain);
        image.put(&stored, 0o644, Node::Zstd(content), OWN)?;
    }
    for path in OWN_LINKS.into_iter().chain(["bin/rescue"]) {
        image.put(path, 0o777, Node::Symlink("/init".into()), OWN)?;
    }
    for (path, text) in etc::files(&info) {
        image.text(path, text)?;
    }
    image.text("etc/rescue/image.json", serde_json::to_string(&info)? + "\n")?;
    let chosen = chosen(spec, facts)?;
    let modules = chosen.len();
    modules_of(&mut image, spec, facts, &chosen)?;
    if spec.profile.firmware {
        remarks.extend(firmware_of(&mut image, facts, &chosen)?);
    }
    for tool in spec.packages() {
        for program in programs(tool, facts)? {
            program_of(&mut image, facts, &tool.name.text, &program).with_context(|| program.at.clone())?;
        }
        for glob in &tool.files {
            files_of(&mut image, facts, &tool.name.text, glob).with_context(|| glob.at.clone())?;
        }
    }
    for file in &spec.profile.files {
        let path = inside(&file.path)?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        let content = Content::Inline(file.text.clone().into_bytes());
        image.put(path, mode, Node::File(content), OWN).with_context(|| file.path.at.clone())?;
    }
    for link in &spec.profile.links {
        let path = inside(&link.path)?;
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
        pack_programs(&mut image, spec, facts, above)?;
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
        below.split('/').all(plain),
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

#[derive(Default)]
struct Image {
    entries: BTreeMap<String, Entry>,
}

impl Image {
    fn put(&mut self, path: &str, mode: u32, node: Node, origin: &str) -> Result<()> {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        for folder in folders {
            let made = Entry { mode: 0o755, node: Node::Directory, origin: OWN.into() };
            let entry = self.entries.entry(folder.to_string()).or_insert(made);
            ensure!(entry.node == Node::Directory, "/{path}: /{folder} is not a directory of the image");
        }
        let entry = Entry { mode, node, origin: origin.to_string() };
        match self.entries.get(path) {
            Some(old) if *old != entry => bail!("/{path} comes from both {} and {origin}", old.origin),
            Some(_) => {}
            None => drop(self.entries.insert(path.to_string(), entry)),
        }
        Ok(())
    }

    fn host(&mut self, path: &str, file: &HostFile) -> Result<()> {
        let (mode, node) = match file {
            HostFile::Directory { mode } => {
                if let Some(Entry { node: Node::Directory, .. }) = self.entries.get(path) {
                    return Ok(());
                }
                (*mode, Node::Directory)
            }
            HostFile::Symlink(target) => (0o777, Node::Symlink(target.clone())),
            HostFile::Regular { from, mode, .. } => {
                (*mode, Node::File(Content::Host(from.clone(), Packing::Plain)))
            }
        };
        self.put(path, mode, node, "host")
    }

    fn text(&mut self, path: &str, text: String) -> Result<()> {
        self.put(path, 0o644, Node::File(Content::Inline(text.into_bytes())), OWN)
    }
}

/// The modules that go in.
fn chosen<'a>(spec: &Spec, facts: &'a Facts) -> Result<Vec<&'a Module>> {
    let (kernel, profile) = (&facts.kernel, &spec.profile);
    Modules::new(&kernel.modules, &kernel.builtin)
        .closure(&profile.modules, &profile.modules_if_present, &profile.modules_without)
        .with_context(|| format!("kernel {}", kernel.release))
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

/// The programs that are wanted of a package.
fn programs(tool: &Tool, facts: &Facts) -> Result<Vec<Word>> {
    if !tool.every_program {
        return Ok(tool.programs.clone());
    }
    let files = facts.packages.get(&tool.name.text).map(|p| &p.files).into_iter().flatten();
    let found: BTreeSet<&str> = files
        .filter_map(|(path, _)| path.rsplit_once('/'))
        .filter(|(folder, _)| PROGRAM_FOLDERS.contains(folder))
        .map(|(_, name)| name)
        .collect();
    ensure!(
        !found.is_empty(),
        "{} {}: the package has no program; a family's own [[profile.NAME.package]] takes its files",
        tool.name.at,
        tool.name
    );
    Ok(found.into_iter().map(|name| Word::of_option(&tool.name.at, name)).collect())
}

/// Packs programs, and leaves a link to the rescue in the place of each.
fn pack_programs(image: &mut Image, spec: &Spec, facts: &Facts, above: u64) -> Result<()> {
    let is_plain = |name: &str| spec.packages().any(|tool| tool.plain && tool.name.text == name);
    let mut packed = Vec::new();
    for (path, entry) in &image.entries {
        let Node::File(Content::Packed { package, path: from }) = &entry.node else { continue };
        let fact = facts.packages.get(package).and_then(|p| p.files.get(from));
        let Some(FileFact::Regular { bytes, needs: Some(_), .. }) = fact else { continue };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if *bytes > above && PROGRAM_FOLDERS.contains(&folder) && !is_plain(package) {
            packed.push((path.clone(), entry.clone()));
        }
    }
    for (path, entry) in packed {
        let Node::File(content) = entry.node else { continue };
        image.entries.remove(&path);
        image.put(&path, 0o777, Node::Symlink("/init".into()), &entry.origin)?;
        let stored = format!("{}/{path}.zst", paths::PACKED_PROGRAMS.trim_start_matches('/'));
        image.put(&stored, 0o644, Node::Zstd(content), &entry.origin)?;
    }
    Ok(())
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

fn program_of(image: &mut Image, facts: &Facts, package: &str, program: &Word) -> Result<()> {
    let missing = || anyhow!("package {package} has no program {program}; correct its list of programs");
    let files = &facts.packages.get(package).ok_or_else(missing)?.files;
    let path = PROGRAM_FOLDERS
        .iter()
        .map(|folder| format!("{folder}/{program}"))
        .find(|path| files.contains_key(path))
        .ok_or_else(missing)?;
    take(image, facts, package, &path).with_context(|| format!("program {program} of package {package}"))
}

fn files_of(image: &mut Image, facts: &Facts, package: &str, word: &Word) -> Result<()> {
    let glob = glob(word)?;
    let files = facts.packages.get(package).map(|p| &p.files).into_iter().flatten();
    let paths: Vec<&String> = files.map(|(path, _)| path).filter(|path| glob.is_match(path)).collect();
    ensure!(!paths.is_empty(), "package {package} has no file {word}; correct its list of files");
    paths.into_iter().try_for_each(|path| {
        take(image, facts, package, path).with_context(|| format!("file {path} of package {package}"))
    })
}

/// Takes a file, what its links lead to, and what it needs.
fn take(image: &mut Image, facts: &Facts, package: &str, path: &str) -> Result<()> {
    let mut queue = vec![(package.to_string(), path.to_string())];
    let mut seen = BTreeSet::new();
    while let Some((package, path)) = queue.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let facts_of = facts.packages.get(&package).with_context(|| format!("package {package}"))?;
        let origin = format!("{package}={}", facts_of.package.version);
        match facts_of.files.get(&path).with_context(|| format!("{path} is not in package {package}"))? {
            FileFact::Symlink(target) => {
                let to = resolve_link(&path, target).with_context(|| format!("{path} -> {target}"))?;
                image.put(&path, 0o777, Node::Symlink(target.clone()), &origin)?;
                let owner = owner(facts, &package, &to)
                    .with_context(|| format!("{path} -> {target}: no such file"))?;
                queue.push((owner, to));
            }
            FileFact::Regular { mode, needs, .. } => {
                let content = Content::Packed { package: package.clone(), path: path.clone() };
                image.put(&path, *mode, Node::File(content), &origin)?;
                let Some(needs) = needs else { continue };
                let loader = needs.loader.iter().map(|l| l.trim_start_matches('/').to_string());
                for path in loader {
                    let owner = owner(facts, &package, &path)
                        .with_context(|| format!("no package has its loader {path}"))?;
                    queue.push((owner, path));
                }
                for name in &needs.libraries {
                    queue.push(library(facts, &needs.folders, name).with_context(|| {
                        format!("{path} needs {name}, which none of its packages has; add the package to the toolset")
                    })?);
                }
            }
        }
    }
    Ok(())
}

fn owner(facts: &Facts, first: &str, path: &str) -> Option<String> {
    let has = |name: &str| facts.packages.get(name).is_some_and(|p| p.files.contains_key(path));
    if has(first) {
        return Some(first.to_string());
    }
    facts.packages.keys().find(|name| has(name)).cloned()
}

/// Where ld.so of Debian looks, beside what a file names itself (ld.so(8)).
const LIBRARY_FOLDERS: [&str; 6] =
    ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib"];

fn library(facts: &Facts, folders: &[String], name: &str) -> Option<(String, String)> {
    let own = folders.iter().map(|f| f.trim_matches('/'));
    own.chain(LIBRARY_FOLDERS).find_map(|folder| {
        let path = format!("{folder}/{name}");
        Some((owner(facts, "", &path)?, path))
    })
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
