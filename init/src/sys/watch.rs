//! Waiting for something to change in a folder (inotify(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A watch on the files of a folder.
pub struct Watch(Inotify);

impl Watch {
    /// Watches what is written, created or renamed in `folder`, from now on.
    ///
    /// # Errors
    /// Those of inotify(7).
    pub fn open(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        let what = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(folder, what)?;
        Ok(Self(inotify))
    }

    /// Waits until something has changed since the last call.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn wait(&mut self) -> io::Result<()> {
        self.0.read_events()?;
        Ok(())
    }

    /// As [`Self::wait`], but no longer than `limit`; says whether something changed.
    ///
    /// # Errors
    /// Those of poll(2) and read(2).
    pub fn wait_for(&mut self, limit: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Ok(false);
        }
        self.wait().map(|()| true)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
