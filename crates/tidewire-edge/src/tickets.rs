//! One-time tickets, for whoever should not have a token where its first frame is written.
//!
//! A token, or a server's key, is exchanged for one over HTTP; any node takes it within half a minute,
//! once, from a page of the same origin. What it stands for is kept sealed: who reads the store, or
//! writes it, makes no identity of that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidewire_auth::{Ticket, Vault};
use tidewire_model::{Bucket, Identity, Pace, Tenant};
use tidewire_store::{StoreError, TicketName, TicketStore};
use tokio::sync::Semaphore;

/// How long a ticket is of use.
pub(crate) const TICKET_LIFE: Duration = Duration::from_secs(30);
/// Requests for tickets that a node has under way.
const MOST_AT_ONCE: usize = 64;
/// Tickets that a tenant gets of a node: a node that starts anew has all its clients back in a minute.
const PACE: Pace = Pace { per_second: 200, burst: 2_000 };
/// Tenants whose pace is looked at one by one; those that have rested are forgotten before.
const MOST_TENANTS: usize = 10_000;

pub(crate) struct Tickets {
    store: Arc<dyn TicketStore>,
    vault: Vault,
    /// For requests under way.
    pub(crate) room: Semaphore,
    used: Mutex<HashMap<Tenant, Bucket>>,
}

/// What a ticket stands for.
#[derive(Deserialize, Serialize)]
pub(crate) struct TicketRecord {
    pub(crate) identity: Identity,
    /// Where the page is from that may use it.
    pub(crate) origin: Option<Box<str>>,
    /// Of the tenant, when it was given.
    pub(crate) incarnation: u64,
}

impl Tickets {
    pub(crate) fn new(store: Arc<dyn TicketStore>, vault: Vault) -> Self {
        Self { store, vault, room: Semaphore::new(MOST_AT_ONCE), used: Mutex::default() }
    }

    /// Charges a tenant for one, at `now`, counted from when the edge began.
    ///
    /// # Errors
    ///
    /// With the time to wait, if it has had too many.
    pub(crate) fn charge(&self, tenant: &Tenant, now: Duration) -> Result<(), Duration> {
        let mut used = self.used.lock();
        if used.len() >= MOST_TENANTS {
            used.retain(|_, bucket| !bucket.is_full(now));
        }
        used.entry(tenant.clone()).or_default().take(PACE, 1, now)
    }

    pub(crate) async fn issue(&self, record: &TicketRecord) -> Result<Ticket, StoreError> {
        let ticket = Ticket::draw();
        let digest = ticket.digest();
        let text = serde_json::to_vec(record).expect("an identity has no maps with odd keys");
        let sealed = self.vault.seal(&purpose(&digest), &text);
        self.store.put(&TicketName::from_digest(digest), &sealed, TICKET_LIFE).await?;
        Ok(ticket)
    }

    /// What a ticket stands for, of which nothing is left then. `None` if it is none, or was.
    pub(crate) async fn redeem(&self, text: &str) -> Result<Option<TicketRecord>, StoreError> {
        let Some(ticket) = Ticket::parse(text) else { return Ok(None) };
        let digest = ticket.digest();
        let Some(sealed) = self.store.take(&TicketName::from_digest(digest)).await? else {
            return Ok(None);
        };
        let opened = self.vault.open(&purpose(&digest), &sealed).ok();
        Ok(opened.and_then(|text| serde_json::from_slice(&text).ok()))
    }
}

/// What is sealed for one ticket opens as another's no more than as anything else.
fn purpose(digest: &[u8; 32]) -> Vec<u8> {
    [b"ticket:", &digest[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_has_had_too_many_waits_and_another_does_not() {
        let store = Arc::new(tidewire_store::MemoryTicketStore::default());
        let vault = Vault::new(&[tidewire_auth::SealKey::from_bytes([7; 32])]).expect("a vault");
        let tickets = Tickets::new(store, vault);
        let [acme, other] = ["acme", "other"].map(|name| Tenant::parse(name).expect("tenant"));
        let now = Duration::from_secs(100);
        for _ in 0..PACE.burst {
            tickets.charge(&acme, now).expect("within its burst");
        }

        let wait = tickets.charge(&acme, now).expect_err("beyond it");

        assert!(wait <= Duration::from_millis(5), "{wait:?}");
        tickets.charge(&other, now).expect("another's");
        tickets.charge(&acme, now + wait).expect("earned again");
    }
}
