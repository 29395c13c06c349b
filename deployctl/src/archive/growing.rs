//! Layers in files that still grow: they are read while they are being written. Made by whoever
//! fetches a layer, read by `layer`.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// How far the writing of a file is.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    /// How often the file grew. Not its size: whoever writes may hold something back.
    times: u64,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    growth: Mutex<Growth>,
    changed: Condvar,
}

impl Shared {
    fn growth(&self) -> MutexGuard<'_, Growth> {
        self.growth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells those who read a file along that it grew. Once dropped, it says that nothing more comes,
/// whether the file is whole or not: its readers know it by its digest.
#[derive(Debug)]
pub struct Grower(Arc<Shared>);

impl Grower {
    /// Says that the file may have grown. Returns at once.
    pub fn grew(&self) {
        self.0.growth().times += 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Grower {
    fn drop(&mut self) {
        self.0.growth().ended = true;
        self.0.changed.notify_all();
    }
}

/// A file that grows. Clones read the same file, each at its own pace.
#[derive(Clone, Debug)]
pub struct Growing {
    file: Arc<File>,
    shared: Arc<Shared>,
}

impl Growing {
    /// Returns `file`, which must be open for reading and may have its beginning already, and what
    /// tells of its growth.
    pub fn new(file: File) -> (Self, Grower) {
        let shared = Arc::<Shared>::default();
        let grower = Grower(Arc::clone(&shared));
        let file = Arc::new(file);
        (Self { file, shared }, grower)
    }
}

/// A layer's file, whole or growing, read from its beginning.
pub(super) struct LayerFile {
    file: Arc<File>,
    position: u64,
    growth: Option<Arc<Shared>>,
}

impl LayerFile {
    pub(super) fn whole(file: File) -> Self {
        Self {
            file: Arc::new(file),
            position: 0,
            growth: None,
        }
    }

    pub(super) fn growing(growing: &Growing) -> Self {
        Self {
            file: Arc::clone(&growing.file),
            position: 0,
            growth: Some(Arc::clone(&growing.shared)),
        }
    }

    pub(super) fn rewind(&mut self) {
        self.position = 0;
    }

    /// Returns how many bytes the file has; nothing while it grows.
    pub(super) fn size(&self) -> io::Result<Option<u64>> {
        let grows = (self.growth.as_ref()).is_some_and(|shared| !shared.growth().ended);
        match grows {
            true => Ok(None),
            false => Ok(Some(self.file.metadata()?.len())),
        }
    }
}

impl Read for LayerFile {
    /// Waits where the end has been reached and more may come.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Asked before the file is: what grows between the two is not missed.
            let seen = self.growth.as_ref().map(|shared| *shared.growth());
            let count = self.file.read_at(buffer, self.position)?;
            self.position += count as u64;
            match (&self.growth, seen) {
                (Some(shared), Some(seen)) if count == 0 && !buffer.is_empty() && !seen.ended => {
                    let same = |now: &mut Growth| now.times == seen.times && !now.ended;
                    let waited = shared.changed.wait_while(shared.growth(), same);
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                }
                _ => return Ok(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, thread};

    use super::*;

    #[test]
    fn readers_get_all_of_it_while_it_comes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"begun ").unwrap();
        let (growing, grower) = Growing::new(file.try_clone().unwrap());
        let readers = [growing.clone(), growing].map(|growing| {
            thread::spawn(move || {
                let mut found = Vec::new();
                let mut reader = LayerFile::growing(&growing);
                reader.read_to_end(&mut found).unwrap();
                (found, reader.size().unwrap())
            })
        });
        let mut expected = b"begun ".to_vec();
        for piece in 0..1000 {
            let piece = format!("{piece} ");
            file.write_all(piece.as_bytes()).unwrap();
            expected.extend_from_slice(piece.as_bytes());
            grower.grew();
        }
        // Written, and never told of: the end tells.
        file.write_all(b"end").unwrap();
        expected.extend_from_slice(b"end");
        drop(grower);
        for reader in readers {
            let size = expected.len() as u64;
            assert_eq!(reader.join().unwrap(), (expected.clone(), Some(size)));
        }
    }

    #[test]
    fn a_file_has_no_size_before_it_has_ended() {
        let (growing, grower) = Growing::new(tempfile::tempfile().unwrap());
        let file = LayerFile::growing(&growing);
        assert_eq!(file.size().unwrap(), None);
        drop(grower);
        assert_eq!(file.size().unwrap(), Some(0));
    }
}
