//! A limit on how long a peer may take nothing of what we send, and on how long it may take to
//! say which protocol it speaks. What it sends afterwards is limited where it is read: headers by
//! hyper, bodies by `http/body.rs`. Used by [`super`] alone.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{
    send_file::{FileSender, is_hole},
    transport::Transport,
};

/// How many bytes it takes at most to tell HTTP/2 from HTTP/1.1 (RFC 9113 §3.4). Nothing of
/// hyper's limits these.
const PREFACE: usize = 24;

/// A connection that fails when writing makes no progress for a while, or when its first bytes
/// do not come.
///
/// Without it, a client that stops reading would hold its request, and with that the end of
/// the server, for ever; and one that says nothing its connection.
///
/// Where hyper writes what stands for bytes of a file, those are sent in its place.
pub(super) struct IdleLimit {
    stream: Transport,
    files: FileSender,
    limit: Duration,
    waiting: bool,
    /// How many of the bytes that tell the protocol are still to come; none once we answered.
    preface: usize,
    /// Runs from the beginning until those are there, and then while writing waits.
    timer: Pin<Box<Sleep>>,
}

impl IdleLimit {
    pub(super) fn new(stream: Transport, limit: Duration, files: FileSender) -> Self {
        Self {
            stream,
            files,
            limit,
            waiting: false,
            preface: PREFACE,
            timer: Box::pin(tokio::time::sleep(limit)),
        }
    }

    /// Sends what stands for bytes of a file.
    fn poll_send(&self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        match self.stream.plain() {
            Some(stream) => self.files.poll_send(context, stream, length),
            // Nobody hands such bytes to it.
            None => Poll::Ready(Err(io::Error::other("no file goes through TLS unread"))),
        }
    }

    /// Passes what writing came to on, unless it has waited for too long.
    fn limited<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.preface = 0;
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        match self.timer.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncRead for IdleLimit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.preface == 0 {
            return read;
        }
        self.preface = (self.preface).saturating_sub(buffer.filled().len() - before);
        match read {
            Poll::Pending if self.timer.as_mut().poll(context).is_ready() => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            read => read,
        }
    }
}

impl AsyncWrite for IdleLimit {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match is_hole(bytes) {
            true => self.poll_send(context, bytes.len()),
            false => Pin::new(&mut self.stream).poll_write(context, bytes),
        };
        self.limited(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let holes = buffers.iter().position(|buffer| is_hole(buffer));
        let written = match holes {
            Some(0) => self.poll_send(context, buffers[0].len()),
            end => {
                let plain = &buffers[..end.unwrap_or(buffers.len())];
                Pin::new(&mut self.stream).poll_write_vectored(context, plain)
            }
        };
        self.limited(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
