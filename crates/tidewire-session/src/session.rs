use std::collections::VecDeque;
use std::sync::Arc;

use tidewire_model::{
    Action, Channel, ChannelGrant, Command, Deltas, Envelope, ErrorCode, Event, Failure, Identity,
    JoinId, Joined, Position, Publish, Request, RequestId, SessionKind, Since, Subscribed,
};

use self::confirming::Ended;
use self::replay::{Replayed, gap_after, gap_event, recovery_after};
use crate::subscription::{Asked, Live, Pending, State, Subscription};
use crate::subscriptions::Subscriptions;
use crate::{Effect, Limits, Outputs, SavedMember, Wish};

/// One client's identity and subscriptions, as the owner of its connection sees them.
///
/// There is one per connection of a node, nearly all of them with a live subscription or two and
/// nothing under way, so what only a busy one has is kept out of it.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    limits: Arc<Limits>,
    subscriptions: Subscriptions,
    /// `None` while nothing waits, and of a session that is no member anywhere.
    rare: Option<Box<Rare>>,
    joins_in_flight: u16,
    kind: SessionKind,
    last_join: JoinId,
}

/// What a session has that waits for answers to joins, or for the store, or is a member of a channel.
#[derive(Debug, Default)]
struct Rare {
    /// Channels whose turn to join has yet to come; at most one entry for each subscription.
    channels: VecDeque<Channel>,
    /// What has been sent of what was missed, in all channels.
    replayed: Replayed,
    ended: Ended,
    entered: Vec<SavedMember>,
    /// What tokens of one channel allow, each of a subscription there is.
    grants: Vec<ChannelGrant>,
}

