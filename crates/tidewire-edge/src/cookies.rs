//! Tokens in cookies, which browsers send whoever has made them ask: they count for fetching a ticket, from
//! pages that the tenant lists and that say that they mean it, and never for connecting.

use axum::http::{HeaderMap, header};
use tidewire_model::{Tenant, Token};

use crate::origin::origin;
use crate::{CONTROL_HEADER, Edge};

/// The token that a page of the tenant's has in its cookie, if that counts. Whatever is missing for that, it
/// is as if there were no cookie.
pub(crate) fn token(edge: &Edge, tenant: &Tenant, headers: &HeaderMap) -> Option<Token> {
    let name = edge.0.tenants.cookie(tenant)?;
    // A page of another origin can set the header only after a preflight, and a form never.
    let page = origin(headers).filter(|_| headers.contains_key(CONTROL_HEADER))?;
    if !edge.0.tenants.lists_origin(tenant, &page) {
        return None;
    }
    only(headers, name.as_str()).map(Token::from)
}

/// What the cookie of this name holds, if there is just one: of two, the other may have been set by
/// somebody else, for a domain or a path that is theirs too.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = None;
    for line in headers.get_all(header::COOKIE) {
        for pair in line.to_str().ok()?.split(';') {
            let Some((one, value)) = pair.split_once('=') else { continue };
            if one.trim() == name && found.replace(value.trim()).is_some() {
                return None;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_that_is_there_once_is_found_and_of_two_neither() {
        for (lines, expected) in [
            (&["a=1; session=x.y.z; b=2"][..], Some("x.y.z")),
            (&["a=1", "session=x=="], Some("x==")),
            (&["session=x; session=x"], None),
            (&["session=x", "session=y"], None),
            (&["Session=x; sessions=y; a-session=z; session"], None),
            (&["session=x", "\u{e4}=1"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                let value = header::HeaderValue::from_bytes(line.as_bytes()).expect("a value");
                headers.append(header::COOKIE, value);
            }

            assert_eq!(only(&headers, "session"), expected, "{lines:?}");
        }
    }
}
