//! Packs the rescue environment, per OS family, into an initramfs; adds the credentials of one
//! session; boots it in QEMU.
//!
//! Exit status: 0 done, 1 it failed (one line on stderr says what, and what to do), 2 wrong usage.

mod additions;
mod apt;
mod build;
mod bzimage;
mod compress;
mod cpio;
mod deb;
mod elf;
mod etc;
mod host_key;
mod image;
mod inject;
mod kernel;
mod kmod;
mod observe;
mod output;
mod pack;
mod packages;
mod packed;
mod plan;
mod progress;
mod run;
mod segments;
mod show;
mod spec;
mod store;
mod taken;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use lexopt::prelude::*;

use additions::Additions;
use observe::KernelSource;
use show::Against;

/// Where a machine keeps its firmware.
const FIRMWARE: &str = "/lib/firmware";

const USAGE: &str = "\
usage: imagebuilder build --family NAME|FILE.toml --profile minimal|standard
                          [--kernel linux-image.deb | --kernel VMLINUZ --modules DIR] [--firmware DIR]
                          [--add PACKAGE|./PROGRAM]... [--module GLOB]... [--overlay DIR]... [--init RESCUE] -o DIR
       imagebuilder families [--json]
       imagebuilder show NAME|FILE.toml [--profile minimal|standard] [--json]
       imagebuilder kernel build --config cloud|server [--fragment FILE]... [--source PACKAGE] [--jobs N]
                                 [--signing-key FILE.pem] [--merge-only | [--cached] -o DIR]
       imagebuilder kernel check .config [--family NAME|FILE.toml | --config cloud|server]
       imagebuilder inject [--device device.json|-] [--password-stdin LOGIN] [--no-seed]
                           [--generate-host-key [--host NAME[,NAME]...]] -o device.cpio
       imagebuilder run --image DIR [--device device.json|device.cpio] [--disk IMG]... [--ssh-port N]
                        [--internet] [--memory MiB] [--append STRING]
";

/// A mistake of the one who typed: exit status 2 instead of 1.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; imagebuilder --help tells the usage", self.0)
    }
}

impl std::error::Error for Usage {}

fn usage<T>(text: impl Into<String>) -> Result<T> {
    Err(Usage(text.into()).into())
}

