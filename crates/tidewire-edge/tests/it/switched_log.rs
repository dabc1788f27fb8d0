use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tidewire_broker::{Appended, Draft, Head, Log, LogError, MemoryLog, Read, Retention};
use tidewire_model::{HistoryPage, HistoryQuery, Since, TenantChannel};

/// A log that can be switched off.
pub(crate) struct SwitchedLog {
    log: MemoryLog,
    is_down: AtomicBool,
}

impl SwitchedLog {
    pub(crate) fn new() -> Self {
        let log = MemoryLog::new(Retention { size: 10_000, ..Retention::default() });
        Self { log, is_down: AtomicBool::new(false) }
    }

    pub(crate) fn switch(&self, on: bool) {
        self.is_down.store(!on, Ordering::SeqCst);
    }

    fn reached(&self) -> Result<&MemoryLog, LogError> {
        if self.is_down.load(Ordering::SeqCst) {
            let (address, reason) = ("memory".into(), "switched off".into());
            return Err(LogError::Unavailable { address, reason });
        }
        Ok(&self.log)
    }
}

#[async_trait]
impl Log for SwitchedLog {
    async fn append(
        &self,
        channel: &TenantChannel,
        drafts: &[Draft],
    ) -> Result<Vec<Appended>, LogError> {
        self.reached()?.append(channel, drafts).await
    }

    async fn read(
        &self,
        channel: &TenantChannel,
        since: Since,
        limit: usize,
    ) -> Result<Read, LogError> {
        self.reached()?.read(channel, since, limit).await
    }

    async fn page(
        &self,
        channel: &TenantChannel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, LogError> {
        self.reached()?.page(channel, query).await
    }

    async fn heads(&self, channels: &[TenantChannel]) -> Result<Vec<Head>, LogError> {
        self.reached()?.heads(channels).await
    }

    async fn health(&self) -> Result<(), LogError> {
        self.reached().map(drop)
    }
}
