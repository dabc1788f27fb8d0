mod expiring;
mod presence;
mod quotas;
mod revocations;
mod saved;
mod tenants;
mod tickets;

use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_model::{Generation, NodeId, SessionNonce};
use tidewire_session::Snapshot;

use self::expiring::Expiring;
pub use self::presence::MemoryPresence;
pub use self::quotas::MemoryQuotaStore;
pub use self::revocations::MemoryRevocationStore;
pub use self::saved::SavedSession;
pub use self::tenants::MemoryTenantStore;
pub use self::tickets::MemoryTicketStore;
use crate::{
    Claim, ClaimRequest, Membership, NodeLease, Saved, SessionKey, SessionStore, SessionWrite,
    StoreError,
};

/// Keeps sessions in memory. What has run out is gone, and its memory comes back within a minute of
/// the next create. Time is tokio's, which a test can pause.
#[derive(Default)]
pub struct MemorySessionStore {
    sessions: Mutex<Expiring<SessionKey, Record>>,
}

struct Record {
    generation: Generation,
    owner: NodeId,
    snapshot: Snapshot,
    /// The claim that led to `generation`, until a write under it shows that its reply arrived.
    unconfirmed: Option<UnconfirmedClaim>,
}

struct UnconfirmedClaim {
    nonce: SessionNonce,
    previous: NodeId,
}

impl Record {
    fn claim(&mut self, request: &ClaimRequest) -> Claim {
        let previous = match self.unconfirmed.take() {
            _ if self.generation == request.generation => self.owner.clone(),
            Some(claim) if self.is_repeated(&claim, request) => claim.previous,
            other => {
                self.unconfirmed = other;
                return Claim::Fenced;
            }
        };
        self.generation = request.generation.next();
        self.owner = request.owner.clone();
        self.unconfirmed =
            Some(UnconfirmedClaim { nonce: request.nonce, previous: previous.clone() });
        Claim::Granted { generation: self.generation, snapshot: self.snapshot.clone(), previous }
    }

    /// Whether somebody else has it by now.
    fn fences(&self, write: &SessionWrite<'_>) -> bool {
        self.generation > write.generation
            || (self.generation == write.generation && self.owner != *write.owner)
    }

    fn is_repeated(&self, claim: &UnconfirmedClaim, request: &ClaimRequest) -> bool {
        claim.nonce == request.nonce && self.generation == request.generation.next()
    }
}

#[async_trait]
impl SessionStore for MemorySessionStore {
    async fn save(&self, write: SessionWrite<'_>, ttl: Duration) -> Result<Saved, StoreError> {
        let mut sessions = self.sessions.lock();
        if sessions.find(write.key).is_some_and(|kept| kept.value.fences(&write)) {
            return Ok(Saved::Fenced);
        }
        let record = Record {
            generation: write.generation,
            owner: write.owner.clone(),
            snapshot: write.snapshot.clone(),
            unconfirmed: None,
        };
        sessions.insert(write.key.clone(), record, ttl);
        Ok(Saved::Done)
    }

    async fn claim(&self, request: &ClaimRequest, ttl: Duration) -> Result<Claim, StoreError> {
        let mut sessions = self.sessions.lock();
        let Some(kept) = sessions.find(&request.key) else {
            return Ok(Claim::Missing);
        };
        let claim = kept.value.claim(request);
        if claim != Claim::Fenced {
            kept.keep_for(ttl);
        }
        Ok(claim)
    }

    async fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Keeps the leases of live nodes in memory. Time is tokio's, which a test can pause.
#[derive(Default)]
pub struct MemoryMembership {
    leases: Mutex<Expiring<NodeId, NodeLease>>,
}

#[async_trait]
impl Membership for MemoryMembership {
    async fn renew(&self, lease: &NodeLease, ttl: Duration) -> Result<(), StoreError> {
        self.leases.lock().insert(lease.node.clone(), lease.clone(), ttl);
        Ok(())
    }

    async fn members(&self) -> Result<Vec<NodeLease>, StoreError> {
        let mut members: Vec<_> =
            self.leases.lock().live().map(|(_, lease, _)| lease.clone()).collect();
        members.sort_by(|left, right| left.node.cmp(&right.node));
        Ok(members)
    }

