//! A client of HTTPS that reads small documents from where somebody else says they are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HOST, LOCATION};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::{Address, InvalidUrl};
use crate::guard::Guard;
use crate::http::drive;
use crate::names::Names;

/// Who vouches for servers.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Whom the system trusts.
    System,
    /// Nobody but these, in PEM.
    Pem(Vec<u8>),
}

/// Fetches over HTTPS, from addresses that a [`Guard`] admits. A cheap handle.
///
/// The address that was checked is the one that is connected to; a name that leads anywhere else as
/// well is not followed at all. Neither is a redirect, and no proxy of the environment is used.
#[derive(Clone)]
pub struct Fetcher {
    tls: TlsConnector,
    guard: Guard,
    names: Names,
    connect_timeout: Duration,
    timeout: Duration,
}

impl Fetcher {
    /// # Errors
    ///
    /// When nobody would vouch for any server.
    pub fn new(roots: &Roots, guard: Guard) -> Result<Self, NoRoots> {
        let mut store = RootCertStore::empty();
        match roots {
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
            }
            Roots::Pem(text) => {
                let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
                for certificate in all.map_err(|_| NoRoots)? {
                    store.add(certificate).map_err(|_| NoRoots)?;
                }
            }
        }
        if store.is_empty() {
            return Err(NoRoots);
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider knows both versions")
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        let (names, connect_timeout) = (Names::new(), CONNECT_TIMEOUT);
        Ok(Self { tls, guard, names, connect_timeout, timeout: TIMEOUT })
    }

    /// Gives up after other times than 3 s to connect and 5 s in all.
    #[must_use]
    pub fn with_timeouts(self, connect_timeout: Duration, timeout: Duration) -> Self {
        Self { connect_timeout, timeout, ..self }
    }

    /// The same with places of its own to look names up in: neither waits for look-ups of the other that hang.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { names: Names::new(), ..self.clone() }
    }

    /// Reads the document at `url`, of at most `most_bytes`.
    ///
    /// # Errors
    ///
    /// Whatever is not a 200 with a whole body that is not compressed. Dropping the future closes the
    /// connection.
    pub async fn get(&self, url: &str, most_bytes: usize) -> Result<Bytes, FetchError> {
        let address = Address::parse(url, "https")?;
        let fetched = timeout(self.timeout, self.exchange(&address, most_bytes)).await;
        fetched.unwrap_or(Err(FetchError::Timeout))
    }

    async fn exchange(&self, address: &Address, most_bytes: usize) -> Result<Bytes, FetchError> {
        let dialed = timeout(self.connect_timeout, self.dial(address)).await;
        let stream = dialed.unwrap_or(Err(FetchError::Timeout))?;
        let request = Request::get(address.target())
            .header(HOST, address.authority())
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .body(Empty::<Bytes>::new())
            .map_err(|_| InvalidUrl::Malformed)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            check(&answer)?;
            let body = Limited::new(answer.into_body(), most_bytes).collect().await;
            let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => FetchError::Broken(*error),
                Err(_) => FetchError::TooLarge { most_bytes },
            })?;
            Ok(body.to_bytes())
        };
        drive(connection, answer).await
    }

    async fn dial(&self, address: &Address) -> Result<TlsStream<TcpStream>, FetchError> {
        let host = address.host();
        let unreachable =
            |source| FetchError::Unreachable { address: address.authority().to_owned(), source };
        let found = self.names.look_up(host, address.port_or(443)).await.map_err(unreachable)?;
        let addresses = self.admitted(found.into_iter())?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| InvalidUrl::Malformed)?;
        let mut last = io::ErrorKind::NotFound.into();
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(unreachable)?;
                    return self.tls.connect(name, stream).await.map_err(FetchError::Tls);
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }

    /// All of them, or none: a name that leads to one that is not admitted is meant to.
    fn admitted(
        &self,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, FetchError> {
        let found: Vec<_> = found.take(MOST_ADDRESSES).collect();
        match found.iter().find(|address| !self.guard.admits(address.ip())) {
            Some(address) => Err(FetchError::NotPublic { address: *address }),
            None => Ok(found),
        }
    }
}

fn check<B>(answer: &Response<B>) -> Result<(), FetchError> {
    let status = answer.status();
    if status.is_redirection() {
        let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
        // What follows may be meant for nobody else.
        let location = location.chars().take(MOST_SHOWN).collect();
        return Err(FetchError::Redirect { location });
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status(status));
    }
    match answer.headers().get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(FetchError::Compressed),
        _ => Ok(()),
    }
}

/// There is nobody whom a server could be vouched for by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no certificate of an authority that can be read")]
pub struct NoRoots;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    #[error("{address} cannot be reached")]
    Unreachable { address: String, source: io::Error },
    #[error("{address} is not of the public internet, and is not allowed")]
    NotPublic { address: SocketAddr },
    #[error("no session of TLS")]
    Tls(#[source] io::Error),
    #[error("redirects are not followed: name {location:?} itself")]
    Redirect { location: String },
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is compressed, which was not asked for")]
    Compressed,
    #[error("the answer has more than {most_bytes} bytes")]
    TooLarge { most_bytes: usize },
    #[error("connection broke during the exchange")]
    Broken(#[from] hyper::Error),
    #[error("no answer in time")]
    Timeout,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that are looked at.
const MOST_ADDRESSES: usize = 16;
/// Characters of what a server says that are repeated to the operator.
const MOST_SHOWN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_to_one_address_that_is_not_public_leads_nowhere() {
        let roots = Roots::Pem(include_bytes!("../tests/tls/certificate.pem").to_vec());
        let fetcher = Fetcher::new(&roots, Guard::default()).expect("roots");
        let addresses = |texts: &[&str]| {
            let texts: Vec<SocketAddr> =
                texts.iter().map(|text| text.parse().expect("one")).collect();
            fetcher.admitted(texts.into_iter())
        };

        assert_eq!(addresses(&["8.8.8.8:443", "[2600::1]:443"]).expect("public").len(), 2);
        for mixed in [["8.8.8.8:443", "127.0.0.1:443"], ["[::1]:443", "8.8.8.8:443"]] {
            assert!(matches!(addresses(&mixed), Err(FetchError::NotPublic { .. })), "{mixed:?}");
        }
        let many: Vec<SocketAddr> = vec!["8.8.8.8:443".parse().expect("one"); 40];
        assert_eq!(fetcher.admitted(many.into_iter()).expect("public").len(), MOST_ADDRESSES);
    }

    #[tokio::test]
    async fn names_are_looked_up_apart_where_look_ups_that_hang_have_taken_all_places() {
        let roots = Roots::Pem(include_bytes!("../tests/tls/certificate.pem").to_vec());
        let fetcher = Fetcher::new(&roots, Guard::default()).expect("roots");
        let apart = fetcher.apart();
        let soon = Duration::from_millis(50);
        let given_up = fetcher.with_timeouts(soon, soon);
        let _hanging = given_up.names.take_all().await;

        let url = "https://localhost/keys";
        assert!(matches!(given_up.get(url, 1).await, Err(FetchError::Timeout)));

        // It has been looked up: what it leads to is not admitted.
        assert!(matches!(apart.get(url, 1).await, Err(FetchError::NotPublic { .. })));
    }

    #[test]
    fn without_anybody_to_vouch_there_is_no_fetcher() {
        for nobody in [
            &b""[..],
            b"nonsense",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(Fetcher::new(&Roots::Pem(nobody.to_vec()), Guard::default()).is_err());
        }
    }
}
