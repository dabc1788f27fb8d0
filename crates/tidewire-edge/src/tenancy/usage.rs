//! What this node has and uses of one tenant's quotas.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tidewire_model::{Limit, Pace, Quotas, Rates, SharedBucket, Tenant};
use tidewire_store::{Grant, QuotaClaim};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// What a tenant's clients and servers use on this node, and what it may: leased by the
/// [keeper](super::keeper), looked at by everybody. Moments are counted from when the edge began.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Connections with a session, and those that are about to have one.
    connections: AtomicU32,
    /// How many there may be here; those that resume come on top.
    granted: AtomicU32,
    /// How many there may be by number of nodes, while the store cannot be asked.
    by_number: AtomicU32,
    /// Other nodes have the rest of the quota.
    is_full: AtomicBool,
    /// How many came since it was settled, whether or not they got in.
    came: AtomicU32,
    rates: Rates<Metered>,
    /// New connections.
    connects: SharedBucket,
    /// It is to be settled at once.
    is_hurried: AtomicBool,
    /// Nothing is leased, because nobody was here.
    is_resting: AtomicBool,
    /// Told each time that it has been settled.
    settled: Notify,
}

#[derive(Debug, Default)]
struct Metered {
    taken: SharedBucket,
    /// What may be used a second here; 0 where there is no quota.
    share: AtomicU32,
    /// How much was asked for since it was settled, whether or not it was granted.
    asked: AtomicU64,
}

/// A connection that counts, until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Option<Arc<Usage>>);

/// More than a tenant may have at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Spent {
    pub(crate) limit: Limit,
    /// Of all nodes together.
    pub(crate) value: u32,
    pub(crate) wait: Duration,
}

/// Connections that a node asks for beside those that are there while others come: at least so many, if
/// that is not too much of the quota, and at least this part of it. The next are not to wait.
const BLOCK: u32 = 16;
const MOST_PART: u32 = 16;
const BLOCK_PART: u32 = 100;
/// The part of the quota that it asks for at the most while nobody comes: others may need it.
const IDLE_PART: u32 = 64;
/// Bytes out are owed up to the time that this and what is sent at once take.
const MOST_OWED: Duration = Duration::from_secs(2);
/// What a second's share is charged at once after a rest.
const BURST: Duration = Duration::from_secs(1);

impl Usage {
    /// Nothing is used yet. Until the first answer of the store a node has its part of the rates by
    /// number, and no connections but those that resume.
    pub(crate) fn new(quotas: &Quotas, nodes: u32) -> Self {
        let usage = Self {
            connections: AtomicU32::new(0),
            granted: AtomicU32::new(u32::MAX),
            by_number: AtomicU32::new(0),
            is_full: AtomicBool::new(false),
            came: AtomicU32::new(0),
            rates: Rates::default(),
            connects: SharedBucket::default(),
            is_hurried: AtomicBool::new(true),
            is_resting: AtomicBool::new(false),
            settled: Notify::new(),
        };
        usage.heed(quotas, nodes);
        usage
    }

    /// Goes by quotas that were not there before, or are not there any more.
    pub(crate) fn heed(&self, quotas: &Quotas, nodes: u32) {
        let granted = self.granted.load(Ordering::Relaxed);
        match quotas.connections {
            None => self.granted.store(u32::MAX, Ordering::Relaxed),
            Some(limit) if granted == u32::MAX => {
                let here = self.connections.load(Ordering::Relaxed);
                self.granted.store(limit.min(here), Ordering::Relaxed);
                self.is_full.store(false, Ordering::Relaxed);
                self.is_hurried.store(true, Ordering::Relaxed);
            }
            Some(_) => {}
        }
        self.rates.as_ref().with(quotas.rates).map(|(rate, quota)| match quota {
            None => rate.share.store(0, Ordering::Relaxed),
            Some(limit) if rate.share.load(Ordering::Relaxed) == 0 => {
                rate.share.store(part(limit, nodes), Ordering::Relaxed);
                self.is_hurried.store(true, Ordering::Relaxed);
            }
            Some(_) => {}
        });
    }

