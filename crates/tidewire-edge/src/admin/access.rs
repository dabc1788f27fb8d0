use std::fmt;
use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, header};
use tidewire_auth::SecretHash;

use crate::CONTROL_HEADER;

/// Who may use the admin listener.
pub(super) struct Access {
    tokens: Vec<SecretHash>,
}

/// Who was let in: which of the tokens it had, if there are any. For logs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bearer(Option<usize>);

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(index) => write!(f, "tokens[{index}]"),
            None => f.write_str("loopback"),
        }
    }
}

impl Access {
    pub(super) fn new(tokens: Vec<SecretHash>) -> Self {
        Self { tokens }
    }

    /// No page of a browser has anything to do here, whatever it can send.
    pub(super) fn judge(&self, headers: &HeaderMap) -> Result<Bearer, (StatusCode, &'static str)> {
        if headers.contains_key(header::ORIGIN) {
            return Err((StatusCode::FORBIDDEN, "pages of browsers have no access"));
        }
        if !self.tokens.is_empty() {
            let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let secret = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
            // All are compared, so that time does not tell which one it was.
            let matching: Vec<_> = self.tokens.iter().map(|token| token.matches(secret)).collect();
            let index = matching.iter().position(|matches| *matches);
            let message = "send `Authorization: Bearer` with one of `admin.tokens`";
            return index.map(|_| Bearer(index)).ok_or((StatusCode::UNAUTHORIZED, message));
        }
        if !headers.contains_key(CONTROL_HEADER) {
            return Err((
                StatusCode::FORBIDDEN,
                "this needs the header `tidewire-control`, with any value",
            ));
        }
        let hosts = headers.get_all(header::HOST).iter();
        let hosts: Vec<_> = hosts.map(|host| host.to_str().unwrap_or_default()).collect();
        if matches!(hosts[..], [host] if is_local(host)) {
            return Ok(Bearer(None));
        }
        Err((StatusCode::FORBIDDEN, "without `admin.tokens` the host is an address or localhost"))
    }
}

/// A name may be made to lead here by whoever owns it, and an address may not.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value")))
            .collect()
    }

    #[test]
    fn without_tokens_only_who_is_here_and_no_page_is_let_in() {
        let access = Access::new(Vec::new());
        for (host, is_in) in [
            ("127.0.0.1:8002", true),
            ("[::1]:8002", true),
            ("localhost:8002", true),
            ("localhost", true),
            ("evil.example:8002", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example:80", false),
        ] {
            let asked = headers(&[("host", host), (CONTROL_HEADER, "1")]);
            assert_eq!(access.judge(&asked).is_ok(), is_in, "{host}");
            assert!(access.judge(&headers(&[("host", host)])).is_err());
        }
        let page = [("host", "localhost"), (CONTROL_HEADER, "1"), ("origin", "http://localhost")];
        assert!(access.judge(&headers(&page)).is_err());
    }

    #[test]
    fn with_tokens_one_of_them_is_needed_and_enough() {
        let tokens = ["first", "second"].map(SecretHash::of).to_vec();
        let access = Access::new(tokens);
        let judged = |value| access.judge(&headers(&[("host", "any"), ("authorization", value)]));

        assert_eq!(
            judged("Bearer second").map(|bearer| bearer.to_string()),
            Ok("tokens[1]".into())
        );
        for wrong in ["Bearer third", "Bearer ", "first", "Basic first"] {
            assert_eq!(
                judged(wrong).map(drop).map_err(|refused| refused.0),
                Err(StatusCode::UNAUTHORIZED)
            );
        }
        assert!(access.judge(&headers(&[("host", "localhost"), (CONTROL_HEADER, "1")])).is_err());
    }
}
