use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidewire_model::{
    Action, Channel, Command, Envelope, ErrorCode, Event, Failure, Gap, GapReason, HistoryQuery,
    Identity, JoinId, Joined, Position, Publish, Recovery, Request, RequestId, Since, Subscribed,
};

use crate::subscription::{Asked, Joining, State, Subscription};
use crate::{Effect, Limits, Outputs, SavedSubscription, Snapshot};

/// One client's identity and subscriptions, as its connection's task sees them.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    limits: Limits,
    subscriptions: HashMap<Channel, Subscription>,
    /// Which channel a live or pending join belongs to.
    joins: HashMap<JoinId, Channel>,
    /// Channels whose turn to join has yet to come.
    queue: VecDeque<Channel>,
    joins_in_flight: usize,
    last_join: JoinId,
}

impl Session {
    pub fn new(identity: Identity, limits: Limits) -> Self {
        Self {
            identity,
            limits,
            subscriptions: HashMap::new(),
            joins: HashMap::new(),
            queue: VecDeque::new(),
            joins_in_flight: 0,
            last_join: JoinId::default(),
        }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What of this session should outlive its connection.
    pub fn snapshot(&self) -> Snapshot {
        let mut subscriptions: Vec<_> = self
            .subscriptions
            .iter()
            .map(|(channel, subscription)| SavedSubscription {
                channel: channel.clone(),
                start: subscription.start,
            })
            .collect();
        subscriptions.sort_by(|a, b| a.channel.cmp(&b.channel));
        Snapshot { identity: self.identity.clone(), subscriptions }
    }

    /// Every join the node may still hold, to be left when the connection ends.
    pub fn joins(&self) -> impl Iterator<Item = (&Channel, JoinId)> {
        self.joins.iter().map(|(join, channel)| (channel, *join))
    }

    /// Takes a command. `now` is in seconds since the Unix epoch.
    pub fn handle(&mut self, request: Request, now: u64, out: &mut Outputs) {
        let Request { id, command } = request;
        match command {
            Command::Connect(_) => {
                out.refuse(id, ErrorCode::AlreadyConnected, "this connection is connected");
            }
            Command::Ping => out.events.push(Event::Pong { request: id }),
            Command::Refresh { token } => out.effects.push(Effect::Refresh { request: id, token }),
            _ if self.identity.is_expired(now) => {
                let remedy = "the token has expired: send `refresh` with a new one";
                out.refuse(id, ErrorCode::TokenExpired, remedy);
            }
            Command::Subscribe { channel, since } => self.handle_subscribe(id, channel, since, out),
            Command::Unsubscribe { channel } => self.handle_unsubscribe(id, &channel, out),
            Command::Publish(publish) => self.handle_publish(id, publish, out),
            Command::History { channel, query } => self.handle_history(id, channel, query, out),
        }
    }

    fn handle_subscribe(
        &mut self,
        request: RequestId,
        channel: Channel,
        since: Since,
        out: &mut Outputs,
    ) {
        if !self.may(Action::Subscribe, &channel, request, out) {
            return;
        }
        if matches!(since, Since::Last(_)) && !self.may(Action::History, &channel, request, out) {
            return;
        }
        if self.subscriptions.contains_key(&channel) {
            let message = "already subscribed to this channel";
            return out.refuse(request, ErrorCode::AlreadySubscribed, message);
        }
        if self.subscriptions.len() >= self.limits.subscriptions {
            let most = self.limits.subscriptions;
            let message = format!("a connection may have {most} subscriptions");
            return out.refuse(request, ErrorCode::LimitExceeded, message);
        }
        self.subscribe(channel, Asked::ByClient { request: Some(request), since }, None);
        self.join_next(out);
    }

    fn handle_unsubscribe(&mut self, request: RequestId, channel: &Channel, out: &mut Outputs) {
        if !self.end(channel, out) {
            let message = "not subscribed to this channel";
            return out.refuse(request, ErrorCode::NotSubscribed, message);
        }
        let (request, channel) = (Some(request), channel.clone());
        out.events.push(Event::Unsubscribed { request, channel, failure: None });
        out.effects.push(Effect::Save);
        self.join_next(out);
    }

    fn handle_publish(&mut self, request: RequestId, publish: Publish, out: &mut Outputs) {
        if !self.may(Action::Publish, &publish.channel, request, out) {
            return;
        }
        if publish.payload.len() > self.limits.payload_bytes {
            let (bytes, most) = (publish.payload.len(), self.limits.payload_bytes);
            let message = format!("payload has {bytes} bytes, at most {most} are allowed");
            return out.refuse(request, ErrorCode::PayloadTooLarge, message);
        }
        out.effects.push(Effect::Publish { request, publish });
    }

    fn handle_history(
        &mut self,
        request: RequestId,
        channel: Channel,
        query: HistoryQuery,
        out: &mut Outputs,
    ) {
        if self.may(Action::History, &channel, request, out) {
            let query = HistoryQuery { limit: query.limit.clamp(1, self.limits.page), ..query };
            out.effects.push(Effect::History { request, channel, query });
        }
    }

    /// Refuses what is not granted, in the same words whether or not the channel exists.
    fn may(&self, action: Action, channel: &Channel, id: RequestId, out: &mut Outputs) -> bool {
        let allowed = self.identity.permissions.allows(action, channel);
        if !allowed {
            let message = match action {
                Action::Subscribe => "the token does not allow subscribing to this channel",
                Action::Publish => "the token does not allow publishing to this channel",
                Action::History => "the token does not allow reading this channel's history",
            };
            out.refuse(id, ErrorCode::PermissionDenied, message);
        }
        allowed
    }

    fn subscribe(&mut self, channel: Channel, asked: Asked, start: Option<Position>) {
        self.queue.push_back(channel.clone());
        self.subscriptions.insert(channel, Subscription::new(asked, start));
    }

    /// Drops a subscription; says whether there was one.
    fn end(&mut self, channel: &Channel, out: &mut Outputs) -> bool {
        let Some(subscription) = self.subscriptions.remove(channel) else { return false };
        if let Some(join) = subscription.join() {
            self.joins.remove(&join);
            out.effects.push(Effect::Leave { channel: channel.clone(), join });
        }
        if matches!(subscription.state, State::Joining(_)) {
            self.joins_in_flight -= 1;
        }
        self.queue.retain(|queued| queued != channel);
        true
    }

    /// Starts as many of the queued joins as may be in flight.
    fn join_next(&mut self, out: &mut Outputs) {
        while self.joins_in_flight < self.limits.joins_in_flight {
            let Some(channel) = self.queue.pop_front() else { return };
            let Some(subscription) = self.subscriptions.get_mut(&channel) else { continue };
            let State::Queued(asked) = subscription.state else { continue };
            self.last_join.0 += 1;
            let join = self.last_join;
            let since = subscription.since(asked);
            subscription.state = State::Joining(Joining { join, asked });
            self.joins.insert(join, channel.clone());
            self.joins_in_flight += 1;
            out.effects.push(Effect::Join { channel, since, join });
        }
    }

    /// Takes the answer to a join. One that belongs to an earlier attempt is dropped.
    pub fn joined(&mut self, join: JoinId, outcome: Result<Joined, Failure>, out: &mut Outputs) {
        let Some(channel) = self.joins.get(&join).cloned() else { return };
        let Some(subscription) = self.subscriptions.get_mut(&channel) else { return };
        let State::Joining(joining) = subscription.state else { return };
        self.joins_in_flight -= 1;
        match outcome {
            Ok(joined) => self.go_on(&channel, joining, joined, out),
            Err(failure) => self.fail(&channel, joining, failure, out),
        }
        self.join_next(out);
    }

    fn go_on(&mut self, channel: &Channel, joining: Joining, joined: Joined, out: &mut Outputs) {
        let Joining { join, asked } = joining;
        let Some(subscription) = self.subscriptions.get_mut(channel) else { return };
        match asked {
            Asked::ByClient { request, .. } => {
                if subscription.start.is_none() {
                    subscription.start = Some(joined.position);
                    out.effects.push(Effect::Save);
                }
                out.events.push(Event::Subscribed(Subscribed {
                    request,
                    channel: channel.clone(),
                    recovery: joined.recovery,
                    position: joined.position,
                }));
            }
            Asked::ToCatchUp => out.events.extend(gap_event(channel, &joined)),
        }
        subscription.position = Some(joined.end());
        if joined.live {
            subscription.state = State::Live { join };
        } else {
            subscription.state = State::Queued(Asked::ToCatchUp);
            self.joins.remove(&join);
            self.queue.push_back(channel.clone());
        }
        push_publications(channel, joined.missed, out);
    }

    /// A first join that fails is the client's to repeat. Any other is ours: the subscription
    /// stays, and catches up when it can.
    fn fail(&mut self, channel: &Channel, joining: Joining, failure: Failure, out: &mut Outputs) {
        let Joining { join, asked } = joining;
        self.joins.remove(&join);
        if let Asked::ByClient { request: request @ Some(_), .. } = asked {
            self.subscriptions.remove(channel);
            // It may have been saved for another subscription's sake since it was asked for.
            out.effects.push(Effect::Save);
            out.events.push(Event::Failed { request, failure });
        } else if let Some(subscription) = self.subscriptions.get_mut(channel) {
            subscription.state = State::Queued(asked);
            self.queue.push_back(channel.clone());
        }
    }

    /// Takes a publication. It is dropped unless it belongs to a live join and comes after what the
    /// client has seen.
    pub fn deliver(&mut self, join: JoinId, envelope: Arc<Envelope>, out: &mut Outputs) {
        let Some((channel, subscription)) = live(&self.joins, &mut self.subscriptions, join) else {
            return;
        };
        let seen = subscription.position.map_or(0, |position| position.offset);
        let offset = envelope.position.offset;
        if offset <= seen {
            return;
        }
        if offset > seen + 1 {
            // The node keeps subscribers in step, so this is a mistake of ours; reading on from the
            // log mends it without the client noticing.
            let channel = channel.clone();
            return self.catch_up(&channel, out);
        }
        subscription.position = Some(envelope.position);
        let channel = channel.clone();
        push_publications(&channel, vec![envelope], out);
    }

    /// Takes notice of publications that will not come.
    pub fn gap(&mut self, join: JoinId, gap: Gap, out: &mut Outputs) {
        let Some((channel, subscription)) = live(&self.joins, &mut self.subscriptions, join) else {
            return;
        };
        let is_behind =
            subscription.position.is_some_and(|position| position.offset <= gap.position.offset);
        if gap.reason == GapReason::Rewind && is_behind {
            // The client never saw the lost tail, so there is nothing to take back.
            return;
        }
        subscription.position = Some(gap.position);
        out.events.push(Event::Gap { channel: channel.clone(), gap });
    }

    /// Takes notice that nothing more comes under a join, because this connection reads too slowly.
    pub fn lagged(&mut self, join: JoinId, out: &mut Outputs) {
        let Some(channel) = self.joins.get(&join).cloned() else { return };
        self.catch_up(&channel, out);
    }

    fn catch_up(&mut self, channel: &Channel, out: &mut Outputs) {
        let Some(subscription) = self.subscriptions.get_mut(channel) else { return };
        let State::Live { join } = subscription.state else { return };
        subscription.state = State::Queued(Asked::ToCatchUp);
        self.joins.remove(&join);
        self.queue.push_back(channel.clone());
        out.effects.push(Effect::Leave { channel: channel.clone(), join });
        self.join_next(out);
    }
}

/// The subscription that takes deliveries of `join`, if it is live.
fn live<'a>(
    joins: &'a HashMap<JoinId, Channel>,
    subscriptions: &'a mut HashMap<Channel, Subscription>,
    join: JoinId,
) -> Option<(&'a Channel, &'a mut Subscription)> {
    let channel = joins.get(&join)?;
    let subscription = subscriptions.get_mut(channel)?;
    matches!(subscription.state, State::Live { .. }).then_some((channel, subscription))
}

/// What a client must hear when catching up could not go on from its position.
fn gap_event(channel: &Channel, joined: &Joined) -> Option<Event> {
    let reason = match joined.recovery {
        Recovery::NotAsked | Recovery::Recovered => return None,
        Recovery::Rewound => GapReason::Rewind,
        Recovery::Failed(reason) => reason,
    };
    let gap = Gap { reason, position: joined.position, missed: joined.lost };
    Some(Event::Gap { channel: channel.clone(), gap })
}

/// Adds publications to the last event if that is of the same channel, so that what gathered while
/// the connection was busy leaves as one batch.
fn push_publications(channel: &Channel, mut missed: Vec<Arc<Envelope>>, out: &mut Outputs) {
    if missed.is_empty() {
        return;
    }
    match out.events.last_mut() {
        Some(Event::Publications { channel: last, publications }) if last == channel => {
            publications.append(&mut missed);
        }
        _ => {
            let channel = channel.clone();
            out.events.push(Event::Publications { channel, publications: missed });
        }
    }
}

mod renewal;
mod resumption;
#[cfg(test)]
mod tests;
