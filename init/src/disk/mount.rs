//! Mounting a system by its own fstab: what is mounted where and how is decided by [`plan`], which
//! touches nothing, and done by [`apply`].
//!
//! Without leave to write nothing is written: the journal is not replayed, and the device itself is
//! set to refuse writes, because ext4 clears its list of orphans and records errors even on a
//! read-only mount. To add a file system: a row in [`super::drivers`].

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rescue_schema::report::BlockReport;

use super::crypttab::{self, Opened};
use super::drivers::{DRIVERS, driver};
use super::fstab;
use super::pool;
use super::protection;
use super::resolve::{self, Missing};
use crate::sys::btrfs;
use crate::sys::mounts::{self, Wanted};
use crate::sys::namespace;

/// Most mounts of one system.
const MOST: usize = 128;

/// What the engineer allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leave {
    /// Whether it may be written to.
    pub write: bool,
    /// Whether what lacks members may be used without them.
    pub degraded: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The device; empty for a bind mount.
    pub device: String,
    /// For a bind mount: the folder of the system that is seen there too.
    pub bind: Option<String>,
    /// Where, as the system itself names it: `/`, `/boot/efi`.
    pub target: String,
    /// The kernel's driver.
    pub driver: &'static str,
    /// Options for the driver.
    pub options: Vec<String>,
    /// Whether nothing may be written.
    pub read_only: bool,
    /// What mounting it will write, to be said before.
    pub writes: Option<&'static str>,
}

/// How a system is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The folder.
    pub folder: PathBuf,
    /// The mounts, in order; the first is the root.
    pub steps: Vec<Step>,
    /// What of its fstab is left out and need not be here, a sentence each.
    pub left_out: Vec<String>,
    /// What should be here and is not, a sentence each.
    pub trouble: Vec<String>,
    /// Why its root cannot be mounted as it was asked for.
    pub refused: Option<String>,
}

impl Plan {
    /// Takes a step with all devices of its file system.
    fn add(&mut self, step: Option<Step>, block: &BlockReport, disks: &[BlockReport], degraded: bool) {
        let Some(mut step) = step else { return };
        match pool::gather(block, disks) {
            Ok(pool) => {
                step.options.extend(pool.options(block));
                match pool.lacking {
                    Some(why) if degraded => {
                        if !step.read_only {
                            step.writes = Some("without what is missing, which is stale then");
                        }
                        self.trouble.push(format!("{why}: used without the others"));
                    }
                    Some(why) => {
                        let why = format!("{why}: attach the others, or use it without them: --degraded");
                        return self.refuse(step, why);
                    }
                    None => {}
                }
            }
            Err(why) => return self.refuse(step, why),
        }
        if step.read_only && block.probe.state.as_deref() == Some("needs journal recovery") {
            self.trouble.push(format!(
                "{}: its last changes are in its journal alone, and not seen until --rw replays it",
                block.path
            ));
        }
        self.steps.push(step);
    }

    /// Without its root nothing is mounted; of the rest each can be missing.
    fn refuse(&mut self, step: Step, why: String) {
        if step.target == "/" {
            self.refused = Some(why);
            self.steps.push(step);
        } else {
            self.trouble.push(format!("{}: {why}", shown(&step.target)));
        }
    }

    /// Where a step's mount is seen.
    pub fn place(&self, step: &Step) -> PathBuf {
        let inner = step.target.trim_matches('/');
        if inner.is_empty() { self.folder.clone() } else { self.folder.join(inner) }
    }
}

impl Step {
    /// All devices that it is on.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        let others = self.options.iter().filter_map(|option| option.strip_prefix("device="));
        std::iter::once(self.device.as_str()).chain(others)
    }

    /// In a word or two.
    pub fn how(&self) -> String {
        if self.bind.is_some() {
            return "the same folder again".into();
        }
        let mut how = String::from(self.driver);
        how.push_str(if self.read_only { ", read-only" } else { ", READ-WRITE" });
        if self.read_only && self.options.iter().any(|o| driver_skips(o)) {
            how.push_str(", journal not replayed");
        }
        if let Some(writes) = self.writes {
            how.push_str(", ");
            how.push_str(writes);
        }
        how
    }
}

fn driver_skips(option: &str) -> bool {
    DRIVERS.iter().any(|d| d.no_replay.contains(&option))
}

/// As it is written to reports.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.bind.as_ref().unwrap_or(&self.device);
        write!(f, "mount {} on {} ({})", shown(source), shown(&self.target), self.how())
    }
}

