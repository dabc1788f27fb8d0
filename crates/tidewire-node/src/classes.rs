//! Channels whose class becomes another while they are followed.
//!
//! Each goes on with a feed of the other kind, and those who listen to it are told of a gap: no
//! position means the same before and after. Nodes learn of it at different times. What still comes
//! numbered by the log is delivered under a number of this node's own; what comes without a number
//! has no place where the log numbers, and is told as a gap.

use std::collections::VecDeque;
use std::time::Duration;

use tidewire_broker::Partition;
use tidewire_model::{DeliveryClass, Gap, GapReason, Position, TenantChannel};
use tokio::time::Instant;

use crate::channel::ChannelState;
use crate::feed::{Feed, Step};
use crate::fleeting::drawn_epoch;
use crate::ring::Ring;
use crate::shard::Shard;

/// Channels that are to go on as another class.
#[derive(Debug, Default)]
pub(crate) struct Reclassing {
    /// Rules have changed since the channels were held against them.
    is_due: bool,
    waiting: VecDeque<TenantChannel>,
    next_at: Option<Instant>,
}

/// How many channels go on as another class before anything else has its turn.
const BATCH: usize = 256;
/// How long everything else has before the next of them.
const PAUSE: Duration = Duration::from_millis(1);
/// What comes without a number to a channel that the log numbers is told once in this time.
const LOSSES_EVERY: Duration = Duration::from_secs(1);

impl Reclassing {
    /// When the next channels have their turn, if any wait.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next_at
    }
}

impl ChannelState {
    /// Takes notice of a publication that has no place in this channel.
    pub(crate) fn lose(&mut self, now: Instant) {
        self.loss_told_at.get_or_insert(now + LOSSES_EVERY);
    }

    /// What is to be told now of what was lost. Before a feed has begun nobody has missed anything
    /// that its beginning does not tell.
    pub(crate) fn due_loss(&mut self, now: Instant) -> Option<Gap> {
        self.loss_told_at.take_if(|at| *at <= now)?;
        self.feed.position().map(reset)
    }
}

impl Shard {
    /// Takes the rules that hold now.
    pub(crate) fn look(&mut self) {
        self.reclassing.is_due |= self.rules.look();
    }

    /// A feed for a channel as its class is now.
    pub(crate) fn new_feed(&self, channel: &TenantChannel) -> Feed {
        let ring = Ring::new(self.around.rings.now());
        if self.is_unlogged(channel) {
            Feed::fleeting(ring, drawn_epoch(&self.around.random))
        } else {
            Feed::new(ring)
        }
    }

    fn is_unlogged(&self, channel: &TenantChannel) -> bool {
        match self.rules.class(channel) {
            DeliveryClass::Recoverable | DeliveryClass::Durable => false,
            DeliveryClass::Ephemeral => true,
        }
    }

    /// If rules have changed, finds the channels that are followed as another class than they have.
    /// A change costs a look at every channel, so it is for once in a second.
    pub(crate) fn compare_classes(&mut self, now: Instant) {
        self.look();
        if !std::mem::take(&mut self.reclassing.is_due) {
            return;
        }
        self.recount(now);
        let others = self
            .channels
            .iter()
            .filter(|(channel, state)| state.feed.is_fleeting() != self.is_unlogged(channel));
        let mut others: Vec<_> = others.map(|(channel, _)| channel.clone()).collect();
        others.sort_unstable();
        self.reclassing.waiting = others.into();
        self.reclass_some(now);
    }

    /// Has some of the channels that wait for it go on as the class they have.
    pub(crate) fn reclass_some(&mut self, now: Instant) {
        let count = self.reclassing.waiting.len().min(BATCH);
        let channels: Vec<_> = self.reclassing.waiting.drain(..count).collect();
        for channel in channels {
            self.reclass(&channel, now);
        }
        let is_done = self.reclassing.waiting.is_empty();
        self.reclassing.next_at = (!is_done).then(|| now + PAUSE);
    }

    fn reclass(&mut self, channel: &TenantChannel, now: Instant) {
        let mut feed = self.new_feed(channel);
        let Some(state) = self.channels.get_mut(channel) else { return };
        if state.feed.is_fleeting() == feed.is_fleeting() {
            return;
        }
        if let Some(settled_at) = self.interest.settled_at(&Partition::of(channel)) {
            feed.begin(settled_at, now);
        }
        if feed.is_fleeting() {
            self.checks.forget(channel);
        } else {
            self.checks.give_turn(channel, now);
        }
        if !state.audience.is_empty() {
            match feed.position() {
                Some(at) => self.steps.push(Step::Gap(reset(at))),
                None => feed.begin_with_gap(),
            }
        }
        state.feed = feed;
        state.loss_told_at = None;
        state.put_joiners_back();
        self.settle(channel, now);
    }
}

fn reset(position: Position) -> Gap {
    Gap { reason: GapReason::Reset, position, missed: None }
}
