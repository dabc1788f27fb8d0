use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::StoreError;

/// Keeps what one-time tickets stand for, for a short while.
///
/// Every method may be called from any task.
#[async_trait]
pub trait TicketStore: Send + Sync {
    /// Keeps `record` for `ttl`. A name is used once.
    ///
    /// Cancelling it leaves open whether it is kept; so does an error.
    async fn put(&self, name: &TicketName, record: &[u8], ttl: Duration) -> Result<(), StoreError>;

    /// Gives a record out and forgets it: once, whoever asks and however many at once. `None` if there is
    /// none, was one, or if its time is over.
    ///
    /// Cancelling it, or an error, leaves open whether it is still there: then it may be lost, and is
    /// given to nobody.
    async fn take(&self, name: &TicketName) -> Result<Option<Vec<u8>>, StoreError>;
}

/// What a ticket is found by, from which the ticket does not follow: a digest of it. Its `Display` is in
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TicketName([u8; 32]);

impl TicketName {
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Display for TicketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
