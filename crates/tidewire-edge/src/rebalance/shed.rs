//! How many clients a node sheds in a second.

use std::time::Duration;

use tidewire_model::NodeId;
use tidewire_store::{NodeLease, NodeLoad, NodeState};
use tokio::time::Instant;

use crate::RebalanceConfig;
use crate::drain::{is_hot, spare};

/// Decides once a second how many clients to ask to go elsewhere, from what the leases say: none until the
/// node has been well above its share for a while, then as many as may be until it is hardly above it.
///
/// Every node sheds only what it has too much itself, and stops above the share: so what all of them shed
/// together is what is too much, and nobody has to shed what others have shed.
#[derive(Debug)]
pub(super) struct Shed {
    config: RebalanceConfig,
    began: Instant,
    stage: Stage,
    /// Parts of [`A_CLIENT`] that the second before had to leave over.
    carried: u64,
    /// Of those asked lately, who has gone elsewhere, and who stayed or came back.
    gone: u32,
    back: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// It has about its share, or less.
    Even,
    /// It has too much, since then.
    Above(Instant),
    Shedding,
    /// It has too much, and shedding is in vain, until then.
    Resting(Instant),
}

/// What clients that were asked became, since this was asked before.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Fates {
    pub(super) gone: u32,
    /// They stayed, or came back.
    pub(super) back: u32,
}

/// What a node has of all clients, and what others could take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Standing {
    /// What it has, without those who were asked and are still here.
    own: u64,
    /// What it would have if all had as much for their weight.
    share: u64,
    /// The same with everybody who is on the way, of whom some are counted where they go already.
    largest_share: u64,
    /// Clients a second that the others can take of this node.
    budget: u64,
}

/// A thousandth of what it has in a minute is this part of a client for each client that it has, in a second.
const A_CLIENT: u64 = 1_000 * 60;
/// A node is well above its share from this part of it, in hundredths, and hardly any more below that.
const MUCH_PERCENT: u64 = 15;
const LITTLE_PERCENT: u64 = 5;
/// Or of as many clients: in small numbers chance is more than that.
const MUCH: u64 = 30;
const LITTLE: u64 = 10;
/// Of this many who were asked more than half have to go, or it is in vain.
const SAMPLE: u32 = 20;
/// How long it is not tried again then.
const REST: Duration = Duration::from_mins(10);

impl Shed {
    pub(super) fn new(config: RebalanceConfig, now: Instant) -> Self {
        Self { config, began: now, stage: Stage::Even, carried: 0, gone: 0, back: 0 }
    }

    /// How many clients to ask in this second; to be asked each second. There is no `standing` where
    /// nothing can be shed: a node drains, or no other takes clients.
    pub(super) fn look(&mut self, now: Instant, standing: Option<Standing>) -> u64 {
        if matches!(self.stage, Stage::Resting(until) if now < until) {
            return 0;
        }
        let Some(standing) = standing else {
            self.stage = Stage::Even;
            return 0;
        };
        self.stage = self.next_stage(now, standing);
        if self.stage != Stage::Shedding {
            self.carried = 0;
            return 0;
        }
        let earned = (standing.own * u64::from(self.config.permille)).max(A_CLIENT);
        let parts = self.carried + earned;
        self.carried = parts % A_CLIENT;
        // Those on the way may be all it takes.
        let most = standing.own.saturating_sub(standing.largest_share + standing.little());
        (parts / A_CLIENT).min(most).min(standing.budget)
    }

    fn next_stage(&self, now: Instant, standing: Standing) -> Stage {
        let RebalanceConfig { patience, .. } = self.config;
        match self.stage {
            Stage::Shedding if standing.above(Standing::little) > 0 => Stage::Shedding,
            Stage::Shedding => Stage::Even,
            _ if standing.above(Standing::much) == 0 => Stage::Even,
            // Who has just come up is what others are compared with, and not the other way round.
            Stage::Above(since) if now - since >= patience && now - self.began >= 2 * patience => {
                Stage::Shedding
            }
            Stage::Above(since) => Stage::Above(since),
            Stage::Even | Stage::Resting(_) => Stage::Above(now),
        }
    }

    /// Takes note of what became of those who were asked; says whether it rests from now on.
    pub(super) fn heed(&mut self, now: Instant, fates: Fates) -> bool {
        self.gone += fates.gone;
        self.back += fates.back;
        if self.gone + self.back < SAMPLE {
            return false;
        }
        let is_in_vain = self.back > self.gone;
        (self.gone, self.back) = (0, 0);
        if is_in_vain {
            self.stage = Stage::Resting(now + REST);
        }
        is_in_vain
    }

    pub(super) fn is_resting(&self) -> bool {
        matches!(self.stage, Stage::Resting(_))
    }
}

impl Standing {
    /// What `members` say of a node that has `clients` of its own, of which `underway` were asked to go:
    /// some of them are still here, and the others may not be in anybody's lease yet.
    ///
    /// Nothing if a node drains, or no other takes clients.
    pub(super) fn of(
        own: &NodeId,
        members: &[NodeLease],
        clients: u64,
        underway: Underway,
    ) -> Option<Self> {
        if members.iter().any(|lease| lease.state == NodeState::Draining) {
            return None;
        }
        let (mine, others): (Vec<_>, Vec<_>) = members.iter().partition(|lease| lease.node == *own);
        let weight = |lease: &&NodeLease| u64::from(lease.weight.max(1));
        let mine = mine.first().map(weight)?;
        let all = mine + others.iter().map(weight).sum::<u64>();
        if others.is_empty() {
            return None;
        }
        let here = clients.saturating_sub(underway.here);
        let elsewhere: u64 = others.iter().map(|lease| lease.connections).sum();
        let share_of = |total: u64| {
            let share = u128::from(total) * u128::from(mine) / u128::from(all);
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        let loads = || others.iter().map(|lease| &lease.load);
        let is_any_hot = loads().any(is_hot);
        let budget = if is_any_hot { 0 } else { half_of_spare(loads()) };
        Some(Self {
            own: here,
            share: share_of(here + elsewhere),
            largest_share: share_of(here + elsewhere + underway.here + underway.gone),
            budget,
        })
    }

    /// Clients above the share.
    pub(super) fn excess(self) -> u64 {
        self.own.saturating_sub(self.share)
    }

    fn much(self) -> u64 {
        (self.share * MUCH_PERCENT / 100).max(MUCH)
    }

    fn little(self) -> u64 {
        (self.share * LITTLE_PERCENT / 100).max(LITTLE)
    }

    /// Clients beyond what is tolerated above the share.
    fn above(self, tolerated: fn(Self) -> u64) -> u64 {
        self.excess().saturating_sub(tolerated(self))
    }
}

/// Clients that were asked to go, of which it is not known yet what became of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Underway {
    /// Those whose connection is here.
    pub(super) here: u64,
    pub(super) gone: u64,
}

/// Drains come first, and who connects: half of what a drain would use.
fn half_of_spare<'a>(loads: impl Iterator<Item = &'a NodeLoad>) -> u64 {
    spare(loads) / 2
}

#[cfg(test)]
mod tests;
