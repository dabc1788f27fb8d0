use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_model::{PageMark, TenantChannel};
use tidewire_store::{
    Applied, EntryPage, Expired, Life, MemoryPresence, Move, Orphaned, Presence, Standing,
    StoreError, Tally, Terms,
};

/// A store of presence in memory that can be switched off, and fail over to one that knows nothing.
#[derive(Default)]
pub struct SwitchedPresence {
    store: Mutex<Arc<MemoryPresence>>,
    is_down: AtomicBool,
    applied: AtomicUsize,
}

impl SwitchedPresence {
    pub fn switch(&self, on: bool) {
        self.is_down.store(!on, Ordering::SeqCst);
    }

    /// Goes on as another life, which has lost everything.
    pub fn fail_over(&self) {
        *self.store.lock() = Arc::default();
    }

    /// How often somebody has moved members.
    pub fn applied(&self) -> usize {
        self.applied.load(Ordering::SeqCst)
    }

    fn reach(&self) -> Result<Arc<MemoryPresence>, StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            let (address, reason) = ("memory".to_owned(), "switched off".to_owned());
            return Err(StoreError::Unavailable { address, reason });
        }
        Ok(Arc::clone(&self.store.lock()))
    }
}

#[async_trait]
impl Presence for SwitchedPresence {
    async fn apply(
        &self,
        channel: &TenantChannel,
        life: &Life,
        moves: &[Move],
        terms: Terms,
    ) -> Result<Applied, StoreError> {
        self.applied.fetch_add(1, Ordering::SeqCst);
        self.reach()?.apply(channel, life, moves, terms).await
    }

    async fn tally(
        &self,
        channel: &TenantChannel,
        life: &Life,
        subscribers: u64,
    ) -> Result<Tally, StoreError> {
        self.applied.fetch_add(1, Ordering::SeqCst);
        self.reach()?.tally(channel, life, subscribers).await
    }

    async fn page(
        &self,
        channel: &TenantChannel,
        from: Option<PageMark>,
        limit: u32,
    ) -> Result<EntryPage, StoreError> {
        self.reach()?.page(channel, from, limit).await
    }

    async fn occupancies(&self, channels: &[TenantChannel]) -> Result<Vec<Standing>, StoreError> {
        self.reach()?.occupancies(channels).await
    }

    async fn expire(&self, part: u16, limit: u32) -> Result<Expired, StoreError> {
        self.reach()?.expire(part, limit).await
    }

    async fn channels_of(&self, part: u16, life: &Life) -> Result<Vec<TenantChannel>, StoreError> {
        self.reach()?.channels_of(part, life).await
    }

    async fn orphan(
        &self,
        channel: &TenantChannel,
        life: &Life,
        from: u64,
        debounce: Duration,
    ) -> Result<Orphaned, StoreError> {
        self.reach()?.orphan(channel, life, from, debounce).await
    }

    async fn lives(&self, own: Option<&Life>) -> Result<Vec<Life>, StoreError> {
        self.reach()?.lives(own).await
    }

    async fn forget(&self, life: &Life) -> Result<(), StoreError> {
        self.reach()?.forget(life).await
    }

    fn parts(&self) -> u16 {
        1
    }

    fn part_of(&self, _channel: &TenantChannel) -> u16 {
        0
    }
}
