//! Fetching the keys of issuers.

use tidewire_edge::{Fetch, over_https};
use tidewire_transport::guard::Guard;
use tidewire_transport::https::{Fetcher, Roots};

/// Fetches over HTTPS; or says why it cannot whenever it is to, because most nodes never are.
pub(crate) fn fetch(roots: &Roots, guard: Guard) -> Fetch {
    match Fetcher::new(roots, guard) {
        Ok(fetcher) => over_https(fetcher),
        Err(error) => Box::new(move |_, _| Box::pin(std::future::ready(Err(error.to_string())))),
    }
}
