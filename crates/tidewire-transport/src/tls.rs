//! TLS below a link, and what a server shows of itself.

mod certificates;
mod expiry;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::{ServerConfig, ServerConnection};

use crate::stream::{Rest, Taken};
pub use certificates::{Certificate, Certificates};

/// One session of TLS over a socket that does not block, after its handshake.
///
/// Holds nothing decrypted after a read that left `Rest::Nothing`, and at most 64 KiB encrypted
/// that the socket has not taken; takes nothing more to send until it has.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    rest: Rest,
    /// Encrypted bytes that the socket has not taken.
    unsent: usize,
}

impl TlsStream {
    pub(crate) fn new(socket: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(MOST_ENCRYPTED));
        // Whoever shook hands may have read further.
        Self { socket, session, rest: Rest::Perhaps, unsent: 0 }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(crate) fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads and decrypts until nothing is left or `buffer` is full, or for long enough that others
    /// are to have their turn: records may hold nothing.
    ///
    /// Not to say that it ends (RFC 8446 section 6.1) is no error here: a WebSocket has words of
    /// its own for that, and many clients just go.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> io::Result<Taken> {
        let mut taken = 0;
        self.rest = Rest::Perhaps;
        for _ in 0..REFILLS {
            match self.decrypted(&mut buffer[taken..])? {
                Some(bytes) => taken += bytes,
                None if taken == 0 => return Ok(Taken::End),
                None => return Ok(Taken::Bytes(taken, Rest::Perhaps)),
            }
            if taken == buffer.len() {
                break;
            }
            if taken > 0 && self.rest == Rest::Nothing {
                return Ok(Taken::Bytes(taken, self.rest));
            }
            match self.refill() {
                Ok(rest) => self.rest = rest,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.rest = Rest::Nothing;
                    return if taken > 0 { Ok(Taken::Bytes(taken, self.rest)) } else { Err(error) };
                }
                Err(error) => return Err(error),
            }
        }
        // What was decrypted last may still be there, whatever the socket has.
        self.rest = Rest::Perhaps;
        Ok(Taken::Bytes(taken, self.rest))
    }

    /// Takes what has been decrypted; nothing at the end.
    fn decrypted(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.session.reader().read(buffer) {
            Ok(bytes) => Ok((bytes > 0).then_some(bytes)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(Some(0)),
                io::ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Reads the socket once and decrypts what has come whole.
    fn refill(&mut self) -> io::Result<Rest> {
        let mut meter = Meter { socket: &mut self.socket, rest: Rest::Perhaps };
        self.session.read_tls(&mut meter)?;
        let rest = meter.rest;
        if let Err(error) = self.session.process_new_packets() {
            // The peer is told what it did wrong; the error stays the same if it cannot be.
            let _ = self.send();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(rest)
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.rest == Rest::Perhaps
    }

    pub(crate) fn wants_to_write(&self) -> bool {
        self.session.wants_write()
    }

    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.send()?;
        self.socket.shutdown(Shutdown::Write)
    }

    /// Gives the socket what has been encrypted.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) => {
                    // Says what is waiting; a session that has failed is told of elsewhere.
                    let state = self.session.process_new_packets();
                    self.unsent = state.map_or(0, |state| state.tls_bytes_to_write());
                    return Err(error);
                }
            }
        }
        self.unsent = 0;
        Ok(())
    }

    /// Sends what was sent before, then encrypts as much as there is room for and sends that; what
    /// the socket does not take of it waits here.
    fn encrypt(
        &mut self,
        write: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.send()?;
        let accepted = write(&mut self.session.writer())?;
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(accepted),
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encrypt(|writer| writer.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.encrypt(|writer| writer.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Drop for TlsStream {
    /// Says that it ends, if there is room for that: a peer cannot tell a connection that was cut
    /// off from one that nothing follows on otherwise.
    fn drop(&mut self) {
        self.session.send_close_notify();
        let _ = self.send();
    }
}

/// A socket, and whether reading it has emptied it.
struct Meter<'a> {
    socket: &'a mut TcpStream,
    rest: Rest,
}

impl Read for Meter<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.socket.read(buffer)?;
        self.rest = Rest::after(bytes, buffer.len());
        Ok(bytes)
    }
}

/// How a server shows itself with a certificate that stays: as [`replaceable`].
///
/// `certificate` is a chain in PEM, the server's own first, and `key` its private key in PEM.
///
/// # Errors
///
/// Which of the two is to blame, and why. Nothing of `key` is in it.
pub fn server_config(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    replaceable(Arc::new(Certificates::new(Certificate::from_pem(certificate, key)?)))
}

/// How a server shows itself with whichever certificate is in effect: TLS 1.3 and 1.2, HTTP/1.1 by
/// ALPN (RFC 7301), and session tickets of this process, which keeps nothing for them.
///
/// # Errors
///
/// When the system has no random bytes for the tickets' keys.
pub fn replaceable(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::of)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new().map_err(TlsError::of)?;
    Ok(Arc::new(config))
}

/// Why a server cannot show itself.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("certificate {0}")]
    Certificate(String),
    #[error("key is no private key in PEM")]
    NoKey,
    #[error("key cannot be used: {0}")]
    Key(String),
    #[error("key does not belong to the certificate")]
    Mismatch,
}

impl TlsError {
    fn of(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InconsistentKeys(_) => Self::Mismatch,
            rustls::Error::InvalidCertificate(why) => {
                Self::Certificate(format!("is not valid: {why}"))
            }
            other => Self::Key(other.to_string()),
        }
    }
}

/// Reads of the socket in one go, of 4 KiB each: a buffer's worth, and then some.
const REFILLS: usize = 18;

/// Encrypted bytes that may wait for the socket, headers of records aside: as much as is written at
/// once, so that a write is not cut into pieces for it.
const MOST_ENCRYPTED: usize = 64 * 1024;
