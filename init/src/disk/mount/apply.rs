//! Doing what a plan says.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Plan, Step, shown};
use crate::disk::protection;
use crate::sys::btrfs;
use crate::sys::mounts::{self, Wanted};
use crate::sys::namespace;

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
        put(root, folder.as_fd(), load)
    })();
    let mounted: OwnedFd = match mounted {
        Ok(mounted) => mounted,
        Err(error) => {
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
        let folder = folder.as_fd();
        let mount = match &step.bind {
            Some(from) => bind(root, step, from).and_then(|m| mounts::attach(m.as_fd(), folder).map(|()| m)),
            None => put(step, folder, load),
        };
        if let Err(error) = mount {
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

/// Mounts one on a folder, its devices protected or free as it wants them; where that fails, those that it protected
/// itself are given back.
fn put(step: &Step, folder: BorrowedFd<'_>, load: &dyn Fn(&str)) -> io::Result<OwnedFd> {
    load(step.driver);
    let mut held = Vec::new();
    let mounted = (|| {
        if !step.read_only {
            step.devices().try_for_each(protection::release)?;
        } else {
            for device in step.protected() {
                if protection::hold(device)? {
                    held.push(device);
                }
            }
        }
        let mount = one(step)?;
        mounts::attach(mount.as_fd(), folder)?;
        Ok(mount)
    })();
    if mounted.is_err() {
        held.into_iter().for_each(|device| drop(protection::release(device)));
    }
    mounted
}

fn one(step: &Step) -> io::Result<OwnedFd> {
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
