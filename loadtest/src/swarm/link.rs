//! A socket that never waits, with TLS or without.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mio::net::TcpStream;
use rustix::io::Errno;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

pub(super) struct Link {
    pub(super) stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// What connecting without waiting is answered with.
const IN_PROGRESS: i32 = Errno::INPROGRESS.raw_os_error();

impl Link {
    /// Begins to connect `source` to `address`, with TLS if there is something to trust.
    pub(super) fn start(
        source: SocketAddr,
        address: SocketAddr,
        trust: Option<&Arc<ClientConfig>>,
    ) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&source.into())?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error.into()),
            _ => {}
        }
        let name = ServerName::from(address.ip());
        let tls = trust
            .map(|trust| ClientConnection::new(Arc::clone(trust), name).map(Box::new))
            .transpose()?;
        Ok(Self { stream: TcpStream::from_std(socket.into()), tls })
    }

    /// Whether a read that did not fill the buffer has emptied the socket.
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(buffer),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.write(bytes),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.flush(),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).flush(),
        }
    }
}

/// Trusts the certificates of a file, and nothing else.
pub(super) fn trust(file: &Path) -> Result<Arc<ClientConfig>> {
    let text = fs::read(file)
        .with_context(|| format!("cannot read certificates from {}", file.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.context("the file holds no certificate")?)?;
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}
