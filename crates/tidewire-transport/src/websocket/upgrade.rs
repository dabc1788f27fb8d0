//! From an HTTP request to a stream (RFC 6455 section 4.2).

use std::str;

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request};
use hyper::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use hyper::header::{SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::extensions::{self, Compression};
use super::{Deflate, Limits, Role, WebSocket};

/// An upgrade that will happen once `response` has been sent.
#[derive(Debug)]
pub struct Upgrade {
    /// Status 101 and its headers; its body stays empty.
    pub response: Response<()>,
    /// The one of the offered subprotocols that the connection speaks.
    pub subprotocol: &'static str,
    /// How the connection is compressed, if it is.
    pub deflate: Option<Deflate>,
    pub upgrading: Upgrading,
}

/// Checks that `request` asks for a WebSocket, and agrees on a subprotocol.
///
/// The client's first request that is `offered` wins. A client that requests none gets the first
/// offered, unnamed in the response as RFC 6455 section 4.2.2 demands.
///
/// With [`Compression::On`], the client's first offer of permessage-deflate that can be met is (RFC
/// 7692 section 5); neither end keeps anything from one message to the next then.
///
/// `request` has to come from a hyper connection that is served with upgrades.
///
/// # Errors
///
/// Whatever is wrong with the request, with a response to give.
pub fn upgrade<B>(
    request: &mut Request<B>,
    offered: &[&'static str],
    compression: Compression,
) -> Result<Upgrade, UpgradeError> {
    check(request)?;
    let requested = Requested::of(request.headers());
    let is_requested = !requested.is_empty();
    let subprotocol = requested.choose(offered).ok_or(UpgradeError::Subprotocol)?;
    let agreed = match compression {
        Compression::On => extensions::accept(request.headers()),
        Compression::Off => None,
    };
    let (response, upgraded) =
        fastwebsockets::upgrade::upgrade(request).map_err(|_| UpgradeError::Key)?;

    let mut response = response.map(|_| ());
    if is_requested {
        let chosen = HeaderValue::from_static(subprotocol);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    let deflate = agreed.map(|(deflate, answer)| {
        response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, answer);
        deflate
    });
    let upgrading = Upgrading { upgraded, deflate };
    Ok(Upgrade { response, subprotocol, deflate, upgrading })
}

fn check<B>(request: &Request<B>) -> Result<(), UpgradeError> {
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(UpgradeError::Request);
    }
    if !is_upgrade_request(request) {
        return Err(UpgradeError::NotAsked);
    }
    // Who is between may have looked at another of several (RFC 6455 section 11.3).
    let header = |name| {
        let mut lines = request.headers().get_all(name).iter();
        lines.next().filter(|_| lines.next().is_none()).map(HeaderValue::as_bytes)
    };
    if header(SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(UpgradeError::Version);
    }
    if !header(SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        return Err(UpgradeError::Key);
    }
    Ok(())
}

/// Sixteen bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_base64)
}

/// The subprotocols a client asked for, the one it likes best first.
struct Requested<'a>(Vec<&'a str>);

impl<'a> Requested<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let names = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
        Self(names.map(str::trim).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn choose(&self, offered: &[&'static str]) -> Option<&'static str> {
        if self.is_empty() {
            return offered.first().copied();
        }
        self.0.iter().find_map(|name| offered.iter().find(|offer| *offer == name).copied())
    }
}

/// The stream to come.
#[derive(Debug)]
pub struct Upgrading {
    upgraded: UpgradeFut,
    deflate: Option<Deflate>,
}

impl Upgrading {
    /// Waits until the response has been sent, and takes the stream out of its HTTP connection.
    ///
    /// `S` is the stream the HTTP connection was served over, inside a [`TokioIo`].
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Lost`] when the connection broke, was not served with upgrades, or is over
    /// another type of stream than `S`.
    pub async fn websocket<S>(self, limits: Limits) -> Result<WebSocket<S>, UpgradeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let deflate = self.deflate;
        let (stream, unread) = self.parts().await?;
        Ok(WebSocket::new(stream, unread, Role::Server, limits).deflated(deflate))
    }

    /// The same, as the stream itself and what the client has already sent on it.
    pub async fn parts<S>(self) -> Result<(S, Bytes), UpgradeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let upgraded =
            self.upgraded.await.map_err(|_| UpgradeError::Lost)?.into_inner().into_inner();
        let parts = upgraded.downcast::<TokioIo<S>>().map_err(|_| UpgradeError::Lost)?;
        Ok((parts.io.into_inner(), parts.read_buf))
    }
}

/// Why a request did not become a WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    #[error("a websocket begins with a GET request over HTTP/1.1")]
    Request,
    #[error("this address speaks websocket: connection and upgrade headers are missing")]
    NotAsked,
    #[error("only websocket version 13 is spoken")]
    Version,
    #[error("sec-websocket-key is not a key")]
    Key,
    #[error("none of the requested subprotocols is offered")]
    Subprotocol,
    #[error("connection was lost during the upgrade")]
    Lost,
}

impl UpgradeError {
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotAsked | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Request | Self::Key | Self::Subprotocol | Self::Lost => StatusCode::BAD_REQUEST,
        }
    }

    /// What to answer: the status, the headers that go with it, and a text for humans.
    pub fn response(self) -> Response<String> {
        let mut response = Response::new(self.to_string());
        *response.status_mut() = self.status();
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}
