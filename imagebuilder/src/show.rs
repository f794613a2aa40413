//! `imagebuilder families`, `show` and `kernel check`: what there is, what goes into an image, why, and how
//! large it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rescue_schema::manifest::Guest;
use serde::Serialize;

use crate::additions::Additions;
use crate::build;
use crate::image::Node;
use crate::kernel::{self, fragment, fragment::Wanted};
use crate::observe::{KernelSource, observe};
use crate::plan::plan;
use crate::spec::{self, Spec};

/// A family, explained.
#[derive(Serialize)]
struct Shown {
    name: String,
    about: String,
    inherits: Vec<String>,
    guest: Guest,
    profiles: Vec<ShownProfile>,
}

/// A profile, explained.
#[derive(Serialize)]
struct ShownProfile {
    name: String,
    kernel: String,
    modules: usize,
    parts: Vec<Part>,
    /// Bytes of all parts: the memory that the image takes on the rescued machine.
    unpacked_bytes: u64,
    remarks: Vec<String>,
}

/// A part of an image.
#[derive(Serialize)]
struct Part {
    what: String,
    why: String,
    files: u64,
    bytes: u64,
}

/// Lists the families.
///
/// # Errors
/// A file that is wrong.
pub(crate) fn families(json: bool) -> Result<()> {
    let all = spec::families()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    for family in all {
        println!("{:<10} {} ({})", family.name, family.about, family.profiles.join(", "));
    }
    Ok(())
}

/// Explains a family.
///
/// # Errors
/// As a build of it.
pub(crate) fn show(
    family: &str,
    profile: Option<&str>,
    init: &Path,
    firmware: &Path,
    json: bool,
) -> Result<()> {
    let names = match profile {
        Some(name) => vec![name.to_string()],
        None => spec::profiles_of(family)?,
    };
    let mut shown: Option<Shown> = None;
    for name in names {
        let spec = spec::find(family, &name)?;
        let profile = explain(&spec, init, firmware)?;
        let shown = shown.get_or_insert_with(|| Shown {
            name: spec.family.clone(),
            about: spec.about.clone(),
            inherits: spec.lineage.iter().filter(|name| **name != spec.family).cloned().collect(),
            guest: spec.guest.clone(),
            profiles: Vec::new(),
        });
        shown.profiles.push(profile);
    }
    let Some(shown) = shown else { bail!("family {family} has no profile") };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&shown)?),
        false => print!("{}", render(&shown)),
    }
    Ok(())
}

fn explain(spec: &Spec, init: &Path, firmware: &Path) -> Result<ShownProfile> {
    let (facts, packs) =
        observe(spec, &KernelSource::Package, &Additions::default(), firmware, init.to_path_buf())?;
    let plan = plan(spec, &facts)?;
    let kept = build::kept(&plan)?;
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (path, entry) in &plan.entries {
        let (Node::File(content) | Node::Zstd(content)) = &entry.node else { continue };
        let bytes = match &entry.node {
            Node::Zstd(_) => build::packed_size(content, &packs, &kept),
            _ => build::size(content, &packs),
        };
        let sum = sums.entry(entry.origin.as_str()).or_default();
        *sum = (sum.0 + 1, sum.1 + bytes.with_context(|| format!("/{path}"))?);
    }
    let why = |origin: &str| {
        let package = origin.split('=').next().unwrap_or_default();
        let named = spec.toolsets.iter().find(|set| set.packages.iter().any(|p| p.name.text == package));
        match named {
            Some(set) => format!("{}: {}", set.name, set.about),
            None if origin == facts.kernel.origin => "drivers".into(),
            None if origin == "rescue" => "PID 1, SSH, the network, the helpers".into(),
            None if origin == "host" => "of this machine".into(),
            None => "a library of the above".into(),
        }
    };
    let mut parts: Vec<Part> = sums
        .into_iter()
        .map(|(origin, (files, bytes))| Part { what: origin.into(), why: why(origin), files, bytes })
        .collect();
    parts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.what.cmp(&b.what)));
    Ok(ShownProfile {
        name: spec.profile_name.clone(),
        kernel: facts.kernel.origin.clone(),
        modules: plan.modules,
        unpacked_bytes: parts.iter().map(|part| part.bytes).sum(),
        parts,
        remarks: plan.remarks,
    })
}