impl Session {
    /// `limits` are shared if they come in an `Arc`.
    pub fn new(identity: Identity, limits: impl Into<Arc<Limits>>) -> Self {
        Self {
            identity,
            limits: limits.into(),
            subscriptions: Subscriptions::default(),
            rare: None,
            joins_in_flight: 0,
            kind: SessionKind::default(),
            last_join: JoinId::default(),
        }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Every join the node may still hold, to be left when the connection ends.
    pub fn joins(&self) -> impl Iterator<Item = (&Channel, JoinId)> {
        self.subscriptions
            .iter()
            .filter_map(|subscription| Some((&subscription.channel, subscription.join()?)))
    }

    /// Takes a command. `now` is in seconds since the Unix epoch.
    pub fn handle(&mut self, request: Request, now: u64, out: &mut Outputs) {
        let Request { id, command } = request;
        match command {
            Command::Connect(_) => {
                out.refuse(id, ErrorCode::AlreadyConnected, "this connection is connected");
            }
            Command::Ping => out.events.push(Event::Pong { request: id }),
            Command::Refresh { token, channel: None } => {
                out.effects.push(Effect::Refresh { request: id, token });
            }
            _ if self.identity.is_expired(now) => {
                let remedy = "the token has expired: send `refresh` with a new one";
                out.refuse(id, ErrorCode::TokenExpired, remedy);
            }
            Command::Subscribe { channel, since, delta, token: Some(token) } => {
                let start = Some((since, delta));
                let wish = Wish { request: id, token, channel, start };
                out.effects.push(Effect::Examine(Box::new(wish)));
            }
            Command::Refresh { token, channel: Some(channel) } => {
                let wish = Wish { request: id, token, channel, start: None };
                out.effects.push(Effect::Examine(Box::new(wish)));
            }
            Command::Subscribe { channel, since, delta, token: None } => {
                let asked = Asked::ByClient { request: Some(id), since };
                self.handle_subscribe(id, channel, Pending::new(asked, None, delta), out);
            }
            Command::Unsubscribe { channel } => self.handle_unsubscribe(id, &channel, out),
            Command::Publish(publish) => self.handle_publish(id, publish, out),
            Command::History { channel, query } => self.handle_history(id, channel, query, out),
            Command::Watch { channel } => self.handle_watch(id, &channel, out),
            Command::Unwatch { channel } => self.handle_unwatch(id, &channel, out),
            Command::Enter { channel, word } => self.handle_enter(id, channel, word, out),
            Command::Leave { channel } => self.handle_leave(id, channel, out),
            Command::Members { channel, from, limit } => {
                self.handle_members(id, channel, (from, limit), out);
            }
        }
    }

    fn handle_subscribe(
        &mut self,
        request: RequestId,
        channel: Channel,
        pending: Pending,
        out: &mut Outputs,
    ) {
        if !self.may(Action::Subscribe, &channel, request, out) {
            return;
        }
        if matches!(pending.since(), Since::Last(_))
            && !self.may(Action::History, &channel, request, out)
        {
            return;
        }
        self.subscribe_anew(request, channel, pending, out);
    }

    /// Subscribes to what is allowed, unless that is so already, or there are too many.
    fn subscribe_anew(
        &mut self,
        request: RequestId,
        channel: Channel,
        pending: Pending,
        out: &mut Outputs,
    ) {
        if self.subscriptions.contains(&channel) {
            let message = "already subscribed to this channel";
            return out.refuse(request, ErrorCode::AlreadySubscribed, message);
        }
        if self.subscriptions.len() >= self.limits.subscriptions {
            return out.fail(request, self.limits.too_many_subscriptions());
        }
        self.subscribe(channel, pending, out);
    }

    fn handle_unsubscribe(&mut self, request: RequestId, channel: &Channel, out: &mut Outputs) {
        if !self.may_end(request, out) {
            return;
        }
        if !self.end(channel, out) {
            let message = "not subscribed to this channel";
            return out.refuse(request, ErrorCode::NotSubscribed, message);
        }
        self.confirm_end(request, channel.clone(), out);
        self.drop_grant(channel, out);
        out.effects.push(Effect::Save);
        self.tidy_queue();
        self.join_next(out);
    }

    fn handle_publish(&mut self, request: RequestId, publish: Publish, out: &mut Outputs) {
        if !self.may(Action::Publish, &publish.channel, request, out) {
            return;
        }
        if publish.payload.len() > self.limits.payload_bytes {
            return out.fail(request, self.limits.too_large(publish.payload.len()));
        }
        out.effects.push(Effect::Publish { request, publish });
    }

    fn subscribe(&mut self, channel: Channel, pending: Pending, out: &mut Outputs) {
        self.subscriptions.insert(Subscription::new(channel.clone(), pending));
        self.line_up(channel, out);
    }

    /// Drops a subscription, all but its place in the queue; says whether there was one.
    fn end(&mut self, channel: &Channel, out: &mut Outputs) -> bool {
        let Some(subscription) = self.subscriptions.remove(channel) else { return false };
        if let Some(join) = subscription.join() {
            out.effects.push(Effect::Leave { channel: channel.clone(), join });
        }
        if subscription.is_joining() {
            self.joins_in_flight -= 1;
        }
        true
    }

    /// Takes those that have ended out of the queue, once for all of them.
    fn tidy_queue(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        rare.channels.retain(|channel| self.subscriptions.contains(channel));
        self.forget_queue();
    }

    fn forget_queue(&mut self) {
        let is_empty = self.rare.as_ref().is_some_and(|rare| {
            let is_in_none = rare.entered.is_empty() && rare.grants.is_empty();
            rare.channels.is_empty() && rare.ended.is_empty() && is_in_none
        });
        if is_empty && self.joins_in_flight == 0 {
            self.rare = None;
        }
    }

    /// Starts a join at once if it may be in flight, or lets it wait for its turn.
    fn line_up(&mut self, channel: Channel, out: &mut Outputs) {
        let is_next = self.rare.as_ref().is_none_or(|rare| rare.channels.is_empty());
        if is_next && self.may_join() {
            return self.start(channel, out);
        }
        self.rare.get_or_insert_default().channels.push_back(channel);
    }

    /// Starts as many of the queued joins as may be in flight.
    fn join_next(&mut self, out: &mut Outputs) {
        while self.may_join() {
            let next = self.rare.as_mut().and_then(|rare| rare.channels.pop_front());
            let Some(channel) = next else { break };
            self.start(channel, out);
        }
        self.forget_queue();
    }

    fn may_join(&self) -> bool {
        self.joins_in_flight < u16::try_from(self.limits.joins_in_flight).unwrap_or(u16::MAX)
    }

    fn start(&mut self, channel: Channel, out: &mut Outputs) {
        let join = JoinId(self.last_join.0 + 1);
        let Some(pending) = self.subscriptions.start(&channel, join) else { return };
        let replayed = self.rare.as_ref().map(|rare| rare.replayed);
        if replayed.is_some_and(|replayed| replayed.is_enough_for_all(&self.limits)) {
            pending.skip_first();
        }
        let since = pending.since();
        let is_new = pending.is_new();
        self.last_join = join;
        self.joins_in_flight += 1;
        out.effects.push(Effect::Join { channel, since, join, is_new });
    }

    /// Takes the answer to a join; says whether the place in the channel that comes with it, if one
    /// does, is taken. An answer that belongs to an earlier attempt is dropped.
    pub fn joined(
        &mut self,
        join: JoinId,
        outcome: Result<Joined, Failure>,
        out: &mut Outputs,
    ) -> bool {
        if self.subscriptions.joining(join).is_none() {
            return false;
        }
        self.joins_in_flight -= 1;
        let is_live = match outcome {
            Ok(joined) => self.go_on(join, joined, out),
            Err(failure) => {
                self.fail(join, failure, out);
                false
            }
        };
        self.join_next(out);
        is_live
    }

    /// Says whether the subscription is live.
    fn go_on(&mut self, join: JoinId, joined: Joined, out: &mut Outputs) -> bool {
        let is_strict = self.is_strict();
        let Some(subscription) = self.subscriptions.of_join(join) else { return false };
        let State::Pending(pending) = &mut subscription.state else { return false };
        let channel = subscription.channel.clone();
        if matches!(pending.asked, Asked::ByClient { .. }) {
            pending.is_sampled = joined.is_sampled;
        }
        if is_strict && pending.asked.is_command() {
            let skipped = pending.skips_from.take();
            pending.hold(confirmation(&channel, skipped, pending, &joined));
            out.effects.push(Effect::Save);
            return false;
        }
        let is_enough = pending.replayed.as_mut().is_some_and(|replayed| {
            let all = &mut self.rare.get_or_insert_default().replayed;
            replayed.add(&joined.missed);
            all.add(&joined.missed);
            replayed.is_enough_for_one(&self.limits) || all.is_enough_for_all(&self.limits)
        });
        let skipped = pending.skips_from.take();
        match pending.asked {
            Asked::ByClient { .. } => {
                if pending.start.is_none() {
                    out.effects.push(Effect::Save);
                }
                let subscribed = confirmation(&channel, skipped, pending, &joined);
                out.events.push(Event::Subscribed(subscribed));
            }
            Asked::ToCatchUp => out.events.extend(match skipped {
                Some(from) => gap_after(&channel, from, &joined),
                None => gap_event(&channel, &joined),
            }),
        }
        let start = *pending.start.get_or_insert(joined.position);
        let deltas_for_missed = pending.deltas_for(&joined);
        let deltas = match joined.missed.last() {
            Some(_) => deltas_for_missed.after_sending(),
            None => deltas_for_missed,
        };
        let position = joined.end();
        if joined.live {
            let is_sampled = pending.is_sampled;
            subscription.state = State::Live(Live { join, is_sampled, deltas, position, start });
        } else {
            pending.asked = Asked::ToCatchUp;
            pending.join = None;
            (pending.position, pending.deltas) = (Some(position), deltas);
            pending.skips_from = is_enough.then_some(position);
            self.line_up(channel.clone(), out);
        }
        push_publications(&channel, joined.missed, deltas_for_missed, out);
        joined.live
    }

    /// A first join that fails is the client's to repeat. Any other is ours: the subscription
    /// stays, and catches up when it can.
    fn fail(&mut self, join: JoinId, failure: Failure, out: &mut Outputs) {
        let Some((channel, pending)) = self.subscriptions.joining(join) else { return };
        let channel = channel.clone();
        if let Asked::ByClient { request: request @ Some(_), .. } = pending.asked {
            self.subscriptions.remove(&channel);
            self.drop_grant(&channel, out);
            // It may have been saved for another subscription's sake since it was asked for.
            out.effects.push(Effect::Save);
            out.events.push(Event::Failed { request, failure });
        } else if pending.is_new() && failure.code == ErrorCode::QuotaExceeded {
            self.subscriptions.remove(&channel);
            out.effects.push(Effect::Save);
            let failure = Some(failure);
            out.events.push(Event::Unsubscribed { request: None, channel, failure });
        } else {
            pending.join = None;
            self.line_up(channel, out);
        }
    }
}

/// What a client is told whose subscription begins, after `skipped` if that is left out.
fn confirmation(
    channel: &Channel,
    skipped: Option<Position>,
    pending: &Pending,
    joined: &Joined,
) -> Subscribed {
    let request = match pending.asked {
        Asked::ByClient { request, .. } => request,
        Asked::ToCatchUp => None,
    };
    Subscribed {
        request,
        channel: channel.clone(),
        recovery: skipped.map_or(joined.recovery, |from| recovery_after(from, joined)),
        position: joined.position,
        delta: pending.deltas.format(),
        sampled: pending.is_sampled,
    }
}

/// Adds publications to the last event if that is of the same channel, so that what gathered while
/// the connection was busy leaves as one batch.
fn push_publications(
    channel: &Channel,
    mut missed: Vec<Arc<Envelope>>,
    deltas: Deltas,
    out: &mut Outputs,
) {
    if missed.is_empty() {
        return;
    }
    match out.events.last_mut() {
        Some(Event::Publications { channel: last, publications, .. }) if last == channel => {
            publications.append(&mut missed);
        }
        _ => {
            let channel = channel.clone();
            out.events.push(Event::Publications { channel, publications: missed, deltas });
        }
    }
}

mod confirming;
mod delivery;
mod grants;
mod presence;
mod reading;
mod renewal;
pub(crate) mod replay;
mod resumption;
#[cfg(test)]
mod tests;