/// One file system, at `target`; `None` when no driver of ours takes it.
pub fn step(block: &BlockReport, target: &str, write: bool, options: &[String]) -> Option<Step> {
    let driver = driver(block.probe.kind.as_deref()?)?;
    let read_only = !write || !driver.writes || options.iter().any(|o| o == "ro");
    let mut own: Vec<String> =
        options.iter().filter(|o| o.starts_with("subvol=") || o.starts_with("subvolid=")).cloned().collect();
    if read_only {
        own.extend(driver.no_replay.iter().map(|o| (*o).to_string()));
    }
    if driver.kind == "ufs" {
        let second = block.probe.version.as_deref().is_none_or(|v| v != "1");
        own.push(if second { "ufstype=ufs2" } else { "ufstype=44bsd" }.into());
    }
    let writes = match block.probe.state.as_deref() {
        Some("needs journal recovery") if !read_only => Some("replays its journal"),
        Some("errors seen") if !read_only => Some("has recorded errors: check it first"),
        _ => None,
    };
    Some(Step {
        device: block.path.clone(),
        bind: None,
        target: target.into(),
        driver: driver.driver,
        options: own,
        read_only,
        writes,
    })
}

/// A file system by itself, at `folder`.
pub fn alone(block: &BlockReport, disks: &[BlockReport], folder: &Path, leave: Leave) -> Plan {
    let mut plan = Plan { folder: folder.into(), ..Plan::default() };
    plan.add(step(block, "/", leave.write, &[]), block, disks, leave.degraded);
    plan
}

/// What a system says itself of its devices.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tables<'a> {
    /// Its fstab, when it could be read.
    pub fstab: Option<&'a [u8]>,
    /// Its crypttab, when it has one.
    pub crypttab: Option<&'a [u8]>,
}

