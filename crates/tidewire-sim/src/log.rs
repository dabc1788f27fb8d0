use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_broker::{Draft, Head, Log, LogError, MemoryLog, Outcome, Read, Retention, Sources};
use tidewire_model::{Epoch, HistoryPage, HistoryQuery, Incarnation, Since, TenantChannel};
use tokio::time::Instant;

use crate::dice::Dice;
use crate::truth::Truth;

/// The one log of all nodes, which can fail, and which notes what it truly did.
pub(crate) struct FaultyLog {
    log: MemoryLog,
    truth: Arc<Mutex<Truth>>,
    is_down: AtomicBool,
    replies_to_lose: AtomicUsize,
}

impl FaultyLog {
    pub(crate) fn new(retention: Retention, truth: Arc<Mutex<Truth>>) -> Self {
        let (started, drawn) = (Instant::now(), AtomicU64::new(0));
        let sources = Sources {
            unix_ms: Box::new(move || {
                let elapsed = u64::try_from(started.elapsed().as_millis()).expect("not so long");
                1_790_000_000_000 + elapsed
            }),
            random: Box::new(move || {
                u32::try_from(drawn.fetch_add(1, Ordering::Relaxed)).expect("not so many")
            }),
        };
        Self {
            log: MemoryLog::with_sources(retention, sources),
            truth,
            is_down: AtomicBool::new(false),
            replies_to_lose: AtomicUsize::new(0),
        }
    }

    pub(crate) fn restart(&self, lost: u64) {
        self.log.restart(lost);
        self.truth.lock().restarted(usize::try_from(lost).expect("small"));
    }

    pub(crate) fn switch(&self, on: bool) {
        self.is_down.store(!on, Ordering::Relaxed);
    }

    /// The next `count` batches are stored, but whoever appended them does not hear of it.
    pub(crate) fn lose_replies(&self, count: usize) {
        self.replies_to_lose.store(count, Ordering::Relaxed);
    }

    pub(crate) fn memory(&self) -> &MemoryLog {
        &self.log
    }

    fn reached(&self) -> Result<&MemoryLog, LogError> {
        if self.is_down.load(Ordering::Relaxed) {
            let (address, reason) = ("memory".into(), "switched off".into());
            return Err(LogError::Unavailable { address, reason });
        }
        Ok(&self.log)
    }

    fn is_reply_lost(&self) -> bool {
        let one_fewer = |count: usize| count.checked_sub(1);
        let counter = &self.replies_to_lose;
        counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_fewer).is_ok()
    }
}

/// One node's way to the log: it takes time to get there, and time to come back.
pub(crate) struct RemoteLog {
    pub(crate) log: Arc<FaultyLog>,
    pub(crate) dice: Mutex<Dice>,
    /// The longest way in one direction, in milliseconds.
    pub(crate) distance: u64,
}

impl RemoteLog {
    async fn travel(&self) {
        let way = self.draw_way();
        if !way.is_zero() {
            tokio::time::sleep(way).await;
        }
    }

    fn draw_way(&self) -> Duration {
        let mut dice = self.dice.lock();
        // Now and then somebody is held up on the way, so that answers overtake one another.
        let most = if dice.chance(3) { self.distance * 10 } else { self.distance };
        dice.millis(0, most)
    }
}

#[async_trait]
impl Log for RemoteLog {
    async fn append_in(
        &self,
        channel: &TenantChannel,
        epoch: Option<Epoch>,
        drafts: &[Draft],
    ) -> Result<Outcome, LogError> {
        self.travel().await;
        let outcome = self.log.reached()?.append_in(channel, epoch, drafts).await?;
        if let Outcome::Kept(appended) = &outcome {
            self.log.truth.lock().appended(channel, drafts, appended);
        }
        let is_reply_lost = self.log.is_reply_lost();
        self.travel().await;
        if is_reply_lost {
            return Err(LogError::Timeout { address: "memory".into() });
        }
        Ok(outcome)
    }

    async fn read(
        &self,
        channel: &TenantChannel,
        since: Since,
        limit: usize,
    ) -> Result<Read, LogError> {
        self.travel().await;
        let read = self.log.reached()?.read(channel, since, limit).await?;
        self.log.truth.lock().read(channel, &read);
        self.travel().await;
        Ok(read)
    }

    async fn page(
        &self,
        channel: &TenantChannel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, LogError> {
        self.log.reached()?.page(channel, query).await
    }

    async fn heads(&self, channels: &[TenantChannel]) -> Result<Vec<Head>, LogError> {
        self.travel().await;
        let heads = self.log.reached()?.heads(channels).await?;
        self.travel().await;
        Ok(heads)
    }

    async fn incarnation(&self, channel: &TenantChannel) -> Result<Incarnation, LogError> {
        self.travel().await;
        let incarnation = self.log.reached()?.incarnation(channel).await?;
        self.travel().await;
        Ok(incarnation)
    }

    async fn health(&self) -> Result<(), LogError> {
        self.log.reached().map(drop)
    }
}
