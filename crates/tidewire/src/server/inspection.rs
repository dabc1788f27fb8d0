//! Whether Redis can be relied on: its settings may make it throw away what was acknowledged.

use std::time::Duration;

use anyhow::bail;
use tidewire_store_redis::{Finding, RedisConnection, Severity};
use tokio::time::{sleep, timeout};

/// Looks at the settings of Redis until they are known and nothing in them is to be refused.
pub(crate) struct Inspection {
    redis: RedisConnection,
    known: Option<Vec<Finding>>,
    /// Whether what is known takes into account how many copies are asked for.
    counts_copies: bool,
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
        let counts_copies = redis.expects_copies();
        let known = timeout(PATIENCE, redis.check_settings()).await.ok().and_then(Result::ok);
        let inspection = Self { redis, known, counts_copies };
        let refused: Vec<_> = inspection.refused().map(|finding| finding.text.as_str()).collect();
        if !refused.is_empty() {
            bail!("redis cannot be relied on: {}", refused.join("; "));
        }
        inspection.report();
        Ok(inspection)
    }

    /// Looks on as long as there may be a reason to, and again when copies are asked for first: a
    /// tenant may bring durable channels at any time. What is found to be refused while the node
    /// serves makes it not ready.
    pub(crate) async fn finish(mut self) {
        while self.is_unsettled() || !self.counts_copies {
            sleep(LOOK_EVERY).await;
            let counts_copies = self.redis.expects_copies();
            if !self.is_unsettled() && !counts_copies {
                continue;
            }
            let Ok(findings) = self.redis.check_settings().await else { continue };
            self.counts_copies = counts_copies;
            if self.known.as_ref() != Some(&findings) {
                self.known = Some(findings);
                self.report();
            }
        }
    }

    fn is_unsettled(&self) -> bool {
        self.known.is_none() || self.refused().next().is_some()
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
