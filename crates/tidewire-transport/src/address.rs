use std::io;

use hyper::Uri;
use hyper::http::uri::Authority;
use tokio::net::TcpStream;

/// Where to connect, and what to ask for there.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    authority: Authority,
    target: String,
}

impl Address {
    /// Checks a URL, which has to be of `scheme`.
    pub(crate) fn parse(url: &str, scheme: &'static str) -> Result<Self, InvalidUrl> {
        let uri: Uri = url.parse().map_err(|_| InvalidUrl::Malformed)?;
        if uri.scheme_str() != Some(scheme) {
            return Err(InvalidUrl::Scheme { expected: scheme });
        }
        let authority = uri.authority().ok_or(InvalidUrl::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::Malformed);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self { authority: authority.clone(), target: target.to_owned() })
    }

    pub(crate) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// The name or address, without brackets.
    pub(crate) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port_or(&self, usual: u16) -> u16 {
        self.authority.port_u16().unwrap_or(usual)
    }

    /// Path and query, as a request line has them.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    pub(crate) async fn dial(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host(), self.port_or(80))).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// A URL that cannot be connected to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    #[error("url is not of the form scheme://host:port/path")]
    Malformed,
    #[error("url has to begin with {expected}://{}", if *expected == "https" { "" } else { ", tls is not supported" })]
    Scheme { expected: &'static str },
}
