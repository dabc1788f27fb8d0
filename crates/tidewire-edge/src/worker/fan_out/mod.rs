//! Publications on their way from the shards to the connections: in order per channel, a slice at a
//! time, framed once for everybody who gets them alike, and the tenants in turns.
//!
//! Deficit round robin: each tenant that has something waiting gets as much of the worker's time as
//! any other, however much it has, so that one that publishes to thousands costs the others a slice
//! and not its queue. What waits is bounded, and nobody waits for a bound: where there is no room for
//! a publication, the worker gives its places in that channel up, and its subscribers catch up from the
//! log.

mod key;
mod run;
mod share;
mod windows;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidewire_hub::{QueueLimits, Subscriber, Subscribers};
use tidewire_model::{ChannelRules, Delivery, Envelope, Gap, Limit, Reader, Tenant, TenantChannel};
use tokio::time::{Duration, Instant};

pub(crate) use self::run::{Form, Run};
use self::share::{SEND, Share, Volume};
use self::windows::Windows;
use super::{Context, Slots};
use crate::connection::{Connection, Word};
use crate::metrics::{self, Waiting};

/// What waits to be handed out, of all tenants.
#[derive(Debug)]
pub(crate) struct FanOut {
    limits: Volume,
    shares: Shares,
    /// Those that have something to be handed out, in the order of their turns.
    turns: VecDeque<Tenant>,
    /// Those that have, and are to wait until a moment.
    waits: Vec<(Instant, Tenant)>,
    windows: Windows,
    /// Of all shares together.
    volume: Volume,
    /// What of that is known to whoever watches.
    waiting: Waiting,
}

#[derive(Debug)]
struct Shares {
    by_tenant: HashMap<Tenant, Share>,
    /// How many there may be before those that are idle are forgotten.
    most: usize,
}

/// Whom it is handed to, and what else happens to them.
pub(crate) trait Clients {
    /// Who has a place in the channel now.
    fn subscribers(&self, channel: &TenantChannel) -> Option<Subscribers>;

    /// Hands a run to one of them. `at_once` says that nothing else of its tenant waits.
    fn hand(&mut self, subscriber: Subscriber, at_once: bool, run: &mut Run);

    fn tell(&mut self, subscriber: Subscriber, gap: Gap);

    /// How long a tenant's clients are to be handed nothing, because they have been sent too much.
    fn wait(&self, tenant: &Tenant) -> Duration;

    /// Does what a delivery says that is not for everybody in a channel.
    fn perform(&mut self, delivery: Delivery);
}

/// The connections of a worker.
pub(crate) struct Served<'a> {
    pub(crate) connections: &'a mut Slots<Connection>,
    pub(crate) cx: &'a mut Context,
}

/// How long a tenant waits at once that has sent more than it may.
const LOOKED_AGAIN: Duration = Duration::from_millis(250);
/// What may be handed out in one turn, after which sockets are read again, if nobody else waits and if
/// somebody does: at most 192 and 128 small publications, less than a millisecond. A publication waits
/// for some three turns on its way through a node, so turns of 512 and 256 made it 4 ms later.
const TURN_ALONE: usize = 192 * SEND;
const TURN: usize = 128 * SEND;
/// What a tenant may cost until it is another one's turn: more than a whole run to one connection.
const QUANTUM: usize = 64 * SEND;
/// Shares that are kept though they are idle.
const KEPT_SHARES: usize = 64;

impl FanOut {
    /// An empty one, in which as much may wait as in a worker's queue.
    pub(crate) fn new(rules: Reader<ChannelRules>, limits: QueueLimits) -> Self {
        let QueueLimits { deliveries, bytes } = limits;
        Self {
            limits: Volume { offers: deliveries, bytes },
            shares: Shares { by_tenant: HashMap::new(), most: KEPT_SHARES },
            turns: VecDeque::new(),
            waits: Vec::new(),
            windows: Windows::new(rules),
            volume: Volume::default(),
            waiting: Waiting::default(),
        }
    }

    /// Takes the rules as they are now.
    pub(crate) fn begin_turn(&mut self) {
        self.windows.begin_turn();
    }

    /// Queues a publication, with those before it if they have not left. If there is no room for it,
    /// its channel is given up and returned: nothing of that is taken until [`Delivery::Lagged`] comes,
    /// which the caller asks the channel's shard for.
    #[must_use]
    pub(crate) fn push(&mut self, envelope: Arc<Envelope>, now: Instant) -> Option<TenantChannel> {
        let channel = envelope.channel.clone();
        self.offer(channel, |share, windows| share.push(envelope, windows, now))
    }

    /// Queues a gap behind the channel's publications that came before it. Where there is no room, the
    /// same happens as to a publication.
    #[must_use]
    pub(crate) fn push_gap(&mut self, channel: TenantChannel, gap: Gap) -> Option<TenantChannel> {
        self.offer(channel.clone(), |share, windows| {
            share.close(&channel.channel, windows);
            share.push_gap(channel, gap);
        })
    }

    /// Queues what begins or ends a place in `channel` behind what is yet to be handed out, or gives
    /// it back if that is nothing.
    pub(crate) fn push_place(
        &mut self,
        channel: &TenantChannel,
        delivery: Delivery,
    ) -> Option<Delivery> {
        let share = self.shares.of(&channel.tenant);
        share.close_before_place(&channel.channel, &mut self.windows);
        let performed = share.push_place(delivery);
        list(share, &channel.tenant, &mut self.turns);
        performed
    }

