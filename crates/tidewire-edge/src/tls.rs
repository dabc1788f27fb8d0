//! What a listener accepts: TCP, or TLS over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tidewire_transport::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::listener::HEADER_TIMEOUT;

/// A connection before it is upgraded.
pub(crate) enum Accepted {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Accepted {
    /// Shakes hands, if that is how clients are to be talked to.
    ///
    /// # Errors
    ///
    /// When the client speaks something else, leaves, or takes too long.
    pub(crate) async fn shake_hands(
        stream: TcpStream,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let Some(tls) = tls else { return Ok(Self::Plain(stream)) };
        let shaken = timeout(HEADER_TIMEOUT, TlsAcceptor::from(tls).accept(stream));
        Ok(Self::Tls(Box::new(shaken.await??)))
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut dyn Duplex> {
        let io: &mut dyn Duplex = match self.get_mut() {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.as_mut(),
        };
        Pin::new(io)
    }
}

/// What both ways to be connected can do.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

impl TryFrom<Accepted> for Stream {
    type Error = io::Error;

    fn try_from(accepted: Accepted) -> io::Result<Self> {
        match accepted {
            Accepted::Plain(stream) => stream.try_into(),
            Accepted::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                Self::tls(stream, session)
            }
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidewire_transport::tls::server_config;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../../tidewire-transport/tests/tls/certificate.pem");
    const KEY: &[u8] = include_bytes!("../../tidewire-transport/tests/tls/key.pem");

    #[tokio::test(start_paused = true)]
    async fn a_client_that_begins_no_handshake_is_let_go_after_ten_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let silent = TcpStream::connect(address).await.expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        let started = Instant::now();

        let tls = server_config(CERTIFICATE, KEY).expect("a certificate");
        let shaken = Accepted::shake_hands(stream, Some(tls)).await;

        assert_eq!(shaken.err().map(|error| error.kind()), Some(io::ErrorKind::TimedOut));
        assert_eq!(started.elapsed().as_secs(), 10);
        drop(silent);
    }
}
