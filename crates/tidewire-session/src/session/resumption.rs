use std::collections::HashMap;
use std::sync::Arc;

use tidewire_model::{Channel, ErrorCode, Event, Failure, Position, Since};

use super::Session;
use crate::subscription::{Asked, Pending, Subscription};
use crate::{Limits, Outputs, SavedSubscription, Snapshot};

impl Session {
    /// Takes up a stored session. Each of its subscriptions goes on from the client's own position,
    /// or from where it began if the client names none.
    ///
    /// A channel that only the client names is subscribed to as well: the store hears of a
    /// subscription some time after the client does. What the identity, which may have been renewed,
    /// does not allow ends, and so does what only the client names if the tenant has as many channels as
    /// it may.
    pub fn resume(
        snapshot: Snapshot,
        positions: Vec<(Channel, Position)>,
        limits: impl Into<Arc<Limits>>,
        out: &mut Outputs,
    ) -> Self {
        let mut session = Self::new(snapshot.identity, limits);
        for grant in snapshot.grants {
            session.take_grant(grant);
        }
        let reached: HashMap<Channel, Position> = positions.iter().cloned().collect();
        for SavedSubscription { channel, start, delta } in snapshot.subscriptions {
            let position = reached.get(&channel).copied().or(start);
            let pending = Pending::new(resumed_at(position), start, delta).known();
            session.take_up(channel, pending, out);
        }
        for (channel, position) in positions {
            let asked = resumed_at(Some(position));
            session.take_up(channel, Pending::new(asked, None, None), out);
        }
        session.drop_needless_grants();
        session.take_up_presence(snapshot.presence, out);
        session
    }

    /// What of this session should outlive its connection.
    pub fn snapshot(&self) -> Snapshot {
        let saved = |subscription: &Subscription| SavedSubscription {
            channel: subscription.channel.clone(),
            start: subscription.start(),
            delta: subscription.delta(),
        };
        let subscriptions = self.subscriptions.iter().filter(|one| !one.channel.is_reserved());
        let subscriptions = subscriptions.map(saved).collect();
        let presence = self.saved_presence();
        let grants = self.grants().to_vec();
        Snapshot { identity: self.identity.clone(), subscriptions, presence, grants }
    }

    pub(super) fn take_up(&mut self, channel: Channel, pending: Pending, out: &mut Outputs) {
        if self.subscriptions.contains(&channel) {
            return;
        }
        if let Some(failure) = self.refusal(&channel) {
            let failure = Some(failure);
            return out.events.push(Event::Unsubscribed { request: None, channel, failure });
        }
        self.subscribe(channel, pending, out);
    }

    fn refusal(&self, channel: &Channel) -> Option<Failure> {
        if !self.allows_being_in(channel) {
            let message = "the token does not allow subscribing to this channel";
            return Some(Failure::new(ErrorCode::PermissionDenied, message));
        }
        let most = self.limits.subscriptions;
        (self.subscriptions.len() >= most).then(|| {
            let message = format!("a connection may have {most} subscriptions");
            Failure::new(ErrorCode::LimitExceeded, message)
        })
    }
}

pub(super) fn resumed_at(position: Option<Position>) -> Asked {
    Asked::ByClient { request: None, since: position.map_or(Since::Now, Since::Position) }
}