    fn offer(
        &mut self,
        channel: TenantChannel,
        push: impl FnOnce(&mut Share, &mut Windows),
    ) -> Option<TenantChannel> {
        let share = self.shares.of(&channel.tenant);
        if share.has_given_up(&channel.channel) {
            return None;
        }
        // As much as is still free: whoever is alone gets half, and there is always room for one more.
        let has_room = share.volume().is_within(self.limits.less(self.volume));
        if has_room {
            let before = share.volume();
            push(share, &mut self.windows);
            self.volume.subtract(before);
            self.volume.add(share.volume());
        } else {
            share.close(&channel.channel, &mut self.windows);
            share.give_up(channel.channel.clone());
        }
        list(share, &channel.tenant, &mut self.turns);
        (!has_room).then_some(channel)
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.turns.is_empty()
    }

    /// When a window ends, or somebody has waited for long enough.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let waits = self.waits.iter().map(|(at, _)| *at);
        waits.chain(self.windows.wake_at()).min()
    }

    /// Hands out as much as fits into a turn of the worker that began at `now`.
    pub(crate) fn step(&mut self, now: Instant, clients: &mut impl Clients) {
        while let Some(run) = self.windows.take_due(now) {
            let tenant = run.channel().tenant.clone();
            let share = self.shares.of(&tenant);
            share.take_in(run);
            list(share, &tenant, &mut self.turns);
        }
        self.let_wait(now, clients);
        if self.turns.len() == 1 {
            self.hand_out_alone(clients);
        } else {
            self.take_turns(clients);
        }
        self.waiting.show(self.volume.offers, self.volume.bytes);
    }

    /// Takes those out of their turns that are to wait, and puts those back that have.
    fn let_wait(&mut self, now: Instant, clients: &impl Clients) {
        let over = self.waits.extract_if(.., |(at, _)| *at <= now);
        self.turns.extend(over.map(|(_, tenant)| tenant));
        let waits = &mut self.waits;
        self.turns.retain(|tenant| {
            let wait = clients.wait(tenant);
            if !wait.is_zero() {
                metrics::limited(Limit::TenantBytesOut, None);
                // By then it may have more, or be limited no longer.
                waits.push((now + wait.min(LOOKED_AGAIN), tenant.clone()));
            }
            wait.is_zero()
        });
    }

    fn hand_out_alone(&mut self, clients: &mut impl Clients) {
        let Some(share) = self.turns.front().map(|tenant| self.shares.of(tenant)) else { return };
        let before = share.volume();
        share.hand_out(TURN_ALONE, clients);
        self.volume.subtract(before.less(share.volume()));
        if !share.has_work() {
            share.is_listed = false;
            self.turns.clear();
        }
    }

    fn take_turns(&mut self, clients: &mut impl Clients) {
        let mut left = TURN;
        while left > 0
            && let Some(tenant) = self.turns.pop_front()
        {
            let share = self.shares.of(&tenant);
            let before = share.volume();
            let cost = share.hand_out(left.min(share.credit), clients);
            self.volume.subtract(before.less(share.volume()));
            left = left.saturating_sub(cost);
            share.credit = share.credit.saturating_sub(cost);
            if !share.has_work() {
                share.is_listed = false;
            } else if share.credit > 0 {
                // The worker's turn is over, and not this one's.
                self.turns.push_front(tenant);
            } else {
                share.credit = QUANTUM;
                self.turns.push_back(tenant);
            }
        }
    }
}

impl Shares {
    fn of(&mut self, tenant: &Tenant) -> &mut Share {
        if !self.by_tenant.contains_key(tenant) {
            if self.by_tenant.len() >= self.most {
                self.by_tenant.retain(|_, share| !share.is_idle());
                self.most = KEPT_SHARES.max(2 * self.by_tenant.len());
            }
            self.by_tenant.insert(tenant.clone(), Share::default());
        }
        self.by_tenant.get_mut(tenant).expect("it is there, or was put there just now")
    }
}

/// Lets a tenant that has something to be handed out take turns with the others.
fn list(share: &mut Share, tenant: &Tenant, turns: &mut VecDeque<Tenant>) {
    if share.has_work() && !share.is_listed {
        share.is_listed = true;
        share.credit = QUANTUM;
        turns.push_back(tenant.clone());
    }
}

impl Clients for Served<'_> {
    fn subscribers(&self, channel: &TenantChannel) -> Option<Subscribers> {
        self.cx.hub.subscribers(channel)
    }

    fn hand(&mut self, subscriber: Subscriber, at_once: bool, run: &mut Run) {
        if let Some(connection) = self.connections.find(subscriber.connection) {
            connection.hand((subscriber.join, at_once), run, self.cx);
        }
    }

    fn wait(&self, tenant: &Tenant) -> Duration {
        self.cx.shared.allowances.wait_to_send(tenant, self.cx.age)
    }

    fn tell(&mut self, subscriber: Subscriber, gap: Gap) {
        if let Some(connection) = self.connections.find(subscriber.connection) {
            connection.tell(Word::Gap(subscriber.join, gap), self.cx);
        }
    }

    fn perform(&mut self, delivery: Delivery) {
        match &delivery {
            Delivery::Joined { connection, .. }
            | Delivery::Published { connection, .. }
            | Delivery::Told { connection, .. } => match self.connections.find(*connection) {
                Some(connection) => connection.answer(delivery, self.cx),
                None => self.cx.give_back(&delivery),
            },
            Delivery::Lagged { channel, tenure } => {
                for subscriber in self.cx.hub.evict(channel, *tenure) {
                    if let Some(connection) = self.connections.find(subscriber.connection) {
                        connection.tell(Word::Lagged(subscriber.join), self.cx);
                    }
                }
            }
            Delivery::Publication(_) | Delivery::Gap { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