    /// Takes a new connection off `pace`.
    ///
    /// # Errors
    ///
    /// If there were as many lately; how long it takes until there may be one.
    pub(crate) fn connect(&self, pace: Pace, now: Duration) -> Result<(), Duration> {
        self.connects.take(pace, 1, now)
    }

    /// Counts one more connection, if there may be one.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Counted> {
        self.came.fetch_add(1, Ordering::Relaxed);
        let granted = self.granted.load(Ordering::Relaxed);
        let more = |here: u32| (here < granted).then(|| here + 1);
        let here = self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        match here {
            Ok(here) if here >= granted / 4 * 3 => self.is_hurried.store(true, Ordering::Relaxed),
            Ok(_) => {}
            Err(_) => return None,
        }
        Some(Counted(Some(Arc::clone(self))))
    }

    /// Counts one more connection, of a session that goes on: it is never kept out.
    pub(crate) fn enter_again(self: &Arc<Self>) -> Counted {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Counted(Some(Arc::clone(self)))
    }

    /// A connection that was [kept](Counted::keep) has ended.
    pub(crate) fn leave(&self) {
        let less = |here: u32| Some(here.saturating_sub(1));
        let _ = self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Whether it is known that there are no more connections to be had.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Whether something would be forgotten with it.
    pub(crate) fn is_needed(&self) -> bool {
        let shares = self.rates.as_ref().map(|rate| rate.share.load(Ordering::Relaxed));
        let has_quota = shares.into_array() != [0; 3];
        self.connections() > 0 || has_quota && !self.is_resting.load(Ordering::Relaxed)
    }

    /// Asks for it to be settled at once.
    pub(crate) fn hurry(&self) {
        self.is_hurried.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_hurried(&self) -> bool {
        self.is_hurried.load(Ordering::Relaxed)
    }

    /// Waits until it has been settled once more.
    pub(crate) fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    /// Charges for a publication.
    ///
    /// # Errors
    ///
    /// If the tenant has used up what it may on this node.
    pub(crate) fn charge(&self, bytes: u32, quotas: &Quotas, now: Duration) -> Result<(), Spent> {
        let (rates, quotas) = (&self.rates, quotas.rates);
        self.wake();
        rates.publications.ask(1);
        rates.bytes_in.ask(bytes.into());
        if let (Some(value), Some(pace)) = (quotas.publications, rates.publications.pace()) {
            let wait = rates.publications.taken.wait_for(pace, 1, now);
            if !wait.is_zero() {
                return Err(Spent { limit: Limit::TenantPublishRate, value, wait });
            }
        }
        if let (Some(value), Some(pace)) = (quotas.bytes_in, rates.bytes_in.pace()) {
            let taken = rates.bytes_in.taken.take(pace, bytes, now);
            taken.map_err(|wait| Spent { limit: Limit::TenantBytesIn, value, wait })?;
        }
        if let Some(pace) = rates.publications.pace() {
            rates.publications.taken.owe(pace, 1, now);
        }
        Ok(())
    }

    /// Charges for bytes that a client is sent.
    pub(crate) fn charge_sent(&self, bytes: u64, now: Duration) {
        let rate = &self.rates.bytes_out;
        let Some(pace) = rate.pace() else { return };
        rate.ask(bytes);
        // What was missed is sent all at once, and is not to keep for longer what comes now.
        if rate.taken.wait_for(pace, 0, now) < MOST_OWED {
            rate.taken.owe(pace, u32::try_from(bytes).unwrap_or(u32::MAX), now);
        }
    }

    /// How long the tenant's clients are to be handed no publications.
    pub(crate) fn wait_to_send(&self, now: Duration) -> Duration {
        let rate = &self.rates.bytes_out;
        rate.pace().map_or(Duration::ZERO, |pace| rate.taken.wait_for(pace, 0, now))
    }

    fn wake(&self) {
        if self.is_resting.load(Ordering::Relaxed) {
            self.hurry();
        }
    }
}

/// What the keeper does.
impl Usage {
    /// What to ask for. `demand` is what was asked for a second before, and what is returned with it.
    pub(super) fn claim(
        &self,
        tenant: &Tenant,
        quotas: Quotas,
        (demand, since): (&mut Rates<u32>, Duration),
    ) -> QuotaClaim {
        self.is_hurried.store(false, Ordering::Relaxed);
        self.is_resting.store(false, Ordering::Relaxed);
        let came = self.came.swap(0, Ordering::Relaxed);
        let limit = quotas.connections.unwrap_or(u32::MAX);
        let block = if came == 0 {
            spare(limit)
        } else {
            let block = BLOCK.min(limit / MOST_PART).max(limit / BLOCK_PART);
            block.max(came.saturating_mul(2))
        };
        let here = self.connections.load(Ordering::Relaxed);
        // What is used without the store is asked of it as well: it may not answer this time either.
        let by_number = self.by_number.load(Ordering::Relaxed);
        let wanted = here.saturating_add(block).max(by_number).min(limit);
        // What it may not get is not used either, while that is on its way.
        if quotas.connections.is_some() {
            self.granted.fetch_min(wanted, Ordering::Relaxed);
        }
        let held = self.connections.load(Ordering::Relaxed);
        *demand = self.rates.as_ref().with(*demand).map(|(rate, before)| {
            let asked = rate.asked.swap(0, Ordering::Relaxed);
            let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
            let now = u32::try_from(asked.saturating_mul(1_000) / millis).unwrap_or(u32::MAX);
            // What there was lately counts too, so that one quiet moment gives nothing away.
            now.max(before / 2)
        });
        let wanted = wanted.max(held);
        QuotaClaim { tenant: tenant.clone(), quotas, held, wanted, demand: *demand }
    }

    /// Goes by what the store has granted.
    pub(super) fn take(&self, claim: &QuotaClaim, grant: Grant) {
        self.by_number.store(0, Ordering::Relaxed);
        if let Some(granted) = grant.connections {
            self.granted.store(granted, Ordering::Relaxed);
            self.is_full.store(granted < claim.wanted, Ordering::Relaxed);
        }
        self.rates.as_ref().with(grant.rates).map(|(rate, share)| {
            rate.share.store(share.unwrap_or_default(), Ordering::Relaxed);
        });
        self.settled.notify_waiters();
    }

    /// Goes by its part of the quotas by number: the store cannot be asked.
    pub(super) fn fall_back(&self, quotas: &Quotas, nodes: u32) {
        if let Some(limit) = quotas.connections {
            let held = self.connections.load(Ordering::Relaxed);
            let part = part(limit, nodes);
            self.by_number.store(part, Ordering::Relaxed);
            self.granted.store(part.max(held), Ordering::Relaxed);
            self.is_full.store(true, Ordering::Relaxed);
        }
        self.rates.as_ref().with(quotas.rates).map(|(rate, quota)| {
            let share = quota.map_or(0, |limit| part(limit, nodes));
            rate.share.store(share, Ordering::Relaxed);
        });
        self.settled.notify_waiters();
    }

    /// Gives everything back, as long as nobody comes.
    pub(super) fn rest(&self, quotas: &Quotas, nodes: u32) {
        self.fall_back(quotas, nodes);
        if quotas.connections.is_some() {
            self.by_number.store(0, Ordering::Relaxed);
            self.granted.store(0, Ordering::Relaxed);
            self.is_full.store(false, Ordering::Relaxed);
        }
        self.is_resting.store(true, Ordering::Relaxed);
    }

    /// Whether nobody is here, and nobody has asked for anything.
    pub(super) fn is_idle(&self) -> bool {
        let asked = self.rates.as_ref().map(|rate| rate.asked.load(Ordering::Relaxed));
        self.connections.load(Ordering::Relaxed) == 0
            && self.came.load(Ordering::Relaxed) == 0
            && asked.into_array() == [0; 3]
    }

    /// Whether most of its share of a rate is used, or more would be.
    pub(super) fn is_short(&self, demand: Rates<u32>) -> bool {
        let rates = self.rates.as_ref().with(demand).map(|(rate, demand)| {
            let share = rate.share.load(Ordering::Relaxed);
            share > 0 && demand > share / 4 * 3
        });
        rates.into_array().contains(&true)
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Metered {
    fn ask(&self, amount: u64) {
        if self.share.load(Ordering::Relaxed) > 0 {
            self.asked.fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn pace(&self) -> Option<Pace> {
        let share = self.share.load(Ordering::Relaxed);
        let burst = u64::from(share) * BURST.as_secs();
        (share > 0)
            .then(|| Pace { per_second: share, burst: u32::try_from(burst).unwrap_or(share) })
    }
}

impl Counted {
    /// It counts in `usage` until [`Usage::leave`]. That may be another than it has entered, which nobody
    /// needed for a moment.
    pub(crate) fn keep(mut self, usage: &Arc<Usage>) {
        if self.0.as_ref().is_some_and(|entered| Arc::ptr_eq(entered, usage)) {
            self.0 = None;
        } else {
            usage.connections.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(usage) = &self.0 {
            usage.leave();
        }
    }
}

/// Connections that a node has in reserve while nobody comes.
pub(super) fn spare(limit: u32) -> u32 {
    BLOCK.min(limit / IDLE_PART)
}

/// What is one node's of a limit where nothing else is known.
fn part(limit: u32, nodes: u32) -> u32 {
    (limit / nodes.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(limit: u32) -> Quotas {
        Quotas { connections: Some(limit), ..Quotas::default() }
    }

    fn claim(usage: &Usage, quotas: Quotas) -> QuotaClaim {
        let tenant = Tenant::parse("acme").expect("tenant");
        usage.claim(&tenant, quotas, (&mut Rates::default(), Duration::from_secs(1)))
    }

    /// As it is when the store has granted so many connections.
    fn granted(limit: u32, connections: u32) -> Arc<Usage> {
        let usage = Arc::new(Usage::new(&self::connections(limit), 1));
        let claimed = claim(&usage, self::connections(limit));
        let grant = Grant { nodes: 1, connections: Some(connections), ..Grant::default() };
        usage.take(&claimed, grant);
        usage
    }

    fn enter_all(usage: &Arc<Usage>) -> Vec<Counted> {
        std::iter::from_fn(|| usage.enter()).collect()
    }

    #[test]
    fn before_the_first_answer_only_those_come_in_that_resume() {
        let usage = Arc::new(Usage::new(&connections(100), 1));

        assert!(usage.enter().is_none() && !usage.is_full() && usage.is_hurried());
        let _back = usage.enter_again();
        assert_eq!(usage.connections(), 1);
    }

    #[test]
    fn what_was_granted_is_used_and_who_leaves_makes_room() {
        let usage = granted(100, 20);

        let mut entered = enter_all(&usage);
        assert_eq!(entered.len(), 20);
        entered.truncate(18);

        assert_eq!(enter_all(&usage).len(), 2);
    }

    #[test]
    fn who_resumes_gets_in_and_counts() {
        let usage = granted(2, 2);
        let entered = enter_all(&usage);

        let back = usage.enter_again();

        drop(entered);
        assert_eq!(usage.connections(), 1);
        back.keep(&usage);
        assert_eq!(usage.connections(), 1);
        usage.leave();
        assert_eq!(usage.connections(), 0);
    }

    #[test]
    fn who_is_kept_elsewhere_than_it_entered_counts_there_alone() {
        let (entered, kept) = (granted(2, 2), granted(2, 2));

        entered.enter().expect("there is room").keep(&kept);

        assert_eq!((entered.connections(), kept.connections()), (0, 1));
        kept.leave();
        kept.leave();
        assert_eq!(kept.connections(), 0);
    }

    #[test]
    fn a_node_asks_for_as_many_as_are_coming() {
        let usage = granted(10_000, 16);
        let quiet = claim(&usage, connections(10_000));
        let entered = enter_all(&usage);
        (0..500).for_each(|_| drop(usage.enter()));

        let crowd = claim(&usage, connections(10_000));

        assert_eq!((quiet.held, quiet.wanted), (0, 16));
        assert_eq!((crowd.held, crowd.wanted), (16, 16 + 2 * 517));
        drop(entered);
    }

    #[test]
    fn what_is_not_asked_for_any_more_is_not_used_while_the_answer_is_on_its_way() {
        let usage = granted(1_000, 900);

        claim(&usage, connections(1_000));

        assert_eq!(enter_all(&usage).len(), 15);
    }

    #[test]
    fn a_share_of_a_rate_passes_in_a_second_and_the_rest_is_told_when() {
        let quotas = Quotas { rates: [Some(10), None, None].into(), ..Quotas::default() };
        let usage = Usage::new(&quotas, 2);
        let at = |millis| Duration::from_millis(millis);

        let passed = (0..20).filter(|_| usage.charge(100, &quotas, at(0)).is_ok()).count();

        assert_eq!(passed, 5);
        let spent = Spent { limit: Limit::TenantPublishRate, value: 10, wait: at(200) };
        assert_eq!(usage.charge(100, &quotas, at(0)), Err(spent));
        assert_eq!(usage.charge(100, &quotas, at(200)), Ok(()));
    }

    #[test]
    fn what_is_refused_for_its_bytes_costs_no_publication() {
        let quotas = Quotas { rates: [Some(2), Some(100), None].into(), ..Quotas::default() };
        let usage = Usage::new(&quotas, 1);
        let charge = |bytes| usage.charge(bytes, &quotas, Duration::ZERO).map_err(|one| one.limit);

        assert_eq!(charge(100), Ok(()));
        assert_eq!([charge(1), charge(1)], [Err(Limit::TenantBytesIn); 2]);
        assert_eq!(charge(0), Ok(()));
        assert_eq!(charge(0), Err(Limit::TenantPublishRate));
    }

    #[test]
    fn bytes_that_were_sent_beyond_a_share_are_waited_for() {
        let quotas = Quotas { rates: [None, None, Some(1_000)].into(), ..Quotas::default() };
        let usage = Usage::new(&quotas, 1);
        let now = Duration::from_secs(9);

        usage.charge_sent(1_000, now);
        assert_eq!(usage.wait_to_send(now), Duration::ZERO);
        usage.charge_sent(500, now);

        assert_eq!(usage.wait_to_send(now), Duration::from_millis(500));
    }

    #[test]
    fn demand_counts_what_was_refused_and_fades() {
        let quotas = Quotas { rates: [Some(2), None, None].into(), ..Quotas::default() };
        let (usage, mut demand) = (Usage::new(&quotas, 1), Rates::default());
        let tenant = Tenant::parse("acme").expect("tenant");
        for _ in 0..80 {
            let _ = usage.charge(1, &quotas, Duration::ZERO);
        }

        let mut claims = (0..3).map(|_| {
            usage.claim(&tenant, quotas, (&mut demand, Duration::from_secs(2))).demand.publications
        });

        assert_eq!([claims.next(), claims.next(), claims.next()], [Some(40), Some(20), Some(10)]);
    }

    #[test]
    fn without_the_store_each_node_takes_its_part_and_keeps_what_it_has() {
        let quotas = Quotas { connections: Some(30), rates: [Some(30), None, None].into() };
        let usage = Arc::new(Usage::new(&quotas, 1));
        let entered: Vec<_> = (0..16).map(|_| usage.enter_again()).collect();

        usage.fall_back(&quotas, 3);

        assert!(usage.enter().is_none() && usage.is_full());
        drop(entered);
        usage.fall_back(&quotas, 3);
        assert_eq!(enter_all(&usage).len(), 10);
        let passed = (0..99).filter(|_| usage.charge(1, &quotas, Duration::ZERO).is_ok());
        assert_eq!(passed.count(), 10);
    }

    #[test]
    fn asking_a_store_that_is_away_takes_nothing_of_what_is_a_nodes_by_number() {
        let quotas = connections(6);
        let usage = Arc::new(Usage::new(&quotas, 2));
        let _one = usage.enter_again();
        usage.fall_back(&quotas, 2);

        let asked = claim(&usage, quotas);
        let meanwhile = enter_all(&usage).len();
        usage.take(&asked, Grant { connections: Some(3), ..Grant::default() });
        claim(&usage, quotas);

        assert_eq!((asked.held, asked.wanted, meanwhile), (1, 3, 2));
        assert_eq!(claim(&usage, quotas).wanted, 1, "nothing is kept of it once the store is back");
    }
}
