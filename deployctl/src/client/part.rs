//! A part of an open file as content: an archive within an archive, or a file without a name.
//! Read by `content`, handed over by importers.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::{Stream, stream};
use tokio::sync::mpsc;

use super::{ClientError, download::failed};

/// How much is read at a time.
const PIECE: u64 = 256 * 1024;
/// How many pieces wait to be taken.
const AHEAD: usize = 2;

/// Some bytes of an open file, one after the other. Cheap to clone; any number may be read at
/// once.
#[derive(Clone, Debug)]
pub struct Part {
    /// The file.
    pub file: Arc<File>,
    /// What it is called, for messages.
    pub path: PathBuf,
    /// Where the part begins.
    pub offset: u64,
    /// How many bytes it has.
    pub size: u64,
}

impl Part {
    /// Returns all of an open file, which has `size` bytes.
    pub fn whole(file: File, path: PathBuf, size: u64) -> Self {
        Self {
            file: Arc::new(file),
            path,
            offset: 0,
            size,
        }
    }

    /// Fills a buffer from `position` of the part on, and returns with how much: less than
    /// asked for only at its end. Blocks.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::UnexpectedEof`] where the file ends before the part.
    pub fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(position);
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        (self.file).read_exact_at(&mut buffer[..wanted], self.offset + position)?;
        Ok(wanted)
    }

    /// Returns the bytes from `position` on, `length` of them, read ahead on a blocking thread.
    pub(super) fn read(
        &self,
        position: u64,
        length: u64,
    ) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + use<> {
        let (way, pieces) = mpsc::channel(AHEAD);
        let part = self.clone();
        tokio::task::spawn_blocking(move || {
            let (mut position, end) = (position, position + length);
            while position < end {
                let size = PIECE.min(end - position);
                let mut piece = vec![0; usize::try_from(size).expect("at most a piece")];
                let result = part.read_at(position, &mut piece);
                let is_over = result.is_err();
                let piece = result.map(|count| {
                    piece.truncate(count);
                    Bytes::from(piece)
                });
                // Nobody takes it where the upload was given up.
                let sent = way.blocking_send(piece.map_err(failed("read", &part.path)));
                if is_over || sent.is_err() {
                    return;
                }
                position += size;
            }
        });
        stream::unfold(pieces, |mut pieces| async move {
            let piece = pieces.recv().await?;
            Some((piece, pieces))
        })
    }
}

/// Reads a part from its beginning to its end.
#[derive(Debug)]
pub struct PartReader {
    part: Part,
    position: u64,
}

impl From<Part> for PartReader {
    fn from(part: Part) -> Self {
        Self { part, position: 0 }
    }
}

impl io::Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.part.read_at(self.position, buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use futures::TryStreamExt as _;

    use super::*;

    fn part(content: &[u8], offset: u64, size: u64) -> Part {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Part {
            file: Arc::new(file),
            path: "archive.tar".into(),
            offset,
            size,
        }
    }

    #[tokio::test]
    async fn a_part_is_read_whole_and_from_the_middle() {
        let size = 3 * PIECE + 7;
        let byte = |index: u64| u8::try_from(index % 251).unwrap();
        let content: Vec<u8> = (0..size + 20).map(byte).collect();
        let part = part(&content, 10, size);
        let mut whole = Vec::new();
        (PartReader::from(part.clone()).read_to_end(&mut whole)).unwrap();
        assert_eq!(whole, content[10..content.len() - 10]);
        for (offset, length) in [(0, size), (PIECE - 1, PIECE + 2), (size - 1, 1)] {
            let pieces: Vec<Bytes> = part.read(offset, length).try_collect().await.unwrap();
            let start = usize::try_from(offset).unwrap();
            let end = usize::try_from(offset + length).unwrap();
            assert_eq!(pieces.concat(), whole[start..end]);
        }
    }

    #[tokio::test]
    async fn a_file_that_ends_before_its_part_is_an_error() {
        let part = part(b"short", 2, 10);
        let result: Result<Vec<Bytes>, _> = part.read(0, 10).try_collect().await;
        assert!(matches!(result, Err(ClientError::File { .. })));
    }
}
