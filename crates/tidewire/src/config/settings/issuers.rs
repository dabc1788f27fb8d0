//! Where the keys of issuers may be fetched from.

use tidewire_transport::guard::{Guard, Network};
use tidewire_transport::https::{Fetcher, Roots};

use crate::config::document;
use crate::config::draft::Draft;

/// Who vouches for the servers of issuers, and where these may be.
#[derive(Clone, Debug)]
pub struct Issuers {
    pub roots: Roots,
    pub guard: Guard,
}

pub(super) fn check(auth: &document::Auth, draft: &mut Draft) -> Option<Issuers> {
    let mut networks = Vec::new();
    for (index, text) in auth.jwks_networks.iter().enumerate() {
        networks
            .push(draft.accept(&format!("auth.jwks_networks[{index}]"), text.parse::<Network>())?);
    }
    let guard = Guard::new(networks);
    let roots = match &auth.jwks_ca {
        None => Roots::System,
        Some(text) => Roots::Pem(text.clone().into_bytes()),
    };
    if matches!(roots, Roots::Pem(_)) {
        draft.accept("auth.jwks_ca", Fetcher::new(&roots, guard.clone()))?;
    }
    Some(Issuers { roots, guard })
}
