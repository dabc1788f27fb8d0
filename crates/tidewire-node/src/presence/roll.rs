//! What a shard holds of presence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidewire_model::{
    FormerMember, Incarnation, Member, MemberId, MemberWord, SessionId, TenantChannel, UserId,
};
use tidewire_store::{Age, Entry, Move};
use tokio::time::Instant;

use super::Answer;
use super::count::Counts;
use super::watch::Watched;
use crate::timers::Timers;

/// All that a shard holds of presence.
#[derive(Default)]
pub(crate) struct Desk {
    /// By the part of the store that they are in, whose primaries fail over apart from each other.
    pub(super) rolls: BTreeMap<u16, BTreeMap<TenantChannel, Roll>>,
    pub(super) parts: BTreeMap<u16, PartState>,
    /// When to call the store again about a channel.
    pub(super) retries: Timers,
    /// When to ask the store whether it is still to be told how many there are in a channel.
    pub(super) owed: Timers,
    pub(super) counts: Counts,
    pub(super) watched: BTreeMap<TenantChannel, Watched>,
    /// Who has gone of late, oldest first: a failover may bring them back.
    pub(super) gone: VecDeque<Gone>,
    /// Members that are to be told to the store again.
    pub(super) asserting: VecDeque<(u16, TenantChannel, SessionId)>,
    /// How many are held, in all channels.
    pub(super) held: usize,
    /// Calls of the store that say how it stands with members.
    pub(super) under_way: usize,
    /// The last channel of which members were told to the store for no other reason than that it was their turn.
    pub(super) turn: Option<(u16, TenantChannel)>,
    /// The last part whose life was asked for.
    pub(super) looked: u16,
    pub(super) ticked_at: Option<Instant>,
    /// When everybody is told to the store once more, after it could not be reached.
    pub(super) settled_at: Option<Instant>,
    version: u32,
}

/// The members that this shard's clients have made in one channel.
#[derive(Default)]
pub(super) struct Roll {
    pub(super) held: BTreeMap<SessionId, Held>,
    /// Those of whom the store has not been told how it stands with them.
    pub(super) unsaid: BTreeSet<SessionId>,
    pub(super) is_under_way: bool,
    pub(super) failures: u32,
    pub(super) awaiting: Vec<Awaiting>,
}

/// How it stands with one session in a channel.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) age: Age,
    pub(super) user: UserId,
    pub(super) word: Option<MemberWord>,
    pub(super) wish: Wish,
}

/// What is to become of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    Here,
    /// Its connection is lost: it is waited for, so long at least.
    Away {
        at_least: Duration,
    },
    Gone,
}

/// Somebody who is told when the store has what it said.
pub(super) struct Awaiting {
    pub(super) session: SessionId,
    pub(super) age: Age,
    pub(super) until: Instant,
    pub(super) answer: Answer,
    pub(super) is_leaving: bool,
}

/// Who has gone, and when that was said.
pub(super) struct Gone {
    pub(super) at: Instant,
    pub(super) part: u16,
    pub(super) channel: TenantChannel,
    pub(super) session: SessionId,
    pub(super) held: Held,
}

/// What is known of a part of the store.
pub(super) struct PartState {
    pub(super) incarnation: Option<Incarnation>,
    /// When it last answered.
    pub(super) answered_at: Instant,
}

/// Who has gone is remembered so long, and so many of them.
pub(super) const REMEMBERED: Duration = Duration::from_secs(30);
pub(super) const MOST_REMEMBERED: usize = 4_096;

impl Desk {
    /// Younger than anything that was said here before.
    pub(super) fn next_version(&mut self) -> u32 {
        self.version = self.version.wrapping_add(1).max(1);
        self.version
    }

    pub(super) fn roll(&mut self, part: u16, channel: &TenantChannel) -> Option<&mut Roll> {
        self.rolls.get_mut(&part)?.get_mut(channel)
    }

    pub(super) fn open_roll(&mut self, part: u16, channel: &TenantChannel) -> &mut Roll {
        self.rolls.entry(part).or_default().entry(channel.clone()).or_default()
    }

    /// Forgets a channel that nobody is in.
    pub(super) fn forget_if_empty(&mut self, part: u16, channel: &TenantChannel) {
        let Some(of_part) = self.rolls.get_mut(&part) else { return };
        let is_empty = of_part.get(channel).is_some_and(|roll| {
            roll.held.is_empty() && !roll.is_under_way && roll.awaiting.is_empty()
        });
        if is_empty {
            of_part.remove(channel);
            self.retries.set(channel, None);
        }
        if of_part.is_empty() {
            self.rolls.remove(&part);
        }
    }

    /// When something is to be done about a channel.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.retries.next().into_iter().chain(self.owed.next()).min()
    }

    /// Remembers who has gone.
    pub(super) fn remember(&mut self, gone: Gone) {
        if self.gone.len() == MOST_REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.push_back(gone);
    }

    /// Whether no call is under way: what is unsaid then could not be said.
    pub(crate) fn has_said_all(&self) -> bool {
        self.under_way == 0
    }

    /// How many members are held, and how many of them the store has not been told of.
    pub(crate) fn count(&self) -> (usize, usize) {
        let rolls = self.rolls.values().flat_map(BTreeMap::values);
        (self.held, rolls.map(|roll| roll.unsaid.len()).sum())
    }
}

impl Held {
    pub(super) fn to_move(&self, session: SessionId) -> Move {
        let age = self.age;
        match self.wish {
            Wish::Here => {
                let entry = Entry { session, user: self.user.clone(), word: self.word.clone() };
                Move::Enter { entry, age }
            }
            Wish::Away { .. } => Move::Away { session, age },
            Wish::Gone => Move::Leave { session, age },
        }
    }
}

pub(super) fn member(entry: &Entry) -> Member {
    let Entry { session, user, word } = entry;
    Member { id: MemberId::of(session), user: user.clone(), data: word.clone() }
}

pub(super) fn former(session: &SessionId, user: &UserId) -> FormerMember {
    FormerMember { id: MemberId::of(session), user: user.clone() }
}
