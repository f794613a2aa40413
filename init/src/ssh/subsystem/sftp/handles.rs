//! Open files and folders, and the names by which a client calls them. A name is used once: one that was
//! closed never means what was opened after it.

use std::os::fd::OwnedFd;

use rustix::fs::Dir;

/// What a handle stands for.
#[derive(Debug)]
pub(super) enum Opened {
    /// A file; whether it is written at its end wherever the client says (`SSH_FXF_APPEND`).
    File { file: OwnedFd, append: bool },
    /// A folder, and itself for looking at what it holds.
    Folder { entries: Box<Dir>, folder: OwnedFd },
}

/// All of them.
#[derive(Debug)]
pub(super) struct Handles {
    slots: Vec<(u32, Option<Opened>)>,
    free: Vec<usize>,
    limit: usize,
}

impl Handles {
    /// At most `limit` at once.
    pub(super) fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), limit }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether one more may be opened.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.limit
    }

    /// Keeps it, and names it. The caller has asked whether there is room.
    pub(super) fn add(&mut self, opened: Opened) -> [u8; 8] {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() - 1
        });
        let mut name = [0; 8];
        if let Some((generation, slot)) = self.slots.get_mut(at) {
            *generation = generation.wrapping_add(1);
            *slot = Some(opened);
            let (first, second) = name.split_at_mut(4);
            first.copy_from_slice(&u32::try_from(at).unwrap_or(u32::MAX).to_be_bytes());
            second.copy_from_slice(&generation.to_be_bytes());
        }
        name
    }

    fn place(&self, name: &[u8]) -> Option<usize> {
        let name: [u8; 8] = name.try_into().ok()?;
        let name = u64::from_be_bytes(name);
        let (at, generation) = (usize::try_from(name >> 32).ok()?, name & u64::from(u32::MAX));
        let (of_slot, opened) = self.slots.get(at)?;
        (u64::from(*of_slot) == generation && opened.is_some()).then_some(at)
    }

    pub(super) fn get(&mut self, name: &[u8]) -> Option<&mut Opened> {
        let at = self.place(name)?;
        self.slots.get_mut(at)?.1.as_mut()
    }

    /// The file of this name; whether it is written at its end.
    pub(super) fn file(&self, name: &[u8]) -> Option<(&OwnedFd, bool)> {
        match self.slots.get(self.place(name)?)?.1.as_ref()? {
            Opened::File { file, append } => Some((file, *append)),
            Opened::Folder { .. } => None,
        }
    }

    /// A descriptor of a file or a folder.
    pub(super) fn descriptor(&self, name: &[u8]) -> Option<&OwnedFd> {
        match self.slots.get(self.place(name)?)?.1.as_ref()? {
            Opened::File { file, .. } => Some(file),
            Opened::Folder { folder, .. } => Some(folder),
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Opened> {
        let at = self.place(name)?;
        let opened = self.slots.get_mut(at)?.1.take();
        self.free.push(at);
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_name_stays_closed() {
        let file = || Opened::File { file: std::fs::File::open("/dev/null").unwrap().into(), append: false };
        let mut handles = Handles::new(2);
        let first = handles.add(file());
        let second = handles.add(file());
        assert!(!handles.has_room() && handles.file(&first).is_some());
        assert!(handles.remove(&first).is_some() && handles.remove(&first).is_none());
        assert!(handles.has_room());
        let third = handles.add(file());
        assert_eq!(third[..4], first[..4]);
        assert!(handles.file(&first).is_none() && handles.file(&third).is_some());
        assert!(handles.descriptor(&second).is_some());
        for wrong in [&b""[..], &[0xff; 8], &[0; 8], &[0; 9], &third[..4]] {
            assert!(handles.get(wrong).is_none(), "{wrong:?}");
        }
    }
}
