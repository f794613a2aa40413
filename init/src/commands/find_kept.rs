//! File systems that hold a system, and stay as the kernel has read them until one is mounted: to read a large btrfs
//! anew takes minutes. A second read-only mount with the same options shows the same file system.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use super::disks;
use crate::disk::{mountinfo, protection};

/// Most that are kept.
const MOST: usize = 8;

/// What is kept, out of sight and read-only.
#[derive(Default)]
pub(super) struct Kept(RefCell<Vec<OwnedFd>>);

impl Kept {
    /// Keeps a mount whose devices are protected where it is `wanted` and not enough are kept; whether it does.
    pub(super) fn keep(&self, mount: OwnedFd, wanted: bool) -> bool {
        let mut all = self.0.borrow_mut();
        let keeps = wanted && all.len() < MOST;
        if keeps {
            all.push(mount);
        }
        keeps
    }

    /// Lets go of all of it: before something is written to, or taken down below it.
    pub(super) fn let_go(&self) {
        if self.0.take().is_empty() {
            return;
        }
        // What is mounted by now stays protected.
        if let Ok(info) = disks::mountinfo() {
            let used = mountinfo::parse(&info);
            protection::sweep(&|device| used.iter().any(|m| m.source == device));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.let_go();
    }
}
