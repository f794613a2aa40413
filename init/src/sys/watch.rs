//! Waiting for something to change in a folder (inotify(7)).

use std::io;
use std::path::Path;

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
}
