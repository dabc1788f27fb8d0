use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_broker::{Draft, Head, Log, LogError, Outcome, Read, Secured};
use tidewire_model::{Epoch, HistoryPage, HistoryQuery, Incarnation, Since, TenantChannel};
use tidewire_store_redis::RedisLog;

use crate::truth::Truth;

/// The log of a node, with somebody who notes what it is told.
pub(crate) struct WatchedLog {
    pub(crate) log: RedisLog,
    pub(crate) truth: Arc<Mutex<Truth>>,
}

#[async_trait]
impl Log for WatchedLog {
    async fn append_in(
        &self,
        channel: &TenantChannel,
        epoch: Option<Epoch>,
        drafts: &[Draft],
    ) -> Result<Outcome, LogError> {
        let outcome = self.log.append_in(channel, epoch, drafts).await?;
        if let Outcome::Kept { appended, .. } = &outcome {
            self.truth.lock().told(channel, drafts, appended);
        }
        Ok(outcome)
    }

    async fn read(
        &self,
        channel: &TenantChannel,
        since: Since,
        limit: usize,
    ) -> Result<Read, LogError> {
        let read = self.log.read(channel, since, limit).await?;
        self.truth.lock().read(channel, &read);
        Ok(read)
    }

    async fn page(
        &self,
        channel: &TenantChannel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, LogError> {
        self.log.page(channel, query).await
    }

    async fn heads(&self, channels: &[TenantChannel]) -> Result<Vec<Head>, LogError> {
        self.log.heads(channels).await
    }

    async fn incarnation(&self, channel: &TenantChannel) -> Result<Incarnation, LogError> {
        self.log.incarnation(channel).await
    }

    fn hear_of(&self, channel: &TenantChannel, incarnation: Incarnation) {
        self.log.hear_of(channel, incarnation);
    }

    fn part_of(&self, channel: &TenantChannel) -> u16 {
        self.log.part_of(channel)
    }

    async fn confirm(&self, channel: &TenantChannel, by: Incarnation) -> Result<Secured, LogError> {
        self.log.confirm(channel, by).await
    }

    async fn health(&self) -> Result<(), LogError> {
        self.log.health().await
    }
}
