use tidewire_model::{Random, Tenant, Token};
use tidewire_protocol_native::client::Codec;

use crate::{Renew, Tickets};

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes or balancers, as `ws://host:port`; a client that loses one tries the next.
    pub urls: Vec<String>,
    /// Named in the path, so that a balancer can send all of a tenant to one place.
    pub tenant: Option<Tenant>,
    pub token: Token,
    /// Where further tokens come from, for a client that is there for longer than one holds.
    pub renew: Option<Renew>,
    /// Where tickets come from, for a client that connects with one instead of its token, each time with
    /// another.
    pub tickets: Option<Tickets>,
    pub codec: Codec,
    /// For nonces, names of publications and waits: the system, unless a run is to be repeated from
    /// a seed.
    pub random: Random,
    /// Whether it may hold two connections for a moment, so that a node that leaves does not
    /// interrupt it. Otherwise it closes the one before it opens the other.
    pub overlap: bool,
}

impl Options {
    /// JSON, to one address.
    pub fn new(url: impl Into<String>, token: impl Into<Token>) -> Self {
        Self {
            urls: vec![url.into()],
            tenant: None,
            token: token.into(),
            renew: None,
            tickets: None,
            codec: Codec::Json,
            random: Random::new(|| getrandom::u64().expect("the system has random numbers")),
            overlap: true,
        }
    }

    pub(crate) fn address(&self, attempt: usize) -> String {
        let url = self.urls[attempt % self.urls.len()].trim_end_matches('/');
        match &self.tenant {
            Some(tenant) => format!("{url}/v1/{tenant}/ws"),
            None => format!("{url}/v1/ws"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_show_no_token() {
        let shown = format!("{:?}", Options::new("ws://localhost", "hunter2"));

        assert!(shown.contains("Token(..)") && !shown.contains("hunter2"), "{shown}");
    }
}
