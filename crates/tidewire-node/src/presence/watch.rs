//! Noticing that those who watch a channel's presence here have missed something.
//!
//! Changes are numbered by the store, and the network may lose one. So what was heard last is held against
//! the store now and again; who is behind twice is told to load the list again.

use std::sync::Arc;
use std::time::Duration;

use tidewire_model::{Channel, Position, PresenceChange, Publication, TenantChannel};
use tidewire_store::{Standing, StoreError};
use tokio::time::Instant;

use super::{Desk, Done};
use crate::shard::{self, Shard};

/// What is known of a channel whose presence somebody here watches.
pub(super) struct Watched {
    /// Where the last change stands that came by.
    heard: Option<Position>,
    /// Where the store was when it was ahead of that.
    ahead: Option<Position>,
    next: Instant,
}

const COMPARED_EVERY: Duration = Duration::from_secs(10);
/// What is on its way has arrived by then.
const LOOKED_AGAIN: Duration = Duration::from_secs(1);
const MOST_COMPARED: usize = 200;

impl Desk {
    /// Begins to hold against the store what is heard of presence, if that is what the channel is for.
    pub(crate) fn follow(&mut self, reserved: &TenantChannel, now: Instant) {
        if let Some(channel) = watched(reserved) {
            self.watched.insert(channel, Watched { heard: None, ahead: None, next: now });
        }
    }

    pub(crate) fn forget(&mut self, reserved: &TenantChannel) {
        if let Some(channel) = watched(reserved) {
            self.watched.remove(&channel);
        }
    }

    /// Takes note of a change that comes by.
    pub(crate) fn hear(&mut self, publication: &Publication) {
        let Some(channel) = watched(&publication.channel) else { return };
        let Some(watched) = self.watched.get_mut(&channel) else { return };
        let change = PresenceChange::of(&publication.payload);
        let Some(position) = change.and_then(|change| change.position) else { return };
        let position = Position::new(position.epoch, position.offset);
        if watched.heard.is_none_or(|heard| is_ahead(position, heard)) {
            watched.heard = Some(position);
        }
    }

    /// Something may have been lost: compares all, soon.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.watched.values_mut().for_each(|watched| watched.next = now);
    }

    pub(crate) fn watched_count(&self) -> usize {
        self.watched.len()
    }
}

/// Whose presence a channel is for, if for any's.
fn watched(reserved: &TenantChannel) -> Option<TenantChannel> {
    let channel: Channel = reserved.channel.watched()?;
    Some(TenantChannel::new(reserved.tenant.clone(), channel))
}

/// Whether a position is of later than another one: epochs say which life of the store is.
fn is_ahead(position: Position, of: Position) -> bool {
    let [this, other] = [position, of].map(|position| position.epoch.incarnation());
    this > other || (this == other && position.offset > of.offset)
}

impl Shard {
    pub(super) fn compare_watched(&mut self, now: Instant) {
        let due = self.desk.watched.iter_mut().filter(|(_, watched)| watched.next <= now);
        let mut due: Vec<_> = due.collect();
        // Whoever has waited longest comes first, or the last would never have their turn.
        due.sort_by_key(|(_, watched)| watched.next);
        due.truncate(MOST_COMPARED);
        let mut channels = Vec::with_capacity(due.len());
        for (channel, watched) in due {
            watched.next = now + COMPARED_EVERY;
            channels.push(channel.clone());
        }
        if channels.is_empty() {
            return;
        }
        let around = Arc::clone(&self.around);
        self.running.push(Box::pin(async move {
            let counted = around.presence.store.occupancies(&channels).await;
            shard::Done::Presence(Done::Compared(channels, counted))
        }));
    }

    pub(crate) fn finish_compare_watched(
        &mut self,
        channels: &[TenantChannel],
        counted: Result<Vec<Standing>, StoreError>,
        now: Instant,
    ) {
        let standings = match counted {
            Ok(standings) => standings,
            Err(error) => return tracing::debug!(%error, "cannot compare presence"),
        };
        for (channel, Standing { occupancy, is_counted }) in channels.iter().zip(standings) {
            let Some(watched) = self.desk.watched.get_mut(channel) else { continue };
            if !watched.is_behind(occupancy.position, now) {
                continue;
            }
            if is_counted {
                // Whoever was to tell how many there are may be gone.
                self.tell_here(channel, &PresenceChange::at(occupancy), now);
            } else {
                self.around.presence.metrics.lost.increment(1);
                self.tell_here(channel, &PresenceChange::loss(), now);
            }
        }
    }

    /// Tells those who watch a channel here, and nobody else.
    fn tell_here(&mut self, channel: &TenantChannel, change: &PresenceChange, now: Instant) {
        let Some(reserved) = channel.channel.presence() else { return };
        let publication = Publication {
            channel: TenantChannel::new(channel.tenant.clone(), reserved),
            position: Position::NONE,
            id: None,
            time_ms: 0,
            publisher: None,
            payload: change.to_payload(),
        };
        self.receive_fleeting(publication, now);
    }
}

impl Watched {
    /// Takes where the store is. Whether something is missing that must have come by now.
    fn is_behind(&mut self, store: Position, now: Instant) -> bool {
        let Some(heard) = self.heard else {
            self.heard = Some(store);
            return false;
        };
        if !is_ahead(store, heard) {
            self.ahead = None;
            return false;
        }
        if self.ahead.is_some_and(|ahead| is_ahead(ahead, heard)) {
            (self.heard, self.ahead) = (Some(store), None);
            return true;
        }
        self.ahead = Some(store);
        self.next = now + LOOKED_AGAIN;
        false
    }
}
