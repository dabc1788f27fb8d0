//! Whether Redis can be relied on: its settings may make it throw away what was acknowledged.

use std::time::Duration;

use anyhow::bail;
use tidewire_store_redis::{Finding, RedisConnection, Severity};
use tokio::time::{sleep, timeout};

/// Looks at the settings of Redis until they are known and nothing in them is to be refused.
pub(crate) struct Inspection {
    redis: RedisConnection,
    known: Option<Vec<Finding>>,
}

/// How long a start waits for Redis to tell its settings.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Inspection {
    /// Looks once, before the node starts. A Redis that is away is no reason not to.
    ///
    /// # Errors
    ///
    /// When the settings are known and a node must not serve with them.
    pub(crate) async fn begin(redis: RedisConnection) -> anyhow::Result<Self> {
        let known = timeout(PATIENCE, redis.check_settings()).await.ok().and_then(Result::ok);
        let inspection = Self { redis, known };
        let refused: Vec<_> = inspection.refused().map(|finding| finding.text.as_str()).collect();
        if !refused.is_empty() {
            bail!("redis cannot be relied on: {}", refused.join("; "));
        }
        inspection.report();
        Ok(inspection)
    }

    /// Looks on as long as there is a reason to. What is found to be refused while the node serves
    /// makes it not ready.
    pub(crate) async fn finish(mut self) {
        while self.known.is_none() || self.refused().next().is_some() {
            sleep(LOOK_EVERY).await;
            let Ok(findings) = self.redis.check_settings().await else { continue };
            if self.known.as_ref() != Some(&findings) {
                self.known = Some(findings);
                self.report();
            }
        }
    }

    fn refused(&self) -> impl Iterator<Item = &Finding> {
        let all = self.known.iter().flatten();
        all.filter(|finding| finding.severity == Severity::Refuse)
    }

    fn report(&self) {
        for Finding { severity, text } in self.known.iter().flatten() {
            match severity {
                Severity::Refuse => tracing::error!("redis cannot be relied on: {text}"),
                Severity::Warn => tracing::warn!("redis: {text}"),
            }
        }
    }
}