/// How the system whose root is on `root` is mounted at `folder`. `tables` are its own; `disks` is what
/// is there now.
pub fn plan(
    root: &BlockReport,
    tables: Tables<'_>,
    disks: &[BlockReport],
    folder: &Path,
    leave: Leave,
) -> Plan {
    let mut plan = Plan { folder: folder.into(), ..Plan::default() };
    let Leave { write, degraded } = leave;
    let Tables { fstab, crypttab } = tables;
    let (entries, skipped) = fstab::parse(fstab.unwrap_or_default());
    let of_root = entries.iter().find(|e| e.target == "/");
    // That the rescued system starts with a read-only root (which it remounts itself) says nothing here.
    let root_options: Vec<String> =
        of_root.map(|e| e.options.iter().filter(|o| *o != "ro").cloned().collect()).unwrap_or_default();
    plan.add(step(root, "/", write, &root_options), root, disks, degraded);
    if let Some(entry) = of_root {
        let other = resolve::device(&entry.source, disks, &root.path).ok().filter(|b| b.path != root.path);
        if let Some(other) = other.filter(|_| entry.source.contains('=')) {
            plan.trouble.push(format!("/etc/fstab line {}: its root is {} by that", entry.line, other.path));
        }
    } else if fstab.is_none() {
        plan.trouble
            .push("there is no /etc/fstab that can be read: what belongs where is not known by it".into());
    } else if entries.is_empty() {
        plan.trouble.push("/etc/fstab has no entry: what belongs where is not known by it".into());
    }
    let of_line = |line: usize, text: String| (line, format!("/etc/fstab line {line}{text}"));
    let mut left_out: Vec<(usize, String)> = Vec::new();
    let mut trouble: Vec<(usize, String)> = match skipped.as_slice() {
        [first, rest @ .., _] if rest.len() > 2 => {
            vec![of_line(*first, format!(" and {} others are none: skipped", rest.len() + 1))]
        }
        few => few.iter().map(|line| of_line(*line, " is none: skipped".into())).collect(),
    };
    let mut rest: Vec<_> = entries.iter().filter(|e| e.target != "/").collect();
    // A mount below another comes after it, in whatever order the lines stand; so does what shows a folder
    // again that is mounted itself.
    let depth = |path: &str| path.split('/').filter(|p| !p.is_empty()).count();
    rest.sort_by_key(|e| depth(&e.target).max(if e.is_bind() { depth(&e.source) + 1 } else { 0 }));
    // What is shown again with all that is mounted below it, of which one is shown again, doubles with every line.
    let binds: Vec<&str> = rest.iter().filter(|e| e.is_bind()).map(|e| e.target.as_str()).collect();
    let nested = |source: &str| binds.iter().any(|target| Path::new(target).starts_with(source));
    for entry in rest {
        let place =
            if entry.target == "none" { String::new() } else { format!(" for {}", shown(&entry.target)) };
        let what = format!(": {}{place}", shown(&entry.source));
        let mut said = |text: String| trouble.push(of_line(entry.line, format!("{what}{text}")));
        if let Some(why) = entry.unwanted() {
            left_out.push(of_line(entry.line, format!("{what}: {why}")));
            continue;
        }
        if plan.steps.len() >= MOST {
            said(format!(": more than {MOST} mounts, left out"));
            continue;
        }
        if entry.is_bind() {
            if plan.steps.iter().any(|s| s.target == entry.target) {
                said(format!(": {} is named twice", shown(&entry.target)));
            } else {
                let deep = entry.options.iter().any(|o| o == "rbind") && !nested(&entry.source);
                plan.steps.push(Step {
                    device: String::new(),
                    bind: Some(entry.source.clone()),
                    target: entry.target.clone(),
                    driver: if deep { "rbind" } else { "bind" },
                    options: Vec::new(),
                    read_only: !write || entry.options.iter().any(|o| o == "ro"),
                    writes: None,
                });
            }
            continue;
        }
        let opened = crypttab.and_then(|table| crypttab::opened(&entry.source, table, disks, &root.path));
        if let Some(Opened::Not(below)) = &opened {
            said(format!(": {below} is encrypted: rescue unlock {below}"));
            continue;
        }
        let open = match opened {
            Some(Opened::As(device)) => Some(device),
            _ => None,
        };
        let named = open.as_ref().unwrap_or(&entry.source);
        let source = resolve::today(named, of_root.map_or("", |r| &r.source), root, disks);
        if source != *named && resolve::device(&source, disks, &root.path).is_ok() {
            said(format!(": taken for {source}, by its number on the disk of the root"));
        }
        match resolve::device(&source, disks, &root.path) {
            Err(Missing::Nowhere) if entry.may_be_missing() => {
                left_out.push(of_line(
                    entry.line,
                    format!("{what} is on no disk here; nofail, it boots without"),
                ));
            }
            Err(Missing::Nowhere) => said(" is on no disk here".into()),
            Err(Missing::Several(all)) => said(format!(" is ambiguous: {} have it", all.join(", "))),
            Ok(block) if plan.steps.iter().any(|s| s.target == entry.target) => {
                said(format!(": {} is named twice, {} left out", shown(&entry.target), block.path));
            }
            Ok(block) if !fits(&entry.kind, block) => {
                let kind = block.probe.kind.as_deref().unwrap_or("nothing known");
                said(format!(": {} holds {kind}, not {}", block.path, shown(&entry.kind)));
            }
            Ok(block) => match step(block, &entry.target, write, &entry.options) {
                Some(step) => plan.add(Some(step), block, disks, degraded),
                None => {
                    let kind = block.probe.kind.as_deref().unwrap_or("nothing known");
                    said(format!(": {} holds {kind}, which is not mounted here", block.path));
                }
            },
        }
    }
    // In the order of its lines, whatever the order of the mounts.
    trouble.sort();
    left_out.sort();
    plan.trouble.extend(trouble.into_iter().map(|(_, text)| text));
    plan.left_out.extend(left_out.into_iter().map(|(_, text)| text));
    plan
}

/// Whether what the line calls its type can be what was found: a name like /dev/sdb1 may by now be
/// another disk's.
fn fits(kind: &str, block: &BlockReport) -> bool {
    let unstable = ["auto", "ntfs-3g", "fuseblk", "msdos", "none"].contains(&kind) || kind.contains(',');
    let named = |k: &str| driver(k).map(|d| d.driver);
    let wanted = if kind == "ntfs3" || kind == "ntfs-3g" { named("ntfs") } else { named(kind) };
    unstable
        || wanted.is_none()
        || wanted == block.probe.kind.as_deref().and_then(named)
        || step(block, "/", false, &[]).is_none()
}

/// Text of a disk, for a terminal that must not obey it.
pub fn shown(text: &str) -> String {
    // Some characters are no control characters and turn what follows them around.
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).take(128).collect()
}

