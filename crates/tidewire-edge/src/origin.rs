//! Where a page is from.

use axum::http::{HeaderMap, header};
use tidewire_model::Tenant;

use crate::edge::PathTenant;

/// The longest origin that is looked at, in bytes.
const MAX_BYTES: usize = 256;
/// What a browser says of a page that has no origin of its own: it is on no list.
const NOBODYS: &str = "null";

/// What an HTTP request says of who sends it, before anything is proved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entrance {
    /// The tenant its path names.
    pub(crate) tenant: PathTenant,
    /// Where the page is from, in lower case, if it is a page.
    pub(crate) origin: Option<Box<str>>,
}

impl Entrance {
    pub(crate) fn new(tenant: PathTenant, headers: &HeaderMap) -> Self {
        Self { tenant, origin: origin(headers) }
    }

    pub(crate) fn is_of(&self, tenant: &Tenant) -> bool {
        self.tenant.as_ref().is_none_or(|named| named == tenant)
    }
}

/// The origin of the page that sends a request, in lower case. What is none, or is said twice, is on no
/// list.
pub(crate) fn origin(headers: &HeaderMap) -> Option<Box<str>> {
    let mut said = headers.get_all(header::ORIGIN).iter();
    let first = said.next()?;
    let is_origin = said.next().is_none() && first.len() <= MAX_BYTES;
    let text = first.to_str().ok().filter(|_| is_origin).unwrap_or(NOBODYS);
    Some(text.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Box<str>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ORIGIN, value.parse().expect("a value"));
        }
        origin(&headers)
    }

    #[test]
    fn an_origin_is_compared_in_lower_case_and_what_is_odd_is_nobodys() {
        let long = format!("https://{}.example", "a".repeat(MAX_BYTES));

        assert_eq!(of(&[]), None);
        assert_eq!(of(&["HTTPS://App.example"]).as_deref(), Some("https://app.example"));
        for odd in [
            &["null"][..],
            &["https://a.example", "https://b.example"],
            &[&long],
            &["https://\u{e4}"],
        ] {
            assert_eq!(of(odd).as_deref(), Some(NOBODYS), "{odd:?}");
        }
    }
}
