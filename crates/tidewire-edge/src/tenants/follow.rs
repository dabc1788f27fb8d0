use metrics::{counter, gauge};
use tidewire_broker::News;
use tidewire_model::Tenant;
use tidewire_store::{Expects, StoreError, TenantEntry, TenantWrite, Written};
use tidewire_tenant::{Change, Definition};
use tokio::time::{Duration, Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::known::Lost;
use super::{Inner, TenantRegistry};
use crate::Edge;

/// How often the store is read when nobody has said that there is something new, from one beginning
/// to the next: with what a call may take at most, in force within six seconds.
const POLL: Duration = Duration::from_secs(4);
/// The others are told a second time, because the first may be lost.
const TOLD_AGAIN: Duration = Duration::from_secs(1);
/// What the store has lost is brought back so many at a time.
const BROUGHT_BACK: usize = 64;

impl TenantRegistry {
    /// Reads the store again and again until `stop`: when another node says that there is something
    /// new, and every four seconds.
    pub async fn follow(&self, edge: Edge, stop: CancellationToken) {
        // Whom changes concern; there is one edge, whoever else asks to follow.
        drop(self.0.edge.set(edge.clone()));
        let mut tell_again_at = None;
        loop {
            let next = Instant::now() + POLL;
            if let Err(error) = self.read().await {
                tracing::warn!(%error, "cannot read the registry of tenants");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = edge.news(News::Tenants) => {}
                () = self.0.written.notified() => tell_again_at = Some(Instant::now() + TOLD_AGAIN),
                () = sleep_until(tell_again_at.unwrap_or(next)), if tell_again_at.is_some() => {
                    tell_again_at = None;
                    edge.0.node.announce_news(News::Tenants);
                }
                () = sleep_until(next) => {}
            }
        }
    }

    /// Reads what has changed since the last time, and makes it hold.
    pub(super) async fn read(&self) -> Result<(), StoreError> {
        let _turn = self.0.reading.lock().await;
        let outcome = self.0.read_to_end().await;
        let result = if outcome.is_ok() { "ok" } else { "failed" };
        counter!("tidewire_registry_reads_total", "result" => result).increment(1);
        outcome
    }
}

impl Inner {
    async fn read_to_end(&self) -> Result<(), StoreError> {
        loop {
            let since = self.known.lock().seen.clone();
            let page = self.parts.store.changes(&since).await?;
            let changes = {
                let mut known = self.known.lock();
                if page.is_reset {
                    known.reset();
                }
                page.entries.into_iter().filter(|entry| known.take(entry)).collect::<Vec<_>>()
            };
            let ended = self.apply(&changes);
            if let Some(edge) = self.edge.get() {
                if !ended.is_empty() {
                    edge.0.registry.ask_to_rejudge(ended);
                }
                edge.0.registry.rejudge().await;
            }
            self.known.lock().seen = page.seen;
            if !page.more {
                break;
            }
        }
        {
            let mut known = self.known.lock();
            known.read_at = Some(Instant::now());
            #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
            gauge!("tidewire_registry_tenants").set(known.there().count() as f64);
            #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
            gauge!("tidewire_registry_unreadable").set(known.unreadable.len() as f64);
        }
        self.parts.tenants.expect_no_more();
        self.bring_back().await
    }

    /// Yields the tenants that have ended.
    fn apply(&self, entries: &[TenantEntry]) -> Vec<Tenant> {
        if entries.is_empty() {
            return Vec::new();
        }
        let changes: Vec<_> = entries.iter().filter_map(|entry| self.change(entry)).collect();
        let applied = self.parts.tenants.apply(changes);
        for tenant in &applied.shadowed {
            tracing::warn!(%tenant, "a tenant of the registry has no effect: the file has it too");
        }
        for tenant in &applied.robbed {
            tracing::warn!(%tenant, "a tenant goes without a key, because another has it");
        }
        tracing::info!(set = applied.set, removed = applied.removed.len(), "tenants have changed");
        [applied.removed, applied.replaced].concat()
    }

    /// What an entry means; nothing if it cannot be read, so that what was known goes on.
    fn change(&self, entry: &TenantEntry) -> Option<Change> {
        let tenant = &entry.tenant;
        let Some(sealed) = &entry.sealed else {
            self.known.lock().unreadable.remove(tenant);
            return Some(Change::Remove(tenant.clone()));
        };
        match self.definition(entry, sealed) {
            Ok(definition) => {
                let marks = definition.keys.marks(&self.parts.vault);
                let mut known = self.known.lock();
                known.unreadable.remove(tenant);
                known.mark(tenant, marks);
                Some(Change::Set(Box::new(definition)))
            }
            Err(reason) => {
                tracing::error!(%tenant, reason, "cannot read a tenant of the registry");
                self.known.lock().unreadable.insert(tenant.clone());
                None
            }
        }
    }

    fn definition(&self, entry: &TenantEntry, sealed: &[u8]) -> Result<Definition, &'static str> {
        let (tenant, revision) = (&entry.tenant, entry.revision);
        let (incarnation, text) =
            tidewire_tenant::open(&self.parts.vault, tenant, revision, sealed)
                .map_err(|_| "sealed with a key that is not in `registry.keys`, or altered")?;
        let mut definition = tidewire_tenant::parse(tenant, &text, self.parts.history)
            .map_err(|_| "the document says what this version does not know")?;
        definition.details.incarnation = incarnation;
        Ok(definition)
    }

    /// Writes what the store has lost. Of several nodes that do, one is the first.
    async fn bring_back(&self) -> Result<(), StoreError> {
        loop {
            let lost = self.known.lock().lost(BROUGHT_BACK);
            if lost.is_empty() {
                return Ok(());
            }
            for Lost { tenant, revision, sealed, marks } in lost {
                let written = self.parts.store.write(TenantWrite {
                    tenant: &tenant,
                    expects: Expects::Older,
                    revision,
                    sealed: sealed.as_deref(),
                    marks: &marks,
                    nonce: super::write::nonce(),
                    most: self.parts.most,
                });
                match written.await? {
                    Written::Done => {
                        tracing::info!(%tenant, revision, "brought back what the registry had lost");
                    }
                    Written::Conflict { .. } => {
                        tracing::debug!(%tenant, revision, "another node was the first to bring it back");
                    }
                    Written::Taken { by } => {
                        tracing::warn!(%tenant, revision, %by, "cannot bring it back: its key is taken");
                    }
                    Written::Full => {
                        tracing::warn!(%tenant, revision, "cannot bring it back: the registry is full");
                    }
                }
                self.known.lock().restored(&tenant, revision);
            }
        }
    }
}