/// Mounts what the plan says. A root that cannot be mounted leaves nothing behind; what cannot be
/// mounted below it is told in the answer, a sentence each, and does not stop the rest.
///
/// # Errors
/// When the root file system cannot be mounted.
pub fn apply(plan: &Plan, load: &dyn Fn(&str)) -> io::Result<Vec<String>> {
    let Some((root, rest)) = plan.steps.split_first() else { return Ok(Vec::new()) };
    let made = !plan.folder.exists();
    std::fs::create_dir_all(&plan.folder)?;
    let mounted = (|| {
        let folder = mounts::folder(&plan.folder)?;
        let mount = one(root, load)?;
        mounts::attach(mount.as_fd(), folder.as_fd())?;
        Ok(mount)
    })();
    let mounted: OwnedFd = match mounted {
        Ok(mounted) => mounted,
        Err(error) => {
            root.devices().for_each(|device| drop(protection::release(device)));
            if made {
                let _ = std::fs::remove_dir(&plan.folder);
            }
            return Err(error);
        }
    };
    Ok(below(mounted.as_fd(), rest, load))
}

/// Mounts `steps` below a root that is mounted already. What cannot be is told, a sentence each.
pub fn below(root: BorrowedFd<'_>, steps: &[Step], load: &dyn Fn(&str)) -> Vec<String> {
    let mut trouble = Vec::new();
    for step in steps {
        let folder = match mounts::folder_inside(root, &step.target) {
            Ok(folder) => folder,
            Err(error) => {
                trouble.push(format!(
                    "mounting {} on {}: no such folder: {error}",
                    shown(step.bind.as_ref().unwrap_or(&step.device)),
                    shown(&step.target)
                ));
                continue;
            }
        };
        let mount = match &step.bind {
            Some(from) => bind(root, step, from),
            None => one(step, load),
        };
        if let Err(error) = mount.and_then(|mount| mounts::attach(mount.as_fd(), folder.as_fd())) {
            if step.bind.is_none() && !steps.iter().any(|s| s != step && s.device == step.device) {
                step.devices().for_each(|device| drop(protection::release(device)));
            }
            let source = step.bind.as_ref().unwrap_or(&step.device);
            trouble.push(format!("mounting {} on {}: {error}", shown(source), shown(&step.target)));
        }
    }
    trouble
}

fn bind(root: BorrowedFd<'_>, step: &Step, from: &str) -> io::Result<OwnedFd> {
    let folder = mounts::folder_inside(root, from)?;
    let mount = namespace::again_at(folder.as_fd(), step.driver == "rbind")?;
    if step.read_only {
        namespace::read_only(mount.as_fd())?;
    }
    Ok(mount)
}

fn one(step: &Step, load: &dyn Fn(&str)) -> io::Result<OwnedFd> {
    load(step.driver);
    for device in step.devices() {
        if step.read_only {
            protection::hold(device)?;
        } else {
            protection::release(device)?;
        }
    }
    if step.driver == "btrfs" {
        // A kernel that cannot refuses a copy that is older than what it has seen.
        let _ = btrfs::forget();
    }
    // Programs are to run in there as in the system itself: set-user-id bits and device nodes count.
    let wanted = Wanted {
        driver: step.driver,
        device: &step.device,
        options: &step.options,
        read_only: step.read_only,
        inert: false,
    };
    mounts::detached(wanted)
        .map_err(|error| io::Error::new(error.kind(), meaning(&error, step.driver, &step.device)))
}

