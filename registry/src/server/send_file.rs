//! Bytes of files that go from the page cache to the socket without passing through this
//! process. Made for blobs by `http`; sent by [`super::idle`].
//!
//! hyper knows bodies of bytes in memory only, and hands them to the connection as they are. So
//! the body is made of slices of a region that nobody ever reads, each of which stands for a
//! part of a file; and the connection, asked to write such a slice, sends that part instead.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::{
    io::Interest,
    net::TcpStream,
    task::{JoinHandle, spawn_blocking},
};

const KIB: usize = 1024;
/// The longest part of a file that is sent without asking whether it is in the page cache.
const PART: usize = 1024 * KIB;
/// Never read, and never written either, so that it takes no memory.
static HOLE: [u8; PART] = [0; PART];
/// How much is copied at a time, where a file cannot be sent directly or is not in memory yet.
const COPIED: usize = 128 * KIB;

/// Returns whether the bytes stand for a part of a file.
pub(super) fn is_hole(bytes: &[u8]) -> bool {
    HOLE.as_ptr_range().contains(&bytes.as_ptr())
}

/// The parts of files that one connection is about to send, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileSender(Arc<Mutex<VecDeque<Part>>>);

#[derive(Debug)]
struct Part {
    file: Arc<File>,
    range: Range<u64>,
}

impl FileSender {
    /// Returns a body that stands for the range of the file. To be sent on this connection, by
    /// HTTP/1.1.
    pub(crate) fn body(&self, file: File, range: Range<u64>) -> Body {
        Body::new(FileBody {
            sender: self.clone(),
            file: Arc::new(file),
            range,
            fetching: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the next `length` bytes stand for, or a part of it.
    pub(super) fn poll_send(
        &self,
        context: &mut Context<'_>,
        stream: &TcpStream,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let mut parts = self.lock();
        let part = parts.front_mut();
        let Some(part) = part.filter(|part| part.range.end - part.range.start == length as u64)
        else {
            return Poll::Ready(Err(io::Error::other(
                "connection and files are out of step",
            )));
        };
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || send(stream, part, length)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    part.range.start += sent as u64;
                    if part.range.is_empty() {
                        parts.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Sends the beginning of a part; 0 where the file ends before it.
fn send(stream: &TcpStream, part: &Part, length: usize) -> io::Result<usize> {
    let mut offset = part.range.start;
    match rustix::fs::sendfile(stream, &*part.file, Some(&mut offset), length) {
        // Not every file system can do that.
        Err(Errno::INVAL | Errno::NOSYS) => {
            let mut copy = vec![0; length.min(COPIED)];
            let read = part.file.read_at(&mut copy, part.range.start)?;
            Ok(rustix::io::write(stream, &copy[..read])?)
        }
        sent => Ok(sent?),
    }
}

/// A body of parts of a file.
struct FileBody {
    sender: FileSender,
    file: Arc<File>,
    /// What is not handed over yet.
    range: Range<u64>,
    /// Brings the next part into the page cache.
    fetching: Option<JoinHandle<io::Result<()>>>,
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        let end = self.range.end.min(self.range.start + PART as u64);
        let part = self.range.start..end;
        if self.fetching.is_none() && !is_in_memory(&self.file, &part) {
            // To wait for the disk here would hold up everybody else.
            let (file, part) = (self.file.clone(), part.clone());
            self.fetching = Some(spawn_blocking(move || fetch(&file, part)));
        }
        if let Some(fetching) = &mut self.fetching {
            let fetched = ready!(Pin::new(fetching).poll(context));
            self.fetching = None;
            if let Err(error) = fetched.unwrap_or_else(|failed| Err(io::Error::other(failed))) {
                tracing::error!(%error, "blob broke off while it was sent");
                return Poll::Ready(Some(Err(error)));
            }
        }
        self.range.start = end;
        let length = usize::try_from(part.end - part.start).unwrap_or(PART);
        let file = self.file.clone();
        self.sender.lock().push_back(Part { file, range: part });
        let hole = Bytes::from_static(&HOLE[..length]);
        Poll::Ready(Some(Ok(Frame::data(hole))))
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.end - self.range.start)
    }
}

/// Returns whether both ends of the range are in the page cache; what lies between is then, as
/// a rule.
fn is_in_memory(file: &File, range: &Range<u64>) -> bool {
    let ends = [range.start, range.end.saturating_sub(1)];
    ends.into_iter().all(|at| {
        let mut byte = [0];
        let mut buffers = [IoSliceMut::new(&mut byte)];
        let read = rustix::io::preadv2(file, &mut buffers, at, ReadWriteFlags::NOWAIT);
        matches!(read, Ok(1))
    })
}

/// Reads the range, so that it is in the page cache.
fn fetch(file: &File, range: Range<u64>) -> io::Result<()> {
    let mut scratch = vec![0; COPIED];
    let mut at = range.start;
    while at < range.end {
        let wanted = usize::try_from(range.end - at)
            .unwrap_or(COPIED)
            .min(COPIED);
        file.read_exact_at(&mut scratch[..wanted], at)?;
        at += wanted as u64;
    }
    Ok(())
}
