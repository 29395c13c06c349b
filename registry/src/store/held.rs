//! What has arrived of a blob and nobody has taken yet. Filled and emptied by `ingest`.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};

use super::{
    data::{BUFFER, Buffer, Pool},
    error::BodyError,
};

/// Bytes in order. A single frame stays what it is, so that a small blob is not copied; more of
/// them are gathered in buffers, so that their own are free for what arrives.
pub(super) struct Held {
    pool: Pool,
    /// Where the first byte stands in the blob.
    start: u64,
    length: u64,
    /// All of it, unless it is in buffers.
    frame: Option<Bytes>,
    /// All but the last one are full.
    buffers: Vec<Buffer>,
}

impl Held {
    /// Holds the tail of what is at rest, in order, the first byte of which stands at `start`.
    pub(super) fn new(pool: Pool, start: u64, tail: Vec<Bytes>) -> Self {
        let mut held = Self {
            pool,
            start,
            length: 0,
            frame: None,
            buffers: Vec::new(),
        };
        tail.into_iter().for_each(|piece| held.push(piece));
        held
    }

    /// Returns how many bytes are held.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads until full buffers hold as many bytes as are `wanted` by then, or the body ends:
    /// then returns how.
    pub(super) async fn fill(
        &mut self,
        body: &mut (impl Stream<Item = Result<Bytes, BodyError>> + Unpin),
        wanted: impl Fn() -> usize,
    ) -> Option<Result<(), BodyError>> {
        while self.full() * BUFFER < wanted() {
            match body.next().await {
                None => return Some(Ok(())),
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(frame)) => self.push(frame),
            }
        }
        None
    }

    /// Takes the full buffers.
    pub(super) fn take_full(&mut self) -> Vec<Bytes> {
        let full = self.full();
        let taken = self.buffers.drain(..full).map(Bytes::from).collect();
        self.taken(taken)
    }

    /// Takes everything, in buffers.
    pub(super) fn take_gathered(&mut self) -> Vec<Bytes> {
        self.gather();
        self.take()
    }

    /// Takes everything as it is.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        let buffers = self.buffers.drain(..).map(Bytes::from);
        let taken = self.frame.take().into_iter().chain(buffers).collect();
        self.taken(taken)
    }

    /// Takes everything in one piece, which holds on to no buffer.
    pub(super) fn take_joined(&mut self) -> Bytes {
        let is_frame = self.frame.is_some();
        let mut pieces = self.take();
        match is_frame {
            true => pieces.pop().unwrap_or_default(),
            false => pieces.concat().into(),
        }
    }

    fn full(&self) -> usize {
        let last = self.buffers.last().filter(|last| !last.is_full());
        self.buffers.len() - usize::from(last.is_some())
    }

    fn push(&mut self, frame: Bytes) {
        if self.length == 0 && frame.len() <= BUFFER {
            self.length = frame.len() as u64;
            self.frame = Some(frame);
            return;
        }
        self.gather();
        self.copy(&frame);
    }

    fn gather(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.length = 0;
            self.copy(&frame);
        }
    }

    fn copy(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.buffers.last().is_none_or(Buffer::is_full) {
                self.buffers.push(self.pool.take(self.start + self.length));
            }
            let Some(buffer) = self.buffers.last_mut() else {
                return;
            };
            let copied = buffer.fill(bytes);
            self.length += copied as u64;
            bytes = &bytes[copied..];
        }
    }

    fn taken(&mut self, pieces: Vec<Bytes>) -> Vec<Bytes> {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        self.start += length;
        self.length -= length;
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(range: std::ops::Range<usize>) -> Bytes {
        range.map(|at| (at % 251) as u8).collect()
    }

    async fn filled(held: &mut Held, frames: &[std::ops::Range<usize>], wanted: usize) -> bool {
        let frames = frames.iter().cloned().map(|range| Ok(bytes(range)));
        let mut body = futures::stream::iter(frames.collect::<Vec<_>>());
        held.fill(&mut body, || wanted).await.is_some()
    }

    #[tokio::test]
    async fn what_is_taken_is_what_arrived_whatever_the_frames() {
        for (start, frame) in [
            (0, 1000),
            (0, BUFFER),
            (100, BUFFER / 2),
            (5000, 3 * BUFFER + 1),
        ] {
            let mut held = Held::new(Pool::default(), start, vec![bytes(0..10)]);
            let mut taken = Vec::new();
            for at in (10..10 * BUFFER).step_by(frame) {
                let ended =
                    filled(&mut held, std::slice::from_ref(&(at..at + frame)), BUFFER).await;
                if !ended {
                    let full = held.take_full();
                    assert!(!full.is_empty(), "{start} {frame}");
                    taken.extend(full);
                }
            }
            taken.extend(held.take_gathered());
            assert_eq!(held.length(), 0);
            let taken = taken.concat();
            assert!(taken == bytes(0..taken.len()), "{start} {frame}");
            assert!(taken.len() >= 10 * BUFFER);
        }
    }

    #[tokio::test]
    async fn many_small_frames_hold_on_to_one_buffer() {
        let mut held = Held::new(Pool::default(), 0, Vec::new());
        let frames: Vec<_> = (0..1000).map(|at| at..at + 1).collect();
        assert!(filled(&mut held, &frames, BUFFER).await);
        assert_eq!((held.length(), held.buffers.len()), (1000, 1));
        assert_eq!(held.take_joined(), bytes(0..1000));
    }

    #[tokio::test]
    async fn single_frame_is_not_copied() {
        let mut held = Held::new(Pool::default(), 0, Vec::new());
        let frame = bytes(0..4096);
        let mut body = futures::stream::iter([Ok(frame.clone())]);
        assert!(held.fill(&mut body, || BUFFER).await.is_some());
        assert_eq!(held.take_joined().as_ptr(), frame.as_ptr());
    }
}
