use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ServerConnection;

use crate::tls::TlsStream;

/// The stream of a link, which does not block.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    Tcp(TcpStream),
    /// Apart, because a session of TLS holds many times what a link does.
    Tls(Box<TlsStream>),
}

/// What a read came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// So many bytes; with [`Rest::Perhaps`], that can be none.
    Bytes(usize, Rest),
    End,
}

/// What is left after a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rest {
    /// Nothing, unless the peer has closed: that is found by reading on.
    Nothing,
    Perhaps,
}

impl Stream {
    /// TLS over `stream`, whose handshake has made `session`. Takes it out of the hands of tokio's
    /// reactor.
    ///
    /// # Errors
    ///
    /// When the runtime of `stream` is gone.
    pub fn tls(stream: tokio::net::TcpStream, session: ServerConnection) -> io::Result<Self> {
        let socket = TcpStream::from_std(stream.into_std()?);
        Ok(Self::Tls(Box::new(TlsStream::new(socket, session))))
    }

    /// The address of the peer and other options are asked for here.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => stream.socket(),
        }
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => stream.socket_mut(),
        }
    }

    /// Reads what there is, as far as `buffer` takes it.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> io::Result<Taken> {
        match self {
            Self::Tcp(socket) => match socket.read(buffer)? {
                0 => Ok(Taken::End),
                bytes => Ok(Taken::Bytes(bytes, Rest::after(bytes, buffer.len()))),
            },
            Self::Tls(stream) => stream.take(buffer),
        }
    }

    /// Whether it may hold bytes of which the socket knows nothing.
    pub(crate) fn has_unread(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(stream) => stream.has_unread(),
        }
    }

    /// Whether it holds bytes that the socket has not taken.
    pub(crate) fn wants_to_write(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(stream) => stream.wants_to_write(),
        }
    }

    /// Bytes it holds because the socket has not taken them.
    pub(crate) fn unsent(&self) -> usize {
        match self {
            Self::Tcp(_) => 0,
            Self::Tls(stream) => stream.unsent(),
        }
    }

    /// Tells the peer that nothing follows. To be called again if that would block.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(stream) => stream.shutdown_write(),
        }
    }
}

impl Rest {
    /// A read that does not fill its buffer has emptied the socket (epoll(7)).
    pub(crate) fn after(bytes: usize, room: usize) -> Self {
        if bytes < room { Self::Nothing } else { Self::Perhaps }
    }
}

impl TryFrom<tokio::net::TcpStream> for Stream {
    type Error = io::Error;

    /// Takes a stream out of the hands of tokio's reactor.
    fn try_from(stream: tokio::net::TcpStream) -> io::Result<Self> {
        Ok(Self::Tcp(TcpStream::from_std(stream.into_std()?)))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write_vectored(slices),
            Self::Tls(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
