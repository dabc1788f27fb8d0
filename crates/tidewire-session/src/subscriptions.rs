//! The subscriptions of a session, found by channel and by join.
//!
//! Nearly every session has one or a few, and there are very many sessions: they are a sorted list
//! without slack, and an index over their joins is only made for those that have many.

use tidewire_model::{Channel, JoinId};

use crate::subscription::{Live, Pending, State, Subscription};

/// The subscriptions of a session.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// In the order of their channels, each once.
    list: Vec<Subscription>,
    /// `None` while there are at most [`FEW`].
    joins: Option<Box<JoinIndex>>,
}

/// How many are looked through one by one for a join: they are next to each other in ten cache
/// lines, and an index would be another place to wait for.
const FEW: usize = 8;

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// In the order of their channels.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.list.iter()
    }

    /// The same, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Subscription> {
        self.list.iter_mut()
    }

    pub(crate) fn contains(&self, channel: &Channel) -> bool {
        self.search(channel).is_ok()
    }

    /// The subscription that `join` is the current join of.
    pub(crate) fn of_join(&mut self, join: JoinId) -> Option<&mut Subscription> {
        let Some(joins) = &self.joins else {
            return self.list.iter_mut().find(|subscription| subscription.join() == Some(join));
        };
        let at = joins.place(join)?;
        self.list.get_mut(at).filter(|subscription| subscription.join() == Some(join))
    }

    /// The subscription that takes deliveries of `join`, if it is live.
    pub(crate) fn live(&mut self, join: JoinId) -> Option<(&Channel, &mut Live)> {
        match self.of_join(join)? {
            Subscription { channel, state: State::Live(live) } => Some((channel, live)),
            _ => None,
        }
    }

    /// The subscription whose `join` awaits its answer.
    pub(crate) fn joining(&mut self, join: JoinId) -> Option<(&Channel, &mut Pending)> {
        match self.of_join(join)? {
            Subscription { channel, state: State::Pending(pending) } => Some((channel, pending)),
            _ => None,
        }
    }

    /// Adds one of a channel that has none.
    pub(crate) fn insert(&mut self, subscription: Subscription) {
        let Err(at) = self.search(&subscription.channel) else { return };
        if self.list.len() < FEW {
            self.list.reserve_exact(1);
        }
        self.list.insert(at, subscription);
        match &mut self.joins {
            Some(joins) => joins.make_room(at),
            None if self.list.len() > FEW => {
                self.joins = Some(Box::new(JoinIndex::of(&self.list)));
            }
            None => {}
        }
    }

    pub(crate) fn remove(&mut self, channel: &Channel) -> Option<Subscription> {
        let at = self.search(channel).ok()?;
        let subscription = self.list.remove(at);
        if self.list.len() <= FEW {
            self.joins = None;
        } else if let Some(joins) = &mut self.joins {
            joins.close_gap(at);
        }
        if self.list.len() <= self.list.capacity() / 4 {
            self.list.shrink_to_fit();
        }
        Some(subscription)
    }

    /// Lets `join`, which is greater than any before, be found as the one of `channel`'s
    /// subscription if that waits for its turn, and gives that out to be started.
    pub(crate) fn start(&mut self, channel: &Channel, join: JoinId) -> Option<&mut Pending> {
        let at = self.search(channel).ok()?;
        let State::Pending(pending) = &mut self.list.get_mut(at)?.state else { return None };
        if pending.join.is_some() {
            return None;
        }
        pending.join = Some(join);
        if let Some(joins) = &mut self.joins {
            joins.push(join, at);
        }
        Some(pending)
    }

    fn search(&self, channel: &Channel) -> Result<usize, usize> {
        self.list.binary_search_by(|subscription| subscription.channel.cmp(channel))
    }
}

/// Where in the list the subscription of a join is.
///
/// Each subscription has one entry at most, its newest. That it has ended is seen from the
/// subscription.
#[derive(Debug)]
struct JoinIndex(Vec<(JoinId, usize)>);

impl JoinIndex {
    fn of(list: &[Subscription]) -> Self {
        let entry = |(at, subscription): (usize, &Subscription)| Some((subscription.join()?, at));
        let mut entries: Vec<_> = list.iter().enumerate().filter_map(entry).collect();
        entries.sort_unstable();
        Self(entries)
    }

    fn place(&self, join: JoinId) -> Option<usize> {
        let found = self.0.binary_search_by_key(&join, |&(join, _)| join).ok()?;
        self.0.get(found).map(|&(_, at)| at)
    }

    fn push(&mut self, join: JoinId, at: usize) {
        self.0.retain(|&(_, other)| other != at);
        self.0.push((join, at));
    }

    fn make_room(&mut self, at: usize) {
        for (_, place) in &mut self.0 {
            if *place >= at {
                *place += 1;
            }
        }
    }

    fn close_gap(&mut self, at: usize) {
        self.0.retain(|&(_, place)| place != at);
        for (_, place) in &mut self.0 {
            if *place > at {
                *place -= 1;
            }
        }
    }
}
