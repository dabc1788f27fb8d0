//! Leases what tenants may have over the whole cluster.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidewire_model::{NodeId, Quotas, Rates, Tenant};
use tidewire_store::{Grant, QuotaClaim, QuotaStore, StoreError};
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::usage::{Usage, spare};
use crate::{Edge, metrics};

/// How long what was granted stays this node's: seven times may it go unheard.
const TTL: Duration = Duration::from_secs(15);
/// How often a tenant is settled that uses most of its part, and any other.
const BUSY_EVERY: Duration = Duration::from_millis(500);
const EVERY: Duration = Duration::from_secs(2);
/// How long nobody of a tenant is here until its part is given back.
const RESTS_AFTER: Duration = Duration::from_secs(15);
/// How often it is looked who is due, and, if somebody is in a hurry, how soon again.
const LOOKS_EVERY: Duration = Duration::from_millis(100);
const SOONEST: Duration = Duration::from_millis(20);
/// Tenants that are settled at once, so 500 a second; the others wait, the longest first.
const AT_ONCE: usize = 50;
/// How long the store may take for one.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it may not answer until a node goes by its part of the quotas by number.
const AWAY_AFTER: Duration = Duration::from_secs(3);

impl Edge {
    /// Leases this node's part of its tenants' quotas from `store` until `stop`, then gives it back.
    ///
    /// While the store does not answer for 3 s, the node takes what is its part by number of nodes.
    pub async fn keep_quotas(&self, store: Arc<dyn QuotaStore>, stop: CancellationToken) {
        let mut keeper = Keeper::new(self.0.node.id().clone(), store);
        loop {
            self.introduce(&mut keeper);
            keeper.settle_due(self.nodes()).await;
            let pausing = async {
                sleep(SOONEST).await;
                tokio::select! {
                    () = sleep(LOOKS_EVERY) => {}
                    () = self.0.allowances.hurried() => {}
                }
            };
            if stop.run_until_cancelled(pausing).await.is_none() {
                break;
            }
        }
        keeper.withdraw_all().await;
    }

    /// Tells the keeper of tenants that have come or changed since it was told before.
    fn introduce(&self, keeper: &mut Keeper) {
        let seen = (self.0.tenants.version(), self.0.allowances.count());
        if keeper.seen == Some(seen) {
            return;
        }
        keeper.seen = Some(seen);
        let known = self.0.allowances.usages();
        let known = known.into_iter().map(|(tenant, usage)| {
            let quotas = self.0.limits_of(&tenant).quotas;
            usage.heed(&quotas, self.nodes());
            (tenant, usage, quotas)
        });
        keeper.know(known.filter(|(_, _, quotas)| !quotas.is_empty()).collect());
    }

    /// Nodes that tenants have their parts on, as far as is known.
    pub(super) fn nodes(&self) -> u32 {
        self.0.nodes()
    }
}

/// Who is due, and how it goes with the store.
struct Keeper {
    node: NodeId,
    store: Arc<dyn QuotaStore>,
    tenants: HashMap<Tenant, Entry>,
    /// Of which tenants it was told.
    seen: Option<(u64, u64)>,
    /// It has been said that the store does not answer.
    is_away: bool,
}

struct Entry {
    usage: Arc<Usage>,
    quotas: Quotas,
    demand: Rates<u32>,
    settled_at: Instant,
    answered_at: Instant,
    due: Instant,
    /// Since when nobody is here.
    idle_since: Option<Instant>,
    /// Nothing is leased, and nothing is due until it is hurried.
    is_resting: bool,
    is_fallen_back: bool,
}

impl Keeper {
    fn new(node: NodeId, store: Arc<dyn QuotaStore>) -> Self {
        Self { node, store, tenants: HashMap::new(), seen: None, is_away: false }
    }

