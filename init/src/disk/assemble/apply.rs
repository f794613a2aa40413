//! Doing it: arrays through /sys (Documentation/admin-guide/md.rst), volume groups by lvm(8), encrypted
//! volumes by cryptsetup(8); and undoing it in reverse order, by the record of what was made.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rescue_schema::report::{BlockReport, ProbeResult};

use super::{Step, lvm::Group, md::Array};
use crate::disk::resolve::flat;
use crate::sys::mounts::protect;

/// What was made, a line each, oldest first: `md NAME`, `lvm UUID NAME`, `crypt NAME`, `protected DEVICE`.
const RECORD: &str = "/run/rescue/assembled";
/// LVM2 as it changes nothing: no locks, backups or archives in /etc, no udev, no daemon.
const LVM: &str = "global{metadata_read_only=1 locking_dir=\"/run/rescue\" thin_check_executable=\"\"} \
    backup{backup=0 archive=0} activation{udev_sync=0 udev_rules=0 monitoring=0 read_only_volume_list=[\"@*\",\"*\"]} \
    devices{obtain_device_list_from_udev=0 use_devicesfile=0}";

/// Does one step. `load` loads a module.
///
/// # Errors
/// What the kernel or the program said. A device that was protected for it stays so until [`teardown`].
pub fn apply(step: &Step, load: &dyn Fn(&str)) -> io::Result<()> {
    match step {
        Step::Array(array) => start(array, load),
        Step::Group(group) => activate(group, load),
    }
}

fn note(line: &str) -> io::Result<()> {
    if let Some(folder) = Path::new(RECORD).parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::OpenOptions::new().create(true).append(true).open(RECORD)?;
    file.write_all(format!("{line}\n").as_bytes())
}

fn hold(device: &str) -> io::Result<()> {
    if protect(Path::new(device), true)? {
        note(&format!("protected {device}"))?;
    }
    Ok(())
}

fn put(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value)
        .map_err(|e| io::Error::new(e.kind(), format!("writing {value:?} to {}: {e}", path.display())))
}

fn start(array: &Array, load: &dyn Fn(&str)) -> io::Result<()> {
    load("md_mod");
    load(&format!("md-{}", array.level));
    for disk in &array.members {
        hold(&disk.device)?;
    }
    put(Path::new("/sys/module/md_mod/parameters/new_array"), &array.name)?;
    note(&format!("md {}", array.name))?;
    let md = Path::new("/sys/block").join(&array.name).join("md");
    let done = (|| {
        // Kept by somebody else, the kernel is told: it reads no superblock and writes none.
        put(&md.join("metadata_version"), "external:rescue")?;
        put(&md.join("level"), &array.level)?;
        put(&md.join("raid_disks"), &array.wanted.to_string())?;
        if array.chunk > 0 {
            put(&md.join("chunk_size"), &array.chunk.to_string())?;
        }
        put(&md.join("layout"), &array.layout.to_string())?;
        if array.size > 0 {
            put(&md.join("component_size"), &(array.size / 2).to_string())?;
        }
        put(&md.join("resync_start"), "none")?;
        for disk in &array.members {
            put(&md.join("new_dev"), &disk.number)?;
            let name = fs::canonicalize(Path::new("/sys/dev/block").join(&disk.number))?;
            let name = name.file_name().unwrap_or_default().to_string_lossy().replace('/', "!");
            let own = md.join(format!("dev-{name}"));
            put(&own.join("offset"), &disk.offset.to_string())?;
            put(&own.join("size"), &(disk.size / 2).to_string())?;
            put(&own.join("slot"), &disk.slot.to_string())?;
        }
        put(&md.join("array_state"), "readonly")
    })();
    if done.is_err() {
        let _ = fs::write(md.join("array_state"), "clear");
    }
    done
}

/// A program of the image, as it is started without udev.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("DM_DISABLE_UDEV", "1").env("PATH", crate::sys::spawn::PATH).stdin(Stdio::null());
    command
}

fn run(command: &mut Command, input: Option<&[u8]>) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let missing = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => io::Error::new(e.kind(), format!("{name} is not in this image")),
        _ => e,
    };
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(missing)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // It may end before it has read all.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    Err(io::Error::other(format!("{name}: {}, {}", lines.join("; "), output.status)))
}

fn lvm(verb: &str, devices: &[String]) -> Command {
    let mut command = program("lvm");
    command.args([verb, "--config", LVM]);
    for device in devices {
        command.args(["--devices", device]);
    }
    command
}

