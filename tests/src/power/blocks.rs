//! What a disk holds, for certain and perhaps. Used by [`super`] alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand::{Rng, RngExt};

/// The unit that a disk writes whole or not at all.
const SECTOR: usize = 4096;

/// The blocks of one disk.
#[derive(Debug)]
pub(super) struct Blocks {
    size: u64,
    /// As it was when the disk was last flushed.
    stable: File,
    /// As it is read: with everything that was written since.
    current: File,
    /// What was written since, in pieces of a sector, the oldest first.
    unflushed: Vec<(u64, Vec<u8>)>,
    powered: bool,
}

impl Blocks {
    /// An empty disk of so many bytes, kept in files in `directory`.
    pub(super) fn new(directory: &Path, size: u64) -> io::Result<Self> {
        let file = |name: &str| {
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(directory.join(name))?;
            file.set_len(size)?;
            Ok::<_, io::Error>(file)
        };
        Ok(Self {
            size,
            stable: file("stable")?,
            current: file("current")?,
            unflushed: Vec::new(),
            powered: true,
        })
    }

    /// The size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads as much as there is, up to `length` bytes.
    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(rest)];
        self.current.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Writes into the disk's cache.
    ///
    /// # Errors
    /// Without power, always.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_power()?;
        self.current.write_all_at(bytes, offset)?;
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let to_boundary = SECTOR - usize::try_from(at % SECTOR as u64).unwrap_or(0);
            let (piece, after) = rest.split_at(to_boundary.min(rest.len()));
            self.unflushed.push((at, piece.to_vec()));
            at += piece.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// Makes everything certain that was written.
    ///
    /// # Errors
    /// Without power, always.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.check_power()?;
        for (offset, bytes) in self.unflushed.drain(..) {
            self.stable.write_all_at(&bytes, offset)?;
        }
        Ok(())
    }

    /// Takes the power away.
    pub(super) fn cut(&mut self) {
        self.powered = false;
    }

    /// Gives the power back. Of what was not flushed, nothing is left, or all, or some pieces of it.
    pub(super) fn restore(&mut self) {
        let mut random = rand::rng();
        let percent = [0, 10, 50, 90, 100][random.random_range(0..5)];
        self.restore_with(percent, &mut random)
            .expect("files that were written can be written again");
    }

    fn restore_with(&mut self, percent: u32, random: &mut impl Rng) -> io::Result<()> {
        for (offset, bytes) in &self.unflushed {
            if random.random_range(0..100) < percent {
                self.stable.write_all_at(bytes, *offset)?;
            }
        }
        for (offset, mut bytes) in self.unflushed.drain(..) {
            self.stable.read_exact_at(&mut bytes, offset)?;
            self.current.write_all_at(&bytes, offset)?;
        }
        self.powered = true;
        Ok(())
    }

    fn check_power(&self) -> io::Result<()> {
        match self.powered {
            true => Ok(()),
            false => Err(io::Error::other("there is no power")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTORS: u64 = 8;

    fn disk() -> (tempfile::TempDir, Blocks) {
        let directory = tempfile::tempdir().unwrap();
        let blocks = Blocks::new(directory.path(), SECTORS * SECTOR as u64).unwrap();
        (directory, blocks)
    }

    /// The first byte of each sector.
    fn sectors(blocks: &Blocks) -> Vec<u8> {
        let read = blocks.read(0, usize::MAX).unwrap();
        read.chunks(SECTOR).map(|sector| sector[0]).collect()
    }

    #[test]
    fn what_was_flushed_stays_and_the_rest_may_go() {
        for (percent, expected) in [(0, [1, 1, 1, 1]), (100, [1, 2, 2, 1])] {
            let (_directory, mut blocks) = disk();
            blocks.write(0, &[1; 4 * SECTOR]).unwrap();
            blocks.flush().unwrap();
            blocks.write(SECTOR as u64, &[2; 2 * SECTOR]).unwrap();
            assert_eq!(sectors(&blocks)[..4], [1, 2, 2, 1]);
            blocks.cut();
            assert!(blocks.write(0, &[3]).is_err());
            assert!(blocks.flush().is_err());
            blocks.restore_with(percent, &mut rand::rng()).unwrap();
            assert_eq!(sectors(&blocks)[..4], expected);
            // And what is left is certain.
            blocks.cut();
            blocks.restore_with(100, &mut rand::rng()).unwrap();
            assert_eq!(sectors(&blocks)[..4], expected);
        }
    }

    #[test]
    fn pieces_go_one_by_one() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let (_directory, mut blocks) = disk();
            blocks.write(0, &[1; 2 * SECTOR]).unwrap();
            blocks.cut();
            blocks.restore_with(50, &mut rand::rng()).unwrap();
            seen.insert(sectors(&blocks)[..2].to_vec());
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    #[test]
    fn reading_ends_at_the_end() {
        let (_directory, blocks) = disk();
        assert_eq!(
            blocks
                .read(SECTOR as u64 * 7 + 1, SECTOR * 2)
                .unwrap()
                .len(),
            SECTOR - 1
        );
        assert_eq!(blocks.read(SECTOR as u64 * 9, 1).unwrap().len(), 0);
    }
}