    /// Takes over who is there now.
    fn know(&mut self, known: Vec<(Tenant, Arc<Usage>, Quotas)>) {
        let mut before = std::mem::take(&mut self.tenants);
        for (tenant, usage, quotas) in known {
            let entry = match before.remove(&tenant) {
                Some(entry) => Entry { usage, quotas, ..entry },
                None => Entry::new(usage, quotas, Instant::now()),
            };
            self.tenants.insert(tenant, entry);
        }
    }

    /// Settles those that are due, as many as may be at once, and those that are in a hurry first.
    async fn settle_due(&mut self, nodes: u32) {
        let now = Instant::now();
        let mut due: Vec<_> = self.tenants.iter().filter(|(_, entry)| entry.is_due(now)).collect();
        due.sort_by_key(|(_, entry)| entry.due);
        due.truncate(AT_ONCE);
        let due: Vec<Tenant> = due.into_iter().map(|(tenant, _)| tenant.clone()).collect();
        let mut has_failed = false;
        let (resting, due): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|tenant| self.is_to_rest(tenant, now));
        for tenant in &resting {
            self.rest(tenant, nodes);
        }
        let withdrawals: FuturesUnordered<_> =
            resting.iter().map(|tenant| self.withdraw(tenant)).collect();
        withdrawals.collect::<()>().await;
        let mut settling: FuturesUnordered<_> =
            due.iter().filter_map(|tenant| self.settle(tenant, now)).collect();
        let mut answers = Vec::new();
        while let Some(answer) = settling.next().await {
            answers.push(answer);
        }
        drop(settling);
        for (claim, answer) in answers {
            has_failed |= answer.is_err();
            self.heed(&claim, answer);
        }
        self.note_away(has_failed, nodes);
        self.show();
    }

    /// Asks the store for one tenant.
    fn settle(
        &mut self,
        tenant: &Tenant,
        now: Instant,
    ) -> Option<impl Future<Output = (QuotaClaim, Result<Grant, StoreError>)> + use<>> {
        let entry = self.tenants.get_mut(tenant)?;
        let since = now - entry.settled_at;
        entry.settled_at = now;
        entry.is_resting = false;
        let claim = entry.usage.claim(tenant, entry.quotas, (&mut entry.demand, since));
        let (store, node) = (Arc::clone(&self.store), self.node.clone());
        Some(async move {
            let settled = timeout(PATIENCE, store.settle(&node, &claim, TTL)).await;
            let late = |_| StoreError::Unavailable {
                address: "the store of quotas".into(),
                reason: format!("no answer within {} s", PATIENCE.as_secs()),
            };
            let answer = settled.map_err(late).flatten();
            (claim, answer)
        })
    }

    fn heed(&mut self, claim: &QuotaClaim, answer: Result<Grant, StoreError>) {
        let Some(entry) = self.tenants.get_mut(&claim.tenant) else { return };
        let now = Instant::now();
        match answer {
            Ok(grant) => {
                entry.usage.take(claim, grant);
                entry.answered_at = now;
                entry.is_fallen_back = false;
                // Of what was asked for while clients came, something may soon be given back.
                let limit = entry.quotas.connections;
                let is_ahead = limit
                    .is_some_and(|limit| claim.wanted > claim.held.saturating_add(spare(limit)));
                let is_short =
                    is_ahead || entry.usage.is_full() || entry.usage.is_short(entry.demand);
                entry.due = now + if is_short { BUSY_EVERY } else { EVERY };
                metrics::quota_settled("ok");
                if std::mem::take(&mut self.is_away) {
                    tracing::info!("quotas are leased again");
                }
            }
            Err(error) => {
                entry.due = now + BUSY_EVERY;
                metrics::quota_settled("failed");
                tracing::debug!(%error, tenant = %claim.tenant, "cannot lease a part of a quota");
            }
        }
    }

    /// Where the store has not answered for long, goes by this node's part by number.
    fn note_away(&mut self, has_failed: bool, nodes: u32) {
        if !has_failed {
            return;
        }
        let now = Instant::now();
        let unheard = self
            .tenants
            .values_mut()
            .filter(|entry| !entry.is_resting && now - entry.answered_at >= AWAY_AFTER);
        let mut is_away = self.is_away;
        for entry in unheard {
            entry.usage.fall_back(&entry.quotas, nodes);
            entry.is_fallen_back = true;
            is_away = true;
        }
        if is_away && !std::mem::replace(&mut self.is_away, true) {
            tracing::warn!(nodes, "quotas cannot be leased: each node takes its part by number");
        }
    }

    fn is_to_rest(&mut self, tenant: &Tenant, now: Instant) -> bool {
        let Some(entry) = self.tenants.get_mut(tenant) else { return false };
        if !entry.usage.is_idle() {
            entry.idle_since = None;
            return false;
        }
        now - *entry.idle_since.get_or_insert(now) >= RESTS_AFTER
    }

    /// Uses nothing any more of what nobody uses; it is to be withdrawn.
    fn rest(&mut self, tenant: &Tenant, nodes: u32) {
        let Some(entry) = self.tenants.get_mut(tenant) else { return };
        entry.usage.rest(&entry.quotas, nodes);
        entry.is_resting = true;
        entry.is_fallen_back = false;
        entry.idle_since = None;
        // Who came in between is to be counted.
        if entry.usage.connections() > 0 {
            entry.usage.hurry();
        }
    }

    async fn withdraw_all(&self) {
        let leased = self.tenants.iter().filter(|(_, entry)| !entry.is_resting);
        let withdrawals: FuturesUnordered<_> =
            leased.map(|(tenant, _)| self.withdraw(tenant)).collect();
        withdrawals.collect::<()>().await;
    }

    async fn withdraw(&self, tenant: &Tenant) {
        let withdrawn = timeout(PATIENCE, self.store.withdraw(&self.node, tenant)).await;
        if !matches!(withdrawn, Ok(Ok(()))) {
            tracing::debug!(%tenant, "cannot give a part of a quota back; it runs out by itself");
        }
    }

    fn show(&self) {
        let leased = || self.tenants.values().filter(|entry| !entry.is_resting);
        let ages = leased().map(|entry| entry.answered_at.elapsed());
        let fallen_back = leased().filter(|entry| entry.is_fallen_back).count();
        metrics::quotas_kept(ages.max().unwrap_or_default(), fallen_back);
    }
}

