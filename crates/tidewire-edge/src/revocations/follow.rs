use std::future;
use std::pin::pin;

use metrics::{counter, gauge};
use tidewire_broker::News;
use tidewire_store::{Added, MOST_ADDED, StoreError};
use tokio::time::{Duration, Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::RevocationList;
use crate::Edge;
use crate::edge::{Shared, unix_seconds};
use crate::news::NewsDesk;

/// How often the store is read when nobody has said that there is something new, from one beginning
/// to the next: with what a call may take at most, in force within six seconds.
const POLL: Duration = Duration::from_secs(4);
/// The others are told a second time, because the first may be lost.
const TOLD_AGAIN: Duration = Duration::from_secs(1);

impl Edge {
    /// Reads again and again until `stop` what has been revoked, and makes it hold: when another node
    /// says that there is something new, and every four seconds.
    pub async fn follow_revocations(&self, stop: CancellationToken) {
        let list = &self.0.revocations;
        let mut tell_again_at = None;
        loop {
            let next = Instant::now() + POLL;
            let told = |at| list.reach.lock().told(at);
            let is_told = listening(&self.0.news, told, list.read(&self.0)).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = future::ready(()), if is_told => {}
                () = self.news(News::Revocations) => list.reach.lock().told(Instant::now()),
                () = list.written.notified() => tell_again_at = Some(Instant::now() + TOLD_AGAIN),
                () = sleep_until(tell_again_at.unwrap_or(next)), if tell_again_at.is_some() => {
                    tell_again_at = None;
                    self.0.node.announce_news(News::Revocations);
                }
                () = sleep_until(next) => {}
            }
        }
    }
}

/// Awaits `reading`, and says whether there was news meanwhile, which it may have missed. When that came
/// counts, however long the reading takes.
async fn listening(
    desk: &NewsDesk,
    mut told: impl FnMut(Instant),
    reading: impl Future<Output = ()>,
) -> bool {
    let mut is_told = false;
    let mut reading = pin!(reading);
    loop {
        tokio::select! {
            () = &mut reading => return is_told,
            () = desk.told(News::Revocations) => {
                told(Instant::now());
                is_told = true;
            }
        }
    }
}

impl RevocationList {
    async fn read(&self, shared: &Shared) {
        let began = Instant::now();
        let outcome = self.read_to_end(shared).await;
        match &outcome {
            Ok(()) => self.reach.lock().read(began),
            Err(error) => {
                tracing::warn!(%error, "cannot read what has been revoked");
                self.reach.lock().missed(shared.node.is_deaf(), Instant::now());
            }
        }
        gauge!("tidewire_cut_off").set(f64::from(u8::from(self.is_cut_off())));
        let result = if outcome.is_ok() { "ok" } else { "failed" };
        counter!("tidewire_revocation_reads_total", "result" => result).increment(1);
        let now = unix_seconds();
        self.known.lock().forget(now);
        self.table.forget(now);
        #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
        gauge!("tidewire_revocations").set(self.table.len() as f64);
    }

    async fn read_to_end(&self, shared: &Shared) -> Result<(), StoreError> {
        loop {
            let since = self.known.lock().seen.clone();
            let page = self.store.changes(&since).await?;
            if page.is_reset {
                self.known.lock().reset();
            }
            let is_new = self.take(page.revocations);
            self.known.lock().seen = page.seen;
            if is_new {
                shared.registry.ask_to_rejudge(Vec::new());
            }
            shared.registry.rejudge().await;
            if !page.more {
                return self.bring_back().await;
            }
        }
    }

    /// Adds what the store has lost. Of several nodes that do, it does not matter which is the first.
    async fn bring_back(&self) -> Result<(), StoreError> {
        loop {
            let missed = self.known.lock().missed(MOST_ADDED);
            if missed.is_empty() {
                return Ok(());
            }
            match self.store.add(&missed).await? {
                Added::Done => {
                    tracing::info!(count = missed.len(), "brought back what had been revoked");
                }
                Added::Full => self.bring_back_singly(&missed).await?,
            }
            self.known.lock().settled(&missed);
        }
    }

    /// One tenant's that are too many keep nobody else's out.
    async fn bring_back_singly(
        &self,
        missed: &[tidewire_store::Revocation],
    ) -> Result<(), StoreError> {
        let mut left = 0;
        for revocation in missed {
            let added = self.store.add(std::slice::from_ref(revocation)).await?;
            left += usize::from(matches!(added, Added::Full));
        }
        if left > 0 {
            tracing::warn!(
                count = left,
                "cannot bring back what had been revoked: as much is revoked as can be kept"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_is_told_during_a_slow_read_counts_from_then() {
        let desk = NewsDesk::default();
        let is_heard = CancellationToken::new();
        desk.tell(News::Revocations);

        let told = |_| is_heard.cancel();
        // It lasts until the news has been heard.
        let reading = listening(&desk, told, is_heard.cancelled());

        assert_eq!(timeout(Duration::from_secs(30), reading).await, Ok(true));
    }
}