fn activate(group: &Group, load: &dyn Fn(&str)) -> io::Result<()> {
    load("dm-mod");
    for device in &group.devices {
        hold(device)?;
    }
    note(&format!("lvm {} {}", group.uuid, group.name))?;
    let mode = if group.partial { "partial" } else { "complete" };
    run(lvm("vgchange", &group.devices).args(["-ay", "--activationmode", mode, &group.name]), None)
}

/// Encrypted volumes that are not open.
pub fn locked(disks: &[BlockReport]) -> Vec<&BlockReport> {
    let is = |b: &&BlockReport| {
        b.probe.result == ProbeResult::Found
            && matches!(b.probe.kind.as_deref(), Some("crypto_LUKS" | "BitLocker"))
            && b.children.iter().all(|c| c.partition.is_some())
    };
    flat(disks).into_iter().filter(is).collect()
}

/// Opens an encrypted volume read-only with what `secret` holds; gives its node. `header` is where the header
/// is, when it is apart.
///
/// # Errors
/// What cryptsetup said: a wrong passphrase is exit status 2.
pub fn open(
    block: &BlockReport,
    secret: &[u8],
    header: Option<&str>,
    load: &dyn Fn(&str),
) -> io::Result<String> {
    load("dm-crypt");
    hold(&block.path)?;
    // By the device too, so that two copies are told apart.
    let name = format!("luks-{}", block.path.trim_start_matches("/dev/").replace(['/', ' '], "-"));
    let kind = if block.probe.kind.as_deref() == Some("BitLocker") { "bitlk" } else { "luks" };
    let mut command = program("cryptsetup");
    command.args(["open", "--readonly", "--batch-mode", "--tries", "1", "--type", kind, "--key-file", "-"]);
    if let Some(header) = header {
        command.args(["--header", header]);
    }
    run(command.arg("--").arg(&block.path).arg(&name), Some(secret))?;
    note(&format!("crypt {name}"))?;
    Ok(format!("/dev/mapper/{name}"))
}

/// Takes down what was made here, the last first: what was done, and what would not go, a sentence each.
/// With `dry_run` only says what it would do. Mounts must be gone before.
///
/// # Errors
/// When the record cannot be read or written.
pub fn teardown(dry_run: bool) -> io::Result<(Vec<String>, Vec<String>)> {
    let record = match crate::sys::files::read_capped(Path::new(RECORD), 1 << 20) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        record => String::from_utf8_lossy(&record?).into_owned(),
    };
    let (mut done, mut stuck, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for line in record.lines().rev() {
        let (kind, name) = line.split_once(' ').unwrap_or((line, ""));
        let words = match kind {
            "md" => format!("stop /dev/{name}"),
            "lvm" => format!("deactivate volume group {}", name.split(' ').next_back().unwrap_or(name)),
            "crypt" => format!("close /dev/mapper/{name}"),
            _ => format!("give {name} back"),
        };
        // A device is given back only when nothing that was built on devices is left.
        let result = match kind {
            _ if dry_run => Ok(()),
            "md" if !Path::new("/sys/block").join(name).exists() => Ok(()),
            "md" => put(&Path::new("/sys/block").join(name).join("md/array_state"), "clear"),
            "lvm" => deactivate(name),
            "crypt" if !Path::new("/dev/mapper").join(name).exists() => Ok(()),
            "crypt" => run(program("cryptsetup").args(["close", name]), None),
            _ if stuck.is_empty() => protect(Path::new(name), false).map(drop),
            _ => {
                left.push(line);
                continue;
            }
        };
        match result {
            Ok(()) => done.push(words),
            Err(error) => {
                stuck.push(format!("{words}: {error}"));
                left.push(line);
            }
        }
    }
    if !dry_run {
        left.reverse();
        let text: String = left.iter().map(|l| format!("{l}\n")).collect();
        crate::sys::files::replace(Path::new(RECORD), 0o600, text.as_bytes())?;
    }
    Ok((done, stuck))
}

/// Removes the mappings of a group by their UUIDs, whatever LVM would make of its disks now.
fn deactivate(name: &str) -> io::Result<()> {
    let uuid = name.split(' ').next().unwrap_or(name).replace('-', "");
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let dm = entry.path().join("dm");
        let id = crate::sys::files::read_trimmed(&dm.join("uuid")).unwrap_or_default();
        if id.strip_prefix("LVM-").is_some_and(|id| id.starts_with(&uuid))
            && let Some(volume) = crate::sys::files::read_trimmed(&dm.join("name"))
        {
            run(program("dmsetup").args(["remove", &volume]), None)?;
        }
    }
    Ok(())
}