    async fn withdraw(&self, node: &NodeId) -> Result<(), StoreError> {
        self.leases.lock().remove(node);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidewire_model::{Identity, Permissions, SessionId, Tenant, UserId};
    use tidewire_session::SavedPresence;

    use super::*;
    use crate::conformance::{
        MembershipFactory, PresenceFactory, QuotaStoreFactory, RevocationStoreFactory,
        SessionStoreFactory, TenantStoreFactory, TicketStoreFactory,
    };

    struct InMemory;

    #[async_trait]
    impl SessionStoreFactory for InMemory {
        type Store = MemorySessionStore;

        async fn open(&self) -> MemorySessionStore {
            MemorySessionStore::default()
        }
    }

    #[async_trait]
    impl MembershipFactory for InMemory {
        type Membership = MemoryMembership;

        async fn open(&self) -> MemoryMembership {
            MemoryMembership::default()
        }
    }

    #[async_trait]
    impl TenantStoreFactory for InMemory {
        type Store = MemoryTenantStore;

        async fn open(&self) -> MemoryTenantStore {
            MemoryTenantStore::default()
        }
    }

    #[async_trait]
    impl QuotaStoreFactory for InMemory {
        type Store = MemoryQuotaStore;

        async fn open(&self) -> MemoryQuotaStore {
            MemoryQuotaStore::default()
        }
    }

    crate::quota_store_conformance!(InMemory);
    crate::session_store_conformance!(InMemory);
    crate::tenant_store_conformance!(InMemory);

    /// A store that another one takes over from before each call.
    mod restored {
        use super::*;

        #[derive(Default)]
        struct Restored(Mutex<MemorySessionStore>);

        impl Restored {
            fn next(&self) -> MemorySessionStore {
                MemorySessionStore::restored(self.0.lock().saved(), Duration::ZERO)
            }
        }

        #[async_trait]
        impl SessionStore for Restored {
            async fn save(
                &self,
                write: SessionWrite<'_>,
                ttl: Duration,
            ) -> Result<Saved, StoreError> {
                let next = self.next();
                let saved = next.save(write, ttl).await;
                *self.0.lock() = next;
                saved
            }

            async fn claim(
                &self,
                request: &ClaimRequest,
                ttl: Duration,
            ) -> Result<Claim, StoreError> {
                let next = self.next();
                let claim = next.claim(request, ttl).await;
                *self.0.lock() = next;
                claim
            }

            async fn health(&self) -> Result<(), StoreError> {
                Ok(())
            }
        }

        struct Succession;

        #[async_trait]
        impl SessionStoreFactory for Succession {
            type Store = Restored;

            async fn open(&self) -> Restored {
                Restored::default()
            }
        }

        crate::session_store_conformance!(Succession);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_away_counts_for_sessions() {
        let store = MemorySessionStore::default();
        let (key, owner) = (key(), NodeId::parse("a").expect("valid"));
        let snapshot = snapshot();
        let write = SessionWrite {
            key: &key,
            generation: Generation(1),
            owner: &owner,
            snapshot: &snapshot,
        };
        store.save(write, Duration::from_mins(1)).await.expect("saved");
        tokio::time::advance(Duration::from_secs(20)).await;
        let saved = store.saved();

        let soon = MemorySessionStore::restored(saved.clone(), Duration::from_secs(39)).saved();
        let late = MemorySessionStore::restored(saved, Duration::from_secs(40)).saved();

        assert_eq!(soon.len(), 1);
        assert_eq!((soon[0].left, &soon[0].snapshot), (Duration::from_secs(1), &snapshot));
        assert!(late.is_empty());
    }

    fn key() -> SessionKey {
        let tenant = Tenant::parse("acme").expect("valid");
        SessionKey { tenant, session: SessionId::from_bytes([7; 16]) }
    }

    fn snapshot() -> Snapshot {
        let identity = Identity {
            tenant: key().tenant,
            user: UserId::parse("ann").expect("valid"),
            permissions: Permissions::all(),
            expires_at: None,
            provenance: None,
        };
        Snapshot {
            identity,
            subscriptions: Vec::new(),
            presence: SavedPresence::default(),
            grants: Vec::new(),
        }
    }
    #[async_trait]
    impl RevocationStoreFactory for InMemory {
        type Store = MemoryRevocationStore;

        async fn open(&self) -> MemoryRevocationStore {
            MemoryRevocationStore::default()
        }
    }

    #[async_trait]
    impl PresenceFactory for InMemory {
        type Presence = MemoryPresence;

        async fn open(&self) -> MemoryPresence {
            MemoryPresence::default()
        }
    }

    #[async_trait]
    impl TicketStoreFactory for InMemory {
        type Store = MemoryTicketStore;

        async fn open(&self) -> [Arc<MemoryTicketStore>; 2] {
            let store = Arc::default();
            [Arc::clone(&store), store]
        }
    }

    crate::presence_conformance!(InMemory);
    crate::ticket_store_conformance!(InMemory);
    crate::revocation_store_conformance!(InMemory);
    crate::membership_conformance!(InMemory);
}
