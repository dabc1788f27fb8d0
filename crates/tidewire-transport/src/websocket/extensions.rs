//! Agreeing on permessage-deflate (RFC 7692 section 7.1).

use hyper::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_EXTENSIONS};

use super::deflate::{Deflate, MAX_WINDOW_BITS, MIN_WINDOW_BITS};

/// Whether connections that ask for it may be compressed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    #[default]
    Off,
    On,
}

/// The first of a client's offers that can be met, and the answer to give.
pub(super) fn accept(headers: &HeaderMap) -> Option<(Deflate, HeaderValue)> {
    let offer = extensions(headers).find_map(Parameters::parse)?;
    let answer = match offer.server_window_bits {
        None => HeaderValue::from_static(OFFER),
        Some(bits) => HeaderValue::try_from(format!("{OFFER}; {SERVER_WINDOW}={bits}")).ok()?,
    };
    Some((Deflate::new(offer.server_window_bits.unwrap_or(MAX_WINDOW_BITS)), answer))
}

/// What a server made of [`OFFER`]: `None` for an answer that was not offered, or that this end
/// cannot keep to.
#[expect(clippy::option_option, reason = "a valid answer may be to agree on nothing")]
pub(crate) fn accepted(headers: &HeaderMap) -> Option<Option<Deflate>> {
    let mut answers = extensions(headers);
    let Some(answer) = answers.next() else { return Some(None) };
    let answer = Parameters::parse(answer).filter(|_| answers.next().is_none())?;
    let is_ours = answer.is_server_stateless && !answer.has_client_window_bits;
    is_ours.then_some(Some(Deflate::WIDEST))
}

/// The extensions of all lines of the header, each with its parameters.
///
/// No parameter of ours holds a comma or a semicolon, not even in quotes.
fn extensions(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    lines.flat_map(|line| line.to_str().unwrap_or("?").split(',')).map(str::trim)
}

/// The parameters of one permessage-deflate, which are well-formed.
#[derive(Debug, Default)]
struct Parameters {
    is_server_stateless: bool,
    is_client_stateless: bool,
    server_window_bits: Option<u8>,
    has_client_window_bits: bool,
}

impl Parameters {
    /// `None` for another extension, and for a parameter that is unknown, doubled or out of range.
    fn parse(extension: &str) -> Option<Self> {
        let mut parts = extension.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut parameters = Self::default();
        for part in parts {
            parameters.add(part)?;
        }
        Some(parameters)
    }

    fn add(&mut self, parameter: &str) -> Option<()> {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquote(value.trim()))),
            None => (parameter, None),
        };
        let is_new = match (name, value) {
            (SERVER_STATELESS, None) => !std::mem::replace(&mut self.is_server_stateless, true),
            (CLIENT_STATELESS, None) => !std::mem::replace(&mut self.is_client_stateless, true),
            (SERVER_WINDOW, Some(value)) => {
                self.server_window_bits.replace(window_bits(value)?).is_none()
            }
            (CLIENT_WINDOW, value) => {
                value.map_or(Some(MAX_WINDOW_BITS), window_bits)?;
                !std::mem::replace(&mut self.has_client_window_bits, true)
            }
            _ => false,
        };
        is_new.then_some(())
    }
}

/// RFC 6455 section 9.1: a value may stand in quotes.
fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// A decimal number without leading zeros (RFC 7692 section 7.1.2.1).
fn window_bits(value: &str) -> Option<u8> {
    let is_decimal = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    let bits = value.parse().ok().filter(|_| is_decimal)?;
    (MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(&bits).then_some(bits)
}

/// What our clients ask for, and what our server always grants.
pub(crate) const OFFER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

const NAME: &str = "permessage-deflate";
const SERVER_STATELESS: &str = "server_no_context_takeover";
const CLIENT_STATELESS: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const CLIENT_WINDOW: &str = "client_max_window_bits";
