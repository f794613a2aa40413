//! The probes against images made by the real tools: what `blkid` says of them, damage, two formats on one
//! device, a device that errs.
#![allow(missing_docs)]

mod agreement;
mod built;
mod damage;
mod images;
mod measure;
mod recipes;
mod rivals;
mod seeds;
mod states;

use std::fs::File;
use std::io;
use std::path::Path;

use init::disk::probe;
use init::disk::source::{BUDGET, Reader, Source};
use rescue_schema::report::ProbeReport;

/// An image with pieces of it replaced, cut short, or unreadable.
pub(crate) struct Image {
    file: (File, u64),
    pub(crate) patches: Vec<(u64, Vec<u8>)>,
    /// From, to: reading any of it fails.
    pub(crate) bad: Vec<(u64, u64)>,
}

impl Image {
    pub(crate) fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let size = file.metadata().unwrap().len();
        Self { file: (file, size), patches: Vec::new(), bad: Vec::new() }
    }

    pub(crate) fn cut(mut self, size: u64) -> Self {
        self.file.1 = self.file.1.min(size);
        self
    }

    pub(crate) fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read_at(offset, &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.patches.push((offset, bytes.to_vec()));
    }

    /// One bit of the byte at `offset`, the other way round.
    pub(crate) fn flip(&mut self, offset: u64) {
        let byte = self.bytes(offset, 1)[0] ^ 0x10;
        self.put(offset, &[byte]);
    }

    /// What the probes say; they stay inside the image and within the budget.
    pub(crate) fn look(&self) -> ProbeReport {
        let reader = Reader::new(self, 512);
        let report = probe::image(&reader);
        assert!(reader.spent() <= BUDGET);
        report
    }
}

impl Source for Image {
    fn size(&self) -> u64 {
        self.file.1
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        assert!(end <= self.file.1, "a read of {} bytes at {offset} of {}", buffer.len(), self.file.1);
        if self.bad.iter().any(|(from, to)| *from < end && offset < *to) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.read_at(offset, buffer)?;
        for (at, bytes) in &self.patches {
            let (from, to) = (offset.max(*at), end.min(at + bytes.len() as u64));
            if from < to {
                let place = |n: u64, base: u64| usize::try_from(n - base).unwrap();
                buffer[place(from, offset)..place(to, offset)]
                    .copy_from_slice(&bytes[place(from, *at)..place(to, *at)]);
            }
        }
        Ok(())
    }
}
