//! A small HTTP/1.1 client, for tools and tests: one request on one connection, without TLS.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::address::{Address, InvalidUrl};

/// The answer, whole.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// At most 16 MiB.
    pub body: Bytes,
}

/// Sends one request to an `http://` address and reads the answer, in 10 seconds at most.
///
/// Redirects are answers like any other. Dropping the future closes the connection.
pub async fn request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Response, RequestError> {
    let address = Address::parse(url, "http")?;
    let mut request = Request::builder().method(method).uri(address.target());
    request = request.header(HOST, address.authority());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).map_err(|_| RequestError::Header)?;
    timeout(TIMEOUT, exchange(&address, request)).await.map_err(|_| RequestError::Timeout)?
}

async fn exchange(
    address: &Address,
    request: Request<Full<Bytes>>,
) -> Result<Response, RequestError> {
    let stream = address.dial().await.map_err(|source| RequestError::Unreachable {
        address: address.authority().to_owned(),
        source,
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(body_error)?;
        Ok(Response { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    drive(connection, answer).await
}

fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> RequestError {
    error.downcast::<hyper::Error>().map_or(RequestError::BodyTooLarge, |error| (*error).into())
}

/// Waits for `wanted`, which depends on `connection` being run meanwhile.
pub(crate) async fn drive<T>(connection: impl Future, wanted: impl Future<Output = T>) -> T {
    let (mut connection, mut wanted) = (pin!(connection), pin!(wanted));
    let mut is_over = false;
    poll_fn(|cx| {
        is_over = is_over || connection.as_mut().poll(cx).is_ready();
        wanted.as_mut().poll(cx)
    })
    .await
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    #[error("a header has a name or value that cannot be sent")]
    Header,
    #[error("{address} cannot be reached")]
    Unreachable { address: String, source: io::Error },
    #[error("connection broke during the exchange")]
    Broken(#[from] hyper::Error),
    #[error("answer is larger than 16 MiB")]
    BodyTooLarge,
    #[error("no answer within 10 seconds")]
    Timeout,
}

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
