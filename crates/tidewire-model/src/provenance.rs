use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// By what an identity was proved, as far as it is needed to revoke it: 24 bytes, because each
/// connection has one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Provenance {
    /// The key that vouched for it.
    pub key: Trace,
    /// The token it was read from, if that has an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Trace>,
    /// Seconds since the Unix epoch; 0 if the token does not say, and so before any time that is
    /// asked about.
    pub issued_at: u64,
}

/// What stands for the name of a key or a token where only equal ones are looked for.
///
/// Eight bytes of a digest of it: that two names have the same is as good as impossible, and would
/// only revoke one with the other.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Trace(NonZeroU64);

impl Trace {
    pub fn from_digest(digest: [u8; 8]) -> Self {
        Self(NonZeroU64::new(u64::from_be_bytes(digest)).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digest_is_a_trace_and_different_ones_differ() {
        let traces = [[0; 8], [0, 0, 0, 0, 0, 0, 0, 2], [255; 8]].map(Trace::from_digest);

        assert_ne!(traces[0], traces[1]);
        assert_ne!(traces[1], traces[2]);
    }

    #[test]
    fn each_connection_pays_24_bytes_for_it() {
        assert_eq!(size_of::<Option<Provenance>>(), 24);
    }
}
