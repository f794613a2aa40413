//! Media that carry a session: which devices have a label that is known, and what is on those, read by a
//! process that has given up everything but that one device.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::sources::settled;
use super::{Usage, sources};
use crate::creds::media::{self, Device, Kind, Place, drive};
use crate::creds::{REMOVABLE, Said, WHOLE_DISK};
use crate::sys::lines::hear;
use crate::sys::{block, sandbox, spawn};

/// How long labels are waited for, all of them together: a dying disk may take its time, and a healthy one
/// that spins up takes seconds.
const LABELS: Duration = Duration::from_secs(10);
/// How long one medium may be read. An optical drive that has stood still takes some seconds.
const READING: Duration = Duration::from_secs(20);
/// Devices that are looked at in the same moment, and the most of them.
const AT_ONCE: usize = 16;
const MAX_DEVICES: usize = 4096;
/// What the process that reads a medium may use.
const LIMITS: sandbox::Limits = sandbox::Limits { memory: 64 << 20, descriptors: 16 };
/// Longest answer of it.
const MAX_ANSWER: usize = 4 << 20;

/// What is known of each device from an earlier look: a label does not change while it is there.
#[derive(Default)]
pub(super) struct Looked {
    labels: BTreeMap<Device, Result<Option<String>, String>>,
    read: BTreeMap<Device, Said>,
}

impl Looked {
    /// Looks at the devices that are there now; what the two sources that are media say.
    pub(super) fn look(&mut self, root: &Path) -> Vec<Said> {
        let mut devices = media::find(root);
        devices.truncate(MAX_DEVICES);
        self.labels.retain(|device, label| devices.contains(device) && !matches!(label, Err(_) | Ok(None)));
        self.read.retain(|device, _| devices.contains(device));
        let unknown: Vec<Device> =
            devices.iter().filter(|device| !self.labels.contains_key(device)).cloned().collect();
        self.labels.extend(labels(root, &unknown));
        let labels = &self.labels;
        let labelled: Vec<(&Device, Kind, &str)> = devices
            .iter()
            .filter_map(|device| {
                let label = labels.get(device)?.as_ref().ok()?.as_deref()?;
                Some((device, Kind::of(label)?, label))
            })
            .collect();
        let mut said: Vec<Said> = [(Place::Removable, REMOVABLE), (Place::WholeDisk, WHOLE_DISK)]
            .map(|(place, source)| {
                let mut ours: Vec<_> = labelled.iter().filter(|(device, ..)| device.place == place).collect();
                ours.sort_by_key(|(device, kind, _)| (*kind, &device.name));
                let Some(((device, kind, label), others)) = ours.split_first() else {
                    let names: Vec<&str> =
                        devices.iter().filter(|d| d.place == place).map(|d| d.name.as_str()).collect();
                    return Said::absent(source, &none(place, &names));
                };
                let said = self.read.entry((*device).clone()).or_insert_with(|| {
                    read_apart(root, device, *kind, source, label).unwrap_or_else(|error| {
                        Said::refused(source, &format!("{} {label}: {error:#}", device.name))
                    })
                });
                let mut said = said.clone();
                said.add(others.iter().map(|(other, _, label)| {
                    format!("{} {label}: not used, {} comes first", other.name, device.name)
                }));
                said
            })
            .into();
        let refused = labelled.iter().filter(|(device, ..)| device.place == Place::Partition).map(
            |(device, _, label)| {
                format!(
                    "{} is labelled {label}: refused, a partition belongs to the machine that is rescued",
                    device.name
                )
            },
        );
        let silent = devices.iter().filter_map(|device| match labels.get(device) {
            Some(Err(why)) => Some(format!("{}: {why}", device.name)),
            _ => None,
        });
        if let Some(disks) = said.last_mut() {
            disks.add(refused.chain(silent));
        }
        said
    }
}

fn none(place: Place, names: &[&str]) -> String {
    match (place, names) {
        (Place::Removable, []) => "no drive with a medium".into(),
        (_, []) => "no disk without a partition table".into(),
        (_, names) => format!("no label that is known on {}", names.join(", ")),
    }
}

