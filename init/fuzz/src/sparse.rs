//! Disk images as seeds: a kilobyte stands for a disk of any size, and a mutation meets what matters
//! instead of zeros.
//!
//! Form, little-endian: log2 of the sector size (1 byte), size of the device (8), then pieces: offset
//! (8), length (2), as many bytes. Everything else is zeros. Any bytes are an image.

#![allow(clippy::cast_possible_truncation)]

use std::io;

use init::disk::source::Source;

/// An image that is mostly zeros.
pub(crate) struct Sparse<'a> {
    /// Bytes of a sector.
    pub sector: u64,
    size: u64,
    /// Offset and content; later ones lie over earlier ones.
    pieces: Vec<(u64, Piece<'a>)>,
}

enum Piece<'a> {
    Seed(&'a [u8]),
    Made(Vec<u8>),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Seed(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

impl<'a> Sparse<'a> {
    pub(crate) fn parse(data: &'a [u8]) -> Option<Self> {
        let (sector, rest) = data.split_first()?;
        let (size, mut rest) = rest.split_first_chunk::<8>()?;
        let mut pieces = Vec::new();
        while let Some((offset, tail)) = rest.split_first_chunk::<8>()
            && let Some((length, tail)) = tail.split_first_chunk::<2>()
        {
            let (piece, tail) = tail.split_at(usize::from(u16::from_le_bytes(*length)).min(tail.len()));
            pieces.push((u64::from_le_bytes(*offset), Piece::Seed(piece)));
            rest = tail;
        }
        Some(Self { sector: 1 << (sector & 15), size: u64::from_le_bytes(*size), pieces })
    }

    /// Lays bytes over the image.
    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.pieces.push((offset, Piece::Made(bytes.to_vec())));
    }
}

impl Source for Sparse<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        assert!(
            offset.checked_add(buffer.len() as u64).is_some_and(|end| end <= self.size),
            "a probe reads {} bytes at {offset} of {}",
            buffer.len(),
            self.size
        );
        buffer.fill(0);
        for (at, piece) in &self.pieces {
            let bytes = piece.bytes();
            let from = offset.max(*at);
            let to = (offset + buffer.len() as u64).min(at.saturating_add(bytes.len() as u64));
            if from < to {
                let length = (to - from) as usize;
                let (source, target) = ((from - at) as usize, (from - offset) as usize);
                buffer[target..target + length].copy_from_slice(&bytes[source..source + length]);
            }
        }
        Ok(())
    }
}
