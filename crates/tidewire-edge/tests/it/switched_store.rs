use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tidewire_store::{
    Claim, ClaimRequest, MemorySessionStore, Saved, SessionStore, SessionWrite, StoreError,
};

/// A store that can be made to never answer.
#[derive(Default)]
pub(crate) struct SwitchedStore {
    store: MemorySessionStore,
    is_silent: AtomicBool,
    ignored: AtomicUsize,
}

impl SwitchedStore {
    pub(crate) fn silence(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// How many have asked and will get no answer.
    pub(crate) fn ignored(&self) -> usize {
        self.ignored.load(Ordering::SeqCst)
    }

    async fn reached(&self) -> &MemorySessionStore {
        if self.is_silent.load(Ordering::SeqCst) {
            self.ignored.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        &self.store
    }
}

#[async_trait]
impl SessionStore for SwitchedStore {
    async fn save(&self, write: SessionWrite<'_>, ttl: Duration) -> Result<Saved, StoreError> {
        self.reached().await.save(write, ttl).await
    }

    async fn claim(&self, request: &ClaimRequest, ttl: Duration) -> Result<Claim, StoreError> {
        self.reached().await.claim(request, ttl).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.reached().await.health().await
    }
}