impl Entry {
    fn new(usage: Arc<Usage>, quotas: Quotas, now: Instant) -> Self {
        Self {
            usage,
            quotas,
            demand: Rates::default(),
            settled_at: now,
            answered_at: now,
            due: now,
            idle_since: None,
            is_resting: false,
            is_fallen_back: false,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.usage.is_hurried() || (!self.is_resting && self.due <= now)
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use parking_lot::Mutex;
    use tidewire_store::MemoryQuotaStore;

    use super::*;

    /// Says when it was asked; does not answer while it is away.
    #[derive(Default)]
    struct Scripted {
        store: MemoryQuotaStore,
        asked_at: Mutex<Vec<Instant>>,
        is_away: Mutex<bool>,
    }

    #[async_trait]
    impl QuotaStore for Scripted {
        async fn settle(
            &self,
            node: &NodeId,
            claim: &QuotaClaim,
            ttl: Duration,
        ) -> Result<Grant, StoreError> {
            self.asked_at.lock().push(Instant::now());
            if *self.is_away.lock() {
                std::future::pending::<()>().await;
            }
            self.store.settle(node, claim, ttl).await
        }

        async fn withdraw(&self, node: &NodeId, tenant: &Tenant) -> Result<(), StoreError> {
            self.store.withdraw(node, tenant).await
        }
    }

    const NODES: u32 = 4;

    fn quotas() -> Quotas {
        Quotas { connections: Some(1_000), rates: [Some(1_000), None, None].into() }
    }

    fn keeper(store: &Arc<Scripted>, tenants: usize) -> (Keeper, Vec<Arc<Usage>>) {
        let node = NodeId::parse("a").expect("node");
        let mut keeper = Keeper::new(node, Arc::clone(store) as _);
        let usages: Vec<_> = (0..tenants).map(|_| Arc::new(Usage::new(&quotas(), NODES))).collect();
        let known = usages.iter().enumerate().map(|(number, usage)| {
            let tenant = Tenant::parse(&format!("t{number}")).expect("tenant");
            (tenant, Arc::clone(usage), quotas())
        });
        keeper.know(known.collect());
        (keeper, usages)
    }

    /// Looks as often as the edge does, for so long.
    async fn look(keeper: &mut Keeper, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            keeper.settle_due(NODES).await;
            sleep(LOOKS_EVERY).await;
        }
    }

    fn asked_within(store: &Scripted, begin: Instant, time: Duration) -> usize {
        let asked_at = store.asked_at.lock();
        asked_at.iter().filter(|at| (begin..begin + time).contains(at)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn who_uses_little_is_settled_seldom_and_who_uses_most_often() {
        let store = Arc::new(Scripted::default());
        let (mut keeper, usages) = keeper(&store, 1);
        let begin = Instant::now();
        let _here = usages[0].enter_again();
        look(&mut keeper, Duration::from_secs(8)).await;
        let seldom = asked_within(&store, begin, Duration::from_secs(8));

        let begin = Instant::now();
        for _ in 0..8 {
            for _ in 0..900 {
                let _ = usages[0].charge(1, &quotas(), begin.elapsed());
            }
            look(&mut keeper, Duration::from_secs(1)).await;
        }

        assert!((3..=5).contains(&seldom), "{seldom}");
        assert!(asked_within(&store, begin, Duration::from_secs(8)) >= 10);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_500_are_settled_a_second_and_nobody_is_forgotten() {
        let store = Arc::new(Scripted::default());
        let (mut keeper, usages) = keeper(&store, 2_000);
        let _here: Vec<_> = usages.iter().map(Usage::enter_again).collect();
        let begin = Instant::now();

        look(&mut keeper, Duration::from_secs(5)).await;

        for second in 0..5 {
            let begin = begin + Duration::from_secs(second);
            assert!(asked_within(&store, begin, Duration::from_secs(1)) <= 500);
        }
        assert!(usages.iter().all(|usage| !usage.is_hurried()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_for_three_seconds_leaves_a_part_by_number_until_it_is_back() {
        let store = Arc::new(Scripted::default());
        let (mut keeper, usages) = keeper(&store, 1);
        let passes = |now: u64| {
            let now = Duration::from_secs(now);
            (0..2_000).filter(|_| usages[0].charge(1, &quotas(), now).is_ok()).count()
        };
        let _here = usages[0].enter_again();
        look(&mut keeper, Duration::from_secs(1)).await;
        assert_eq!(passes(100), 1_000);

        *store.is_away.lock() = true;
        look(&mut keeper, Duration::from_millis(500)).await;
        assert_eq!(passes(200), 1_000, "for a moment");
        look(&mut keeper, Duration::from_secs(5)).await;
        assert_eq!(passes(300), 250);
        assert!(keeper.is_away && usages[0].is_full());

        *store.is_away.lock() = false;
        look(&mut keeper, Duration::from_secs(2)).await;
        assert_eq!(passes(400), 1_000);
        assert!(!keeper.is_away);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_uses_is_given_back_and_leased_again_for_who_comes() {
        let store = Arc::new(Scripted::default());
        let (mut keeper, usages) = keeper(&store, 1);
        drop(usages[0].enter());
        look(&mut keeper, Duration::from_secs(30)).await;
        let begin = Instant::now();
        look(&mut keeper, Duration::from_secs(30)).await;
        assert_eq!(asked_within(&store, begin, Duration::from_secs(30)), 0);

        usages[0].charge(1, &quotas(), Duration::ZERO).expect("its part by number");
        look(&mut keeper, LOOKS_EVERY).await;

        assert!(asked_within(&store, begin, Duration::from_mins(1)) > 0);
    }
}