/// The labels of these devices. Threads, because a read that a disk does not answer cannot be ended; one
/// that hangs is left behind, and the process ends without it.
fn labels(root: &Path, devices: &[Device]) -> BTreeMap<Device, Result<Option<String>, String>> {
    let queue: VecDeque<(Device, PathBuf)> =
        devices.iter().map(|device| (device.clone(), media::node(root, device))).collect();
    let queue = Arc::new(Mutex::new(queue));
    let (sender, answers) = mpsc::channel();
    for _ in 0..devices.len().min(AT_ONCE) {
        let (queue, sender) = (queue.clone(), sender.clone());
        let work = move || loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((device, path)) = next else { return };
            if sender.send((device, label(&path))).is_err() {
                return;
            }
        };
        if std::thread::Builder::new().stack_size(128 << 10).spawn(work).is_err() {
            break;
        }
    }
    drop(sender);
    let until = Instant::now() + LABELS;
    let mut found = BTreeMap::new();
    while let Ok((device, label)) = answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
        found.insert(device, label);
    }
    for device in devices {
        found
            .entry(device.clone())
            .or_insert_with(|| Err(format!("no answer within {} s", LABELS.as_secs())));
    }
    found
}

fn label(path: &Path) -> Result<Option<String>, String> {
    match block::open(path) {
        Ok((mut medium, _)) => media::label(&mut medium).map_err(|error| format!("reading it: {error}")),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOMEDIUM as i32) => Ok(None),
        Err(error) => Err(format!("opening it: {error}")),
    }
}

/// Has a confined process read a medium.
fn read_apart(root: &Path, device: &Device, kind: Kind, source: &str, label: &str) -> anyhow::Result<Said> {
    let (medium, _) = block::open(&media::node(root, device)).context("opening it")?;
    let nowhere = ["/run", "/tmp", "/"].iter().find_map(|folder| sandbox::nowhere(Path::new(folder)).ok());
    let place = format!("{} {label}", device.name);
    let mut command = std::process::Command::new("/proc/self/exe");
    command
        .arg0("rescue")
        .args([sources::COMMAND.name, "--read", word(kind), source, &place])
        .env_clear()
        .stdin(Stdio::from(medium))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    spawn::within(&mut command, nowhere.context("making an empty folder")?);
    let mut child = command.spawn().context("starting the process that reads it")?;
    let Some(out) = child.stdout.take() else { bail!("no pipe to the process that reads it") };
    let heard = hear(File::from(OwnedFd::from(out)), READING, MAX_ANSWER);
    if heard.is_err() {
        let _ = child.kill();
    }
    let heard = zeroize::Zeroizing::new(heard.context("reading it")?);
    let status = child.wait().context("waiting for the process that reads it")?;
    if !status.success() {
        bail!("the process that reads it ended: {status}");
    }
    let said: Said = serde_json::from_slice(&heard).ok().context("its reader's answer is none")?;
    Ok(Said { source: source.into(), ..said }.checked())
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::ConfigDrive, "config-drive"),
    (Kind::NoCloud, "nocloud"),
    (Kind::Metadata, "metadata"),
    (Kind::Ironic, "ironic"),
];

fn word(kind: Kind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, word)| word)
}

/// `rescue sources --read KIND SOURCE PLACE`, with the medium as standard input.
pub(super) fn read(args: &[String]) -> anyhow::Result<ExitCode> {
    let [kind, source, place] = args else { bail!(Usage("--read is for the service itself".into())) };
    let kind = KINDS.iter().find(|(_, word)| word == kind).map(|(kind, _)| *kind);
    let kind = kind.ok_or_else(|| Usage("--read wants a kind of medium".into()))?;
    let medium = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let _ = rustix::thread::set_name(c"sources-reader");
    sandbox::drop_privileges(LIMITS).context("giving up privileges")?;
    // A kernel without filters leaves the other walls.
    let filtered = sandbox::bind();
    let mut said = look(medium, kind, source, place);
    if let Err(error) = filtered {
        said.add([format!("read without a filter of system calls: {error}")]);
    }
    let json = zeroize::Zeroizing::new(serde_json::to_vec(&said)?);
    std::io::stdout().write_all(&json)?;
    Ok(ExitCode::SUCCESS)
}

fn look(medium: File, kind: Kind, source: &str, place: &str) -> Said {
    let refused = |why: &str| Said::refused(source, &format!("{place}: {why}"));
    match media::open(medium) {
        Ok(Some(mut volume)) => match drive::read(&mut volume, kind) {
            Ok(part) => settled(source, place, part),
            Err(why) => refused(&why),
        },
        Ok(None) => refused("neither ISO 9660 nor FAT"),
        Err(error) => refused(&error.to_string()),
    }
}
