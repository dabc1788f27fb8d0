//! What has been revoked: kept in a store, followed by every node, in force on all of them.
//!
//! Start from [`RevocationList`]. Whoever connects, resumes or refreshes is judged by what is in
//! memory, and so is who is connected when something is added: no store is waited for, and what is
//! known holds when the store is away. A store that was emptied takes nothing back, and gets back what
//! a node knows.

mod asked;
mod follow;
mod known;
mod pace;
mod reach;

use std::sync::Arc;

use parking_lot::Mutex;
use tidewire_auth::{Revocation, Revocations, Target};
use tidewire_broker::News;
use tidewire_model::Tenant;
use tidewire_store::{Added, RevocationStore, StoreError, has_room_for_revocations};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::asked::Asked;
use self::known::Known;
use self::pace::Paces;
use self::reach::Reach;
use crate::edge::{Shared, unix_seconds};

pub(crate) struct RevocationList {
    store: Arc<dyn RevocationStore>,
    /// Where it takes effect.
    table: Revocations,
    known: Mutex<Known>,
    /// Something was written here, and the others are to be told again.
    written: Notify,
    reach: Mutex<Reach>,
    /// How fast tenants' own servers may revoke.
    pub(crate) paces: Paces,
}

/// How much longer than any token may live what voids it is kept, in seconds: for the clocks.
const LONGER: u64 = 60;

/// What single tokens and users leave free, for their tenant and in all: so that whoever has revoked as
/// many of them as can be kept can still revoke a key, and everything.
const FOR_KEYS_OF_TENANT: usize = 100;
const FOR_KEYS: usize = 10_000;

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    #[error(
        "as much is revoked as can be kept: revoke something wider instead, such as a user or `all`"
    )]
    Full,
    #[error("the store cannot be reached, and nothing is known to be revoked: repeat it")]
    Store(#[from] StoreError),
}

impl RevocationList {
    pub(crate) fn new(store: Arc<dyn RevocationStore>, table: Revocations) -> Self {
        Self {
            store,
            table,
            known: Mutex::default(),
            written: Notify::new(),
            reach: Mutex::default(),
            paces: Paces::default(),
        }
    }

    /// Makes everything void that was issued until `before` and is `target`'s.
    ///
    /// It is in force here when this returns, and elsewhere within a second; or, where news does not
    /// get through, within six. Cancelling leaves open whether it was kept; repeating does no harm.
    pub(crate) async fn revoke(
        &self,
        shared: &Shared,
        (tenant, target): (Tenant, Target),
        before: u64,
    ) -> Result<Revocation, RevokeError> {
        let lifetime = shared.verifier.max_lifetime().as_secs();
        let until = before.max(unix_seconds()).saturating_add(lifetime).saturating_add(LONGER);
        if matches!(target, Target::Token(_) | Target::User(_)) && !self.has_room(&tenant) {
            return Err(RevokeError::Full);
        }
        let revocation = Revocation { tenant, target, before, until };
        match self.store.add(&[known::stored(&revocation)]).await? {
            Added::Done => {}
            Added::Full => return Err(RevokeError::Full),
        }
        shared.node.announce_news(News::Revocations);
        self.written.notify_one();
        self.take(vec![known::stored(&revocation)]);
        shared.registry.ask_to_rejudge(Vec::new());
        shared.registry.rejudge().await;
        Ok(revocation)
    }

    /// Whether something may be revoked that is not known here, for too long.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.reach.lock().is_cut_off(Instant::now())
    }

    fn has_room(&self, tenant: &Tenant) -> bool {
        let (of_tenant, all) = self.known.lock().count(tenant);
        has_room_for_revocations(of_tenant + FOR_KEYS_OF_TENANT + 1, all + FOR_KEYS + 1)
    }

    /// What is revoked of a tenant, in the order of what it is about.
    pub(crate) fn of(&self, tenant: &Tenant) -> Vec<tidewire_store::Revocation> {
        self.known.lock().of(tenant)
    }

    /// Makes what the store has, or is known to have, hold here. Yields whether some of it is new.
    fn take(&self, revocations: Vec<tidewire_store::Revocation>) -> bool {
        let mut known = self.known.lock();
        let mut new = Vec::new();
        for revocation in revocations {
            if !known.take(&revocation) {
                continue;
            }
            let Some(read) = known::read(&revocation) else {
                let tenant = &revocation.tenant;
                tracing::error!(%tenant, "something unknown is revoked: it has no effect here");
                continue;
            };
            new.push(read);
        }
        drop(known);
        self.table.add(&new);
        !new.is_empty()
    }
}
