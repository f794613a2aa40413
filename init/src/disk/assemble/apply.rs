//! Doing a step: arrays are [`super::array`]'s, what LVM2 must do itself is done by lvm(8).

use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::lvm::Group;
use super::record::{hold, note, release};
use super::volume::Volume;
use super::{Step, array, cached, overlay, zfs};
use crate::sys::dm;

/// LVM2 as it leaves the rescue's own /etc alone: no backups or archives there, no udev, no daemon.
const LVM: &str = "global{locking_dir=\"/run/rescue\"} backup{backup=0 archive=0} \
    activation{udev_sync=0 udev_rules=0 monitoring=0} \
    devices{obtain_device_list_from_udev=0 use_devicesfile=0}";

/// Does one step. `load` loads a module.
///
/// # Errors
/// What the kernel or the program said. A device that was protected for it stays so until [`super::teardown`].
pub fn apply(step: &Step, load: &dyn Fn(&str)) -> io::Result<()> {
    match step {
        Step::Array(array) => array::start(array, load),
        Step::Group(group) => activate(group, load),
        Step::Behind(behind) => cached::map(behind),
        Step::Cached(set) => cached::start(set, load),
        Step::Pool(pool) => zfs::import(pool, load),
    }
}

/// A program of the image, as it is started without udev.
pub(super) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("DM_DISABLE_UDEV", "1").env("PATH", crate::sys::spawn::PATH).stdin(Stdio::null());
    command
}

pub(super) fn run(command: &mut Command, input: Option<&[u8]>) -> io::Result<()> {
    run_for(command.stdout(Stdio::null()), input).map(drop)
}

/// Runs a program; what it wrote to its standard output, where that is a pipe.
pub(super) fn run_for(command: &mut Command, input: Option<&[u8]>) -> io::Result<Zeroizing<Vec<u8>>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let missing = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => io::Error::new(e.kind(), format!("{name} is not in this image")),
        _ => e,
    };
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(missing)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // It may end before it has read all.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    let said = Zeroizing::new(output.stdout);
    if output.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> =
        errors.lines().map(|l| l.trim().trim_end_matches('.')).filter(|l| !l.is_empty()).collect();
    Err(io::Error::other(format!("{name}: {}, {}", lines.join("; "), output.status)))
}

fn activate(group: &Group, load: &dyn Fn(&str)) -> io::Result<()> {
    load("dm-mod");
    for device in &group.devices {
        if group.volumes.iter().any(|v| v.write) {
            release(&device.path)?;
        } else if !device.used {
            hold(&device.path)?;
        }
    }
    note(&format!("lvm {} {}", group.uuid, group.name))?;
    let mut failed: Vec<String> = Vec::new();
    for volume in group.plain() {
        match dm::create(&volume.mapped, &volume.uuid, &volume.targets(&group.numbers), !volume.write) {
            Ok(()) => link(group, volume),
            Err(error) => failed.push(format!("mapping {}: {error}", volume.mapped)),
        }
    }
    for write in [true, false] {
        let kept = group.kept(write);
        if !kept.is_empty()
            && let Err(error) = by_lvm(group, &kept, write, load)
        {
            failed.push(error.to_string());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(io::Error::other(failed.join("; "))) }
}

/// `/dev/GROUP/VOLUME`, which people type and systems name; what is there already stays.
fn link(group: &Group, volume: &Volume) {
    let folder = Path::new("/dev").join(&group.name);
    let _ = std::fs::create_dir(&folder);
    let _ = symlink(dm::node(&volume.mapped), folder.join(&volume.name));
}

/// Has LVM2 activate volumes of which the kernel keeps records: where they lie, or on an overlay.
fn by_lvm(group: &Group, volumes: &[&Volume], write: bool, load: &dyn Fn(&str)) -> io::Result<()> {
    for module in
        ["dm-snapshot", "dm-thin-pool", "dm-raid", "dm-mirror", "dm-cache", "dm-cache-smq", "dm-writecache"]
    {
        load(module);
    }
    let mut devices: Vec<String> = group.devices.iter().map(|d| d.path.clone()).collect();
    if !write {
        devices = overlay::make(&group.devices, load)?;
        // What was noted last goes first: the volumes before what they are on.
        note(&format!("lvm {} {}", group.uuid, group.name))?;
    }
    let mut command = program("lvm");
    command.args(["lvchange", "--yes", "-ay", "--config", LVM]);
    for device in &devices {
        command.args(["--devices", device]);
    }
    command.args(volumes.iter().map(|v| format!("{}/{}", group.name, v.name)));
    if write {
        return run(&mut command, None);
    }
    // What is out of sync stays so: a resync would fill the overlay.
    let done = overlay::without_resync(|| {
        let done = run(&mut command, None);
        overlay::freeze(&group.uuid);
        done
    });
    for volume in volumes {
        let node = dm::node(&volume.mapped).display().to_string();
        if Path::new(&node).exists() {
            hold(&node)?;
        }
    }
    done
}