fn main() -> ExitCode {
    match arguments(lexopt::Parser::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("imagebuilder: {}", one_line(&format!("{error:#}")));
            let wrong_usage = error.is::<Usage>() || error.is::<lexopt::Error>();
            if wrong_usage { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// One line, whatever a cause may hold: the name of a file, say, that a terminal would obey.
fn one_line(text: &str) -> String {
    text.chars().fold(String::new(), |mut line, c| {
        match c {
            '\n' => line.push(' '),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
        line
    })
}

fn arguments(mut parser: lexopt::Parser) -> Result<()> {
    match parser.next()? {
        Some(Value(verb)) => match verb.to_string_lossy().as_ref() {
            "build" => build_arguments(parser),
            "families" => families_arguments(parser),
            "show" => show_arguments(parser),
            "kernel" => kernel_arguments(parser),
            "inject" => inject_arguments(parser),
            "run" => run_arguments(parser),
            other => usage(format!("no verb {other:?}")),
        },
        Some(Long("help") | Short('h')) => help(),
        Some(Long("version")) => {
            println!("imagebuilder {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Some(other) => Err(other.unexpected().into()),
        None => usage("no verb"),
    }
}

fn help() -> Result<()> {
    print!("{USAGE}");
    Ok(())
}

fn build_arguments(mut parser: lexopt::Parser) -> Result<()> {
    let (mut family, mut profile, mut output) = (None, None, None);
    let (mut kernel, mut modules, mut init) = (None::<PathBuf>, None::<PathBuf>, None::<PathBuf>);
    let (mut additions, mut firmware) = (Additions::default(), PathBuf::from(FIRMWARE));
    while let Some(argument) = parser.next()? {
        match argument {
            Long("family") => family = Some(parser.value()?.string()?),
            Long("profile") => profile = Some(parser.value()?.string()?),
            Long("kernel") => kernel = Some(parser.value()?.into()),
            Long("modules") => modules = Some(parser.value()?.into()),
            Long("init") => init = Some(parser.value()?.into()),
            Long("firmware") => firmware = parser.value()?.into(),
            Long("add") => additions.add.push(some(&mut parser, "--add")?.string()?),
            Long("module") => additions.modules.push(some(&mut parser, "--module")?.string()?),
            Long("overlay") => additions.overlays.push(some(&mut parser, "--overlay")?.into()),
            Short('o') | Long("output") => output = Some(PathBuf::from(some(&mut parser, "-o")?)),
            Long("help") | Short('h') => return help(),
            other => return Err(other.unexpected().into()),
        }
    }
    let Some(family) = family else { return usage("build needs --family") };
    let Some(profile) = profile else { return usage("build needs --profile") };
    let Some(output) = output else { return usage("build needs -o DIR") };
    let kernel = match (kernel, modules) {
        (None, None) => KernelSource::Package,
        (Some(package), None) if package.extension().is_some_and(|e| e == "deb") => {
            KernelSource::Deb(package)
        }
        (Some(vmlinuz), Some(modules)) => KernelSource::Host { vmlinuz, modules },
        _ => return usage("--kernel and --modules go together"),
    };
    let init = match init {
        Some(path) => path,
        None => beside()?,
    };
    build::build(build::Wish { family, profile, kernel, additions, firmware, init, output })
}

/// The value of an option; an empty one is a variable of a script's that was not set.
fn some(parser: &mut lexopt::Parser, option: &str) -> Result<std::ffi::OsString> {
    let value = parser.value()?;
    if value.is_empty() { usage(format!("{option} has an empty value")) } else { Ok(value) }
}

/// The `rescue` binary beside this program.
fn beside() -> Result<PathBuf> {
    Ok(std::env::current_exe().context("finding this program")?.with_file_name("rescue"))
}

fn families_arguments(mut parser: lexopt::Parser) -> Result<()> {
    let mut json = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => json = true,
            Long("help") | Short('h') => return help(),
            other => return Err(other.unexpected().into()),
        }
    }
    show::families(json)
}

fn show_arguments(mut parser: lexopt::Parser) -> Result<()> {
    let (mut family, mut profile, mut json, mut init) = (None, None, false, None::<PathBuf>);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(name) if family.is_none() => family = Some(name.string()?),
            Long("profile") => profile = Some(parser.value()?.string()?),
            Long("json") => json = true,
            Long("init") => init = Some(parser.value()?.into()),
            Long("help") | Short('h') => return help(),
            other => return Err(other.unexpected().into()),
        }
    }
    let Some(family) = family else { return usage("show needs a family") };
    let init = match init {
        Some(path) => path,
        None => beside()?,
    };
    show::show(&family, profile.as_deref(), &init, std::path::Path::new(FIRMWARE), json)
}

fn kernel_arguments(mut parser: lexopt::Parser) -> Result<()> {
    match parser.next()? {
        Some(Value(verb)) if verb == "check" => kernel_check_arguments(parser),
        Some(Value(verb)) if verb == "build" => kernel_build_arguments(parser),
        Some(Long("help") | Short('h')) => help(),
        _ => usage("kernel needs a verb: build or check"),
    }
}

fn kernel_build_arguments(mut parser: lexopt::Parser) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut wish = kernel::Wish {
        configuration: String::new(),
        fragments: Vec::new(),
        signing_key: None,
        source: "linux-source".into(),
        merge_only: false,
        cached: false,
        jobs,
        output: PathBuf::new(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") => wish.configuration = parser.value()?.string()?,
            Long("fragment") => wish.fragments.push(parser.value()?.into()),
            Long("signing-key") => wish.signing_key = Some(some(&mut parser, "--signing-key")?.into()),
            Long("source") => wish.source = parser.value()?.string()?,
            Long("merge-only") => wish.merge_only = true,
            Long("cached") => wish.cached = true,
            Long("jobs") => wish.jobs = parser.value()?.parse::<std::num::NonZero<usize>>()?.get(),
            Short('o') | Long("output") => wish.output = parser.value()?.into(),
            Long("help") | Short('h') => return help(),
            other => return Err(other.unexpected().into()),
        }
    }
    if wish.configuration.is_empty() {
        return usage("kernel build needs --config");
    }
    if wish.merge_only != wish.output.as_os_str().is_empty() {
        return usage("kernel build needs either --merge-only or -o DIR");
    }
    kernel::build(&wish)
}

fn kernel_check_arguments(mut parser: lexopt::Parser) -> Result<()> {
    let (mut config, mut against) = (None::<PathBuf>, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(path) if config.is_none() => config = Some(path.into()),
            Long("family") if against.is_none() => against = Some(Against::Family(parser.value()?.string()?)),
            Long("config") if against.is_none() => {
                against = Some(Against::Configuration(parser.value()?.string()?));
            }
            Long("help") | Short('h') => return help(),
            other => return Err(other.unexpected().into()),
        }
    }
    let Some(config) = config else { return usage("kernel check needs a .config") };
    show::check(&config, &against.unwrap_or_else(|| Against::Family("universal".into())))
}

fn inject_arguments(mut parser: lexopt::Parser) -> Result<()> {
    let mut wish =
        inject::Wish { device: None, password_for: None, seed: true, host_key: false, hosts: None };
    let mut output = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("device") => wish.device = Some(PathBuf::from(parser.value()?)),
            Long("password-stdin") => wish.password_for = Some(parser.value()?.string()?),
            Long("no-seed") => wish.seed = false,
            Long("generate-host-key") => wish.host_key = true,
            Long("host") => wish.hosts = Some(parser.value()?.string()?),
            Short('o') | Long("output") => output = Some(PathBuf::from(parser.value()?)),
            Long("help") | Short('h') => return help(),
            other => return Err(other.unexpected().into()),
        }
    }
    let Some(output) = output else { return usage("inject needs -o device.cpio") };
    match (&wish.device, &wish.password_for) {
        (None, None) => return usage("inject needs --device or --password-stdin"),
        (Some(device), Some(_)) if device.as_os_str() == "-" => {
            return usage("--device - and --password-stdin both read standard input");
        }
        _ => {}
    }
    if wish.hosts.is_some() && !wish.host_key {
        return usage("--host goes with --generate-host-key");
    }
    if let Some(line) = inject::inject(&wish, &output)? {
        println!("{line}");
    }
    Ok(())
}

fn run_arguments(mut parser: lexopt::Parser) -> Result<()> {
    let mut wish = run::Wish::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("image") => wish.image = PathBuf::from(parser.value()?),
            Long("device") => wish.device = Some(PathBuf::from(parser.value()?)),
            Long("disk") => wish.disks.push(PathBuf::from(parser.value()?)),
            Long("ssh-port") => wish.ssh_port = parser.value()?.parse()?,
            Long("memory") => wish.memory = parser.value()?.parse()?,
            Long("append") => wish.append = parser.value()?.string()?,
            Long("internet") => wish.internet = true,
            Long("help") | Short('h') => return help(),
            other => return Err(other.unexpected().into()),
        }
    }
    if wish.image.as_os_str().is_empty() {
        return usage("run needs --image DIR");
    }
    run::run(&wish)
}
