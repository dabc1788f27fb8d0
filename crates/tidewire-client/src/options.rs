use std::fmt;

use tidewire_model::Tenant;
use tidewire_protocol_native::client::Codec;

/// Where to connect, and as whom.
#[derive(Clone)]
pub struct Options {
    /// Nodes or balancers, as `ws://host:port`; a client that loses one tries the next.
    pub urls: Vec<String>,
    /// Named in the path, so that a balancer can send all of a tenant to one place.
    pub tenant: Option<Tenant>,
    pub token: String,
    pub codec: Codec,
}

impl Options {
    /// JSON, to one address.
    pub fn new(url: impl Into<String>, token: impl Into<String>) -> Self {
        Self { urls: vec![url.into()], tenant: None, token: token.into(), codec: Codec::Json }
    }

    pub(crate) fn address(&self, attempt: usize) -> String {
        let url = self.urls[attempt % self.urls.len()].trim_end_matches('/');
        match &self.tenant {
            Some(tenant) => format!("{url}/v1/{tenant}/ws"),
            None => format!("{url}/v1/ws"),
        }
    }
}

impl fmt::Debug for Options {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("urls", &self.urls)
            .field("tenant", &self.tenant)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
