//! A connection in the clear or within TLS, told apart by its first byte. Opened by [`super`], read
//! and written through [`super::idle`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The type of a record in which a handshake begins (RFC 8446 §5.1), and no HTTP request.
const HANDSHAKE: u8 = 0x16;
/// For whoever speaks HTTP where that would be overheard.
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 74\r\n\
    Connection: close\r\n\
    \r\n\
    This registry speaks HTTPS; plain HTTP is for clients on its own machine.\n";

/// A connection.
pub(super) enum Transport {
    /// Whoever stands between hears all of it.
    Plain(TcpStream),
    /// Only who is at its ends does.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Waits for the first byte of a connection, and shakes hands where that is what it begins.
    /// Nothing where the peer leaves first, or speaks plain HTTP without `may_be_plain`, which it
    /// is told then. Takes as long as the peer does.
    pub(super) async fn open(
        mut stream: TcpStream,
        tls: Option<&TlsAcceptor>,
        may_be_plain: bool,
    ) -> io::Result<Option<Self>> {
        let Some(tls) = tls else {
            return Ok(Some(Self::Plain(stream)));
        };
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        if first[0] == HANDSHAKE {
            let stream = tls.accept(stream).await?;
            return Ok(Some(Self::Tls(Box::new(stream))));
        }
        if may_be_plain {
            return Ok(Some(Self::Plain(stream)));
        }
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await?;
        Ok(None)
    }

    /// Returns the socket where its bytes are the connection's own.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(_) => None,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