/// What it means that the kernel does not mount a device by this driver, where that says nothing itself.
pub fn meaning(error: &io::Error, driver: &str, device: &str) -> String {
    match error.raw_os_error() {
        Some(nix::libc::ENODEV) => {
            format!("this image has no driver {driver}: an image of the family universal has more ({error})")
        }
        Some(nix::libc::EINVAL | nix::libc::EUCLEAN) => {
            format!("{driver} does not take it ({error}): `rescue probe {device}` says what is left of it")
        }
        Some(nix::libc::EROFS | nix::libc::EACCES) => format!("{device} refuses writes ({error})"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::resolve::tests::disk;

    const FSTAB: &[u8] = b"UUID=aa / ext4 ro,errors=remount-ro 0 1\n\
        UUID=bb /boot/efi vfat umask=0077 0 1\nUUID=cc /boot ext4 ro 0 2\n\
        UUID=dead /srv ext4 defaults 0 2\nnas:/x /net nfs defaults\n\
        UUID=ee /data zfs defaults 0 0\nUUID=cc /boot ext4 defaults 0 0\n";

    fn planned(write: bool) -> Plan {
        let disks = [disk("vda", &[("ext4", "aa"), ("vfat", "bb"), ("ext3", "cc"), ("zfs_member", "ee")])];
        plan(
            &disks[0].children[0],
            Tables { fstab: Some(FSTAB), crypttab: None },
            &disks,
            Path::new("/mnt/db7"),
            Leave { write, degraded: false },
        )
    }

    #[test]
    fn the_plan_is_in_order_and_read_only() {
        let plan = planned(false);
        let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "mount /dev/vda1 on / (ext4, read-only, journal not replayed)",
                "mount /dev/vda3 on /boot (ext4, read-only, journal not replayed)",
                "mount /dev/vda2 on /boot/efi (vfat, read-only)",
            ]
        );
        assert_eq!(plan.left_out, ["/etc/fstab line 5: nas:/x for /net: on the network, left out"]);
        assert_eq!(
            plan.trouble,
            [
                "/etc/fstab line 4: UUID=dead for /srv is on no disk here",
                "/etc/fstab line 6: UUID=ee for /data: /dev/vda4 holds zfs_member, which is not mounted here",
                "/etc/fstab line 7: UUID=cc for /boot: /boot is named twice, /dev/vda3 left out",
            ]
        );
        assert_eq!(plan.place(&plan.steps[2]), Path::new("/mnt/db7/boot/efi"));
    }

    #[test]
    fn writing_is_as_its_fstab_allows() {
        let how: Vec<String> = planned(true).steps.iter().map(Step::how).collect();
        // Its own /boot is mounted read-only; a read-only root is remounted by the system itself.
        assert_eq!(how, ["ext4, READ-WRITE", "ext4, read-only, journal not replayed", "vfat, READ-WRITE"]);
    }

    #[test]
    fn hostile_names_do_not_reach_a_terminal() {
        let disks = [disk("vda", &[("ext4", "aa")])];
        let fstab = b"\x1b]0;x\x07 /a\x1b[2J ext4\n/ / / /\nUUID=aa /../../etc ext4\n";
        let tables = Tables { fstab: Some(fstab), crypttab: Some(fstab) };
        let plan = plan(&disks[0].children[0], tables, &disks, Path::new("/mnt/x"), Leave::default());
        assert!(plan.trouble.iter().chain(&plan.left_out).all(|l| !l.chars().any(char::is_control)));
    }

    fn of(fstab: &str, disks: &[BlockReport]) -> Plan {
        let tables = Tables { fstab: Some(fstab.as_bytes()), crypttab: None };
        plan(&disks[0].children[0], tables, disks, Path::new("/mnt/x"), Leave::default())
    }

    #[test]
    fn what_need_not_be_here_is_no_trouble_and_is_told_in_order() {
        let disks = [disk("vda", &[("ext4", "aa"), ("vfat", "bb"), ("ext4", "cc")])];
        let plan = of(
            "UUID=aa / ext4\nUUID=bb /boot/efi vfat noauto\nUUID=dead /srv ext4 nofail\nUUID=cc /home/ ext4\n\
             UUID=cc //home ext4\nnas:/x /net nfs\n",
            &disks,
        );
        let targets: Vec<&str> = plan.steps.iter().map(|s| s.target.as_str()).collect();
        assert_eq!(targets, ["/", "/home", "/boot/efi"]);
        assert_eq!(
            plan.left_out,
            [
                "/etc/fstab line 3: UUID=dead for /srv is on no disk here; nofail, it boots without",
                "/etc/fstab line 6: nas:/x for /net: on the network, left out",
            ]
        );
        assert_eq!(
            plan.trouble,
            ["/etc/fstab line 5: UUID=cc for /home: /home is named twice, /dev/vda3 left out"]
        );
        assert!(of("", &disks).trouble[0].contains("has no entry"));
        let noise = of(&"noise\n".repeat(99), &disks).trouble;
        assert!(
            noise.len() == 2 && noise[1] == "/etc/fstab line 1 and 98 others are none: skipped",
            "{noise:?}"
        );
    }

    #[test]
    fn folders_that_show_each_other_do_not_multiply() {
        let disks = [disk("vda", &[("ext4", "aa")])];
        let lines: String = (0..4000).map(|n| format!("/ /m/{n} none rbind\n")).collect();
        let plan = of(&lines, &disks);
        assert_eq!(plan.steps.len(), MOST);
        assert!(plan.steps.iter().all(|s| s.driver != "rbind"), "each would double what is mounted");
        assert_eq!(of("/srv /export none rbind\n", &disks).steps[1].driver, "rbind");
    }

    #[test]
    fn a_journal_that_is_not_replayed_is_said_where_it_matters() {
        let mut disks = [disk("vda", &[("xfs", "aa")])];
        assert!(of("UUID=aa / xfs\n", &disks).trouble.is_empty());
        disks[0].children[0].probe.state = Some("needs journal recovery".into());
        assert!(of("UUID=aa / xfs\n", &disks).trouble[0].contains("in its journal alone"));
    }
}
