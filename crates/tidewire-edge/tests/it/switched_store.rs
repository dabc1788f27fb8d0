use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_store::{
    Claim, ClaimRequest, MemorySessionStore, Saved, SessionStore, SessionWrite, StoreError,
};
use tokio::sync::watch;

/// A store that can be made to never answer, or to answer later.
#[derive(Default)]
pub(crate) struct SwitchedStore {
    store: MemorySessionStore,
    is_silent: AtomicBool,
    ignored: AtomicUsize,
    /// Whether answers wait.
    is_held: watch::Sender<bool>,
    asked: Mutex<Vec<Asked>>,
}

/// What it was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    Save,
    Claim,
    Health,
}

impl SwitchedStore {
    pub(crate) fn silence(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// How many have asked and will get no answer.
    pub(crate) fn ignored(&self) -> usize {
        self.ignored.load(Ordering::SeqCst)
    }

    pub(crate) fn hold(&self, is_held: bool) {
        self.is_held.send_replace(is_held);
    }

    /// What it was asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    async fn reached(&self, asked: Asked) -> &MemorySessionStore {
        self.asked.lock().push(asked);
        let mut is_held = self.is_held.subscribe();
        is_held.wait_for(|is_held| !is_held).await.expect("the store is there");
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
        self.reached(Asked::Save).await.save(write, ttl).await
    }

    async fn claim(&self, request: &ClaimRequest, ttl: Duration) -> Result<Claim, StoreError> {
        self.reached(Asked::Claim).await.claim(request, ttl).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.reached(Asked::Health).await.health().await
    }
}
