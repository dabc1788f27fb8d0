//! Whom a proxy speaks for.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address nearest to the node in `X-Forwarded-For` that is not a proxy's: whatever stands before
/// it the client itself may have written. Nothing if there is none, or if what would have to be it is
/// no address.
pub(super) fn address(headers: &HeaderMap, is_proxy: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let lines: Vec<_> = headers.get_all(HEADER).iter().collect();
    for line in lines.into_iter().rev() {
        for item in line.to_str().ok()?.rsplit(',') {
            let address = parse(item.trim())?;
            if !is_proxy(address) {
                return Some(address);
            }
        }
    }
    None
}

/// Some proxies write a port as well.
fn parse(item: &str) -> Option<IpAddr> {
    let socket = || item.parse::<SocketAddr>().map(|socket| socket.ip());
    item.parse::<IpAddr>().or_else(|_| socket()).ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER, line.parse().expect("a value"));
        }
        let is_proxy = |address: IpAddr| address.to_string().starts_with("10.");
        address(&headers, is_proxy).map(|address| address.to_string())
    }

    #[test]
    fn the_last_that_is_no_proxys_is_believed_and_what_the_client_wrote_before_it_is_not() {
        for (lines, expected) in [
            (&["8.8.8.8"][..], Some("8.8.8.8")),
            (&["1.1.1.1, 8.8.8.8"], Some("8.8.8.8")),
            (&["1.1.1.1, 8.8.8.8, 10.0.0.1"], Some("8.8.8.8")),
            (&["1.1.1.1", "8.8.8.8 ,10.0.0.1", "10.0.0.2"], Some("8.8.8.8")),
            (&["8.8.8.8:4711"], Some("8.8.8.8")),
            (&["[2001:4860::8888]:4711"], Some("2001:4860::8888")),
            (&["::ffff:8.8.8.8"], Some("8.8.8.8")),
            (&["8.8.8.8, unknown"], None),
            (&["8.8.8.8, "], None),
            (&["10.0.0.1, 10.0.0.2"], None),
            (&[], None),
        ] {
            assert_eq!(said(lines).as_deref(), expected, "{lines:?}");
        }
    }
}
