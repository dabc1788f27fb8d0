//! How much of what it missed a client is sent that comes back.

use std::sync::Arc;

use tidewire_model::{Channel, Envelope, Event, Gap, GapReason, Joined, Position, Recovery};

use crate::Limits;

/// What has been sent of what was missed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Replayed {
    publications: u32,
    bytes: usize,
}

impl Replayed {
    pub(crate) fn add(&mut self, missed: &[Arc<Envelope>]) {
        let count = u32::try_from(missed.len()).unwrap_or(u32::MAX);
        self.publications = self.publications.saturating_add(count);
        self.bytes += missed.iter().map(|envelope| envelope.payload.len()).sum::<usize>();
    }

    /// Whether a channel has been sent enough.
    pub(crate) fn is_enough_for_one(&self, limits: &Limits) -> bool {
        self.publications >= limits.replay_each
    }

    /// Whether all channels together have.
    pub(crate) fn is_enough_for_all(&self, limits: &Limits) -> bool {
        self.publications >= limits.replay_all || self.bytes >= limits.replay_bytes
    }
}

/// What a client is told whose subscription went on at the newest publication instead of after
/// `from`.
pub(crate) fn recovery_after(from: Position, joined: &Joined) -> Recovery {
    if joined.position == from { Recovery::Recovered } else { Recovery::Failed(GapReason::Limit) }
}

/// The same, where the subscription had been confirmed before.
pub(crate) fn gap_after(channel: &Channel, from: Position, joined: &Joined) -> Option<Event> {
    let position = joined.position;
    if position == from {
        return None;
    }
    let is_same = position.epoch == from.epoch;
    let missed = is_same.then(|| position.offset.saturating_sub(from.offset));
    let gap = Gap { reason: GapReason::Limit, position, missed };
    Some(Event::Gap { channel: channel.clone(), gap })
}

/// What a client must hear when catching up could not go on from its position.
pub(crate) fn gap_event(channel: &Channel, joined: &Joined) -> Option<Event> {
    let reason = match joined.recovery {
        Recovery::NotAsked | Recovery::Recovered => return None,
        Recovery::Rewound => GapReason::Rewind,
        Recovery::Failed(reason) => reason,
    };
    let gap = Gap { reason, position: joined.position, missed: joined.lost };
    Some(Event::Gap { channel: channel.clone(), gap })
}