fn render(shown: &Shown) -> String {
    let mut text = format!("{}: {}\n", shown.name, shown.about);
    let mut row = |name: &str, values: &[String]| {
        if !values.is_empty() {
            let _ = writeln!(text, "  {name:<12} {}", values.join(", "));
        }
    };
    row("inherits", &shown.inherits);
    row("file systems", &shown.guest.file_systems);
    row("layouts", &shown.guest.layouts);
    row("repairs", &shown.guest.repairs);
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    for profile in &shown.profiles {
        let _ = writeln!(
            text,
            "\n{}: {:.1} MiB in memory, {} modules, kernel {}",
            profile.name,
            mib(profile.unpacked_bytes),
            profile.modules,
            profile.kernel
        );
        for part in &profile.parts {
            let _ = writeln!(text, "  {:7.2} MiB  {:<44} {}", mib(part.bytes), part.what, part.why);
        }
        for remark in &profile.remarks {
            let _ = writeln!(text, "  {remark}");
        }
    }
    text
}

/// What a kernel's configuration is held against.
#[derive(Debug)]
pub(crate) enum Against {
    /// What the profiles of a family cannot do without.
    Family(String),
    /// All of one of our own configurations.
    Configuration(String),
}

impl Against {
    fn wanted(&self) -> Result<Vec<Wanted>> {
        let family = match self {
            Self::Family(family) => family,
            Self::Configuration(name) => return kernel::wanted(name),
        };
        let mut wanted = Vec::new();
        for profile in spec::profiles_of(family)? {
            for one in fragment::named(&spec::find(family, &profile)?.profile.kernel_config)? {
                if !wanted.contains(&one) {
                    wanted.push(one);
                }
            }
        }
        Ok(wanted)
    }
}

impl std::fmt::Display for Against {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Family(name) => write!(f, "that {name} needs"),
            Self::Configuration(name) => write!(f, "of {name}"),
        }
    }
}

/// Checks a kernel's configuration.
///
/// # Errors
/// What it has not, a line a symbol.
pub(crate) fn check(path: &Path, against: &Against) -> Result<()> {
    let text = config_text(path)?;
    let config = fragment::config(&text);
    if config.is_empty() {
        bail!("{}: not a kernel's .config: it sets no CONFIG_ symbol", path.display());
    }
    let wanted = against.wanted()?;
    let mut missing = fragment::missing(&wanted, &config);
    if let Against::Configuration(_) = against {
        // Built in with us; a driver that an image brings is as good.
        let all = missing.len();
        missing.retain(|(one, has)| (one.value.as_str(), *has) != ("y", "m"));
        let modules = all - missing.len();
        if modules > 0 {
            println!("{modules} that are built in with us are modules here: an image has to hold them");
        }
    }
    for (one, has) in &missing {
        println!("{}={has}, wanted ={} ({}: {})", one.symbol, one.value, one.at, one.reason);
    }
    match missing.len() {
        0 => {
            println!("{}: all {} symbols {against}", path.display(), wanted.len());
            Ok(())
        }
        n => {
            bail!("{}: {n} of {} symbols {against} are not as wanted", path.display(), wanted.len())
        }
    }
}

/// Most bytes of a `.config`; those of distributions have a quarter of a megabyte.
const MAX_CONFIG: u64 = 4 << 20;

/// The text of a `.config`, also as a running kernel shows its own (`/proc/config.gz`).
fn config_text(path: &Path) -> Result<String> {
    use std::io::Read;
    let reading = || format!("reading {}", path.display());
    let file = std::fs::File::open(path).with_context(reading)?;
    let limited = |reader: &mut dyn Read| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader.take(MAX_CONFIG + 1).read_to_end(&mut bytes).with_context(reading)?;
        if bytes.len() as u64 > MAX_CONFIG {
            bail!("{}: not a kernel's .config: it has over {} MiB", path.display(), MAX_CONFIG >> 20);
        }
        Ok(bytes)
    };
    let mut bytes = limited(&mut &file)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes = limited(&mut flate2::read::GzDecoder::new(&bytes[..]))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
