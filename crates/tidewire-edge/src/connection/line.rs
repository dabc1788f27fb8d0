use std::sync::Arc;

use tidewire_model::{Connected, ConnectionId, Event, Failure, Tenant};
use tidewire_protocol::{Frame, Protocol};
use tidewire_transport::{Controls, Flushed, Link, Scratch, TransportError};
use tokio::sync::OwnedSemaphorePermit;

use super::alarms::{Alarm, Alarms};
use super::{Ending, FRAME_BYTES, MOST_PIECES, MOST_UNSENT, Verdict};
use crate::metrics::{self, Tally, TenantMetrics};
use crate::tenancy::{Allowance, Counted, Homes};
use crate::wheel::Tick;
use crate::worker::{Context, Form, Unfinished, Usage};

/// What a connection has from its first moment to its last.
#[expect(clippy::struct_excessive_bools, reason = "any of them may be so beside any other")]
pub(crate) struct Line {
    pub(super) id: ConnectionId,
    pub(super) link: Link,
    pub(super) protocol: Box<dyn Protocol>,
    /// How it gets what many get alike.
    pub(super) form: Form,
    /// The socket may have more than was read.
    pub(super) is_readable: bool,
    /// It is on the worker's list of those to be read again.
    pub(super) is_again: bool,
    /// It is on the worker's list of those to be flushed.
    pub(super) is_touched: bool,
    /// The socket took less than there was, when it was last written to.
    pub(super) is_blocked: bool,
    /// Its tenant was not at home here when it came.
    is_misrouted: bool,
    /// A ping of ours may still be answered.
    is_pinged: bool,
    pub(super) alarms: Alarms,
    pub(super) heard_at: Tick,
    pub(super) since: Tick,
    /// How much of what is unsent whoever watches knows of, in bytes.
    shown_unsent: u32,
    /// How much of messages that are not complete the worker knows to be held, in bytes.
    shown_unfinished: u32,
    /// Its tenant's, once that is known. From then on it counts among the tenant's connections.
    pub(super) allowance: Option<Arc<Allowance>>,
    _room: OwnedSemaphorePermit,
}

impl Line {
    /// A line that has yet to say who it is.
    pub(super) fn new(
        id: ConnectionId,
        (protocol, form): (Box<dyn Protocol>, Form),
        (socket, room): (Link, OwnedSemaphorePermit),
        cx: &Context,
    ) -> Self {
        let mut alarms = Alarms::new(cx.now);
        alarms.set(Alarm::Overdue, cx.now.after(cx.shared.config.connect_timeout));
        Self {
            id,
            protocol,
            form,
            // What came behind the request is there without an event of the socket's.
            is_readable: socket.has_unread(),
            link: socket,
            is_again: false,
            is_touched: false,
            is_blocked: false,
            is_misrouted: false,
            is_pinged: false,
            alarms,
            heard_at: cx.now,
            since: cx.now,
            shown_unsent: 0,
            shown_unfinished: 0,
            allowance: None,
            _room: room,
        }
    }

    /// Puts it on the worker's list of those to be flushed at the end of the turn.
    pub(super) fn touch(&mut self, cx: &mut Context) {
        if !self.is_touched {
            self.is_touched = true;
            cx.touched.push(self.id);
        }
    }

    /// Has it flushed at the end of the next turn, when the shards may have answered what it has just
    /// asked: one write instead of two.
    pub(super) fn hold(&mut self, cx: &mut Context) {
        self.is_touched = true;
        cx.held.push(self.id);
    }

    /// Counts it among the connections of its tenant, and among those that are not at home here.
    pub(super) fn join(&mut self, tenant: &Tenant, counted: Counted, cx: &Context) {
        let allowance = cx.shared.allowance(tenant);
        counted.keep(&allowance.usage);
        self.is_misrouted = !allowance.homes.are_here(&cx.shared.node);
        if self.is_misrouted {
            metrics::misrouted();
        }
        self.allowance = Some(allowance);
        metrics::began(self.tenant_metrics());
        self.since = cx.now;
    }

    /// Where its tenant is at home, if that was not here when it came.
    pub(super) fn homes_elsewhere(&self) -> Option<&Homes> {
        let allowance = self.allowance.as_ref().filter(|_| self.is_misrouted)?;
        Some(&allowance.homes)
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&mut self, cx: &mut Context) {
        self.is_pinged = true;
        self.link.ping();
        self.touch(cx);
    }

    /// How many of the control frames that came nobody has asked for.
    pub(super) fn unasked(&mut self, controls: Controls) -> u32 {
        let Controls { pings, pongs } = controls;
        let is_answer = pongs > 0 && std::mem::take(&mut self.is_pinged);
        pings + pongs - u32::from(is_answer)
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(super) fn write(&mut self, cx: &mut Context) -> Result<(), TransportError> {
        self.is_blocked = self.link.flush(&mut cx.scratch)? == Flushed::Blocked;
        Ok(())
    }

    /// Queues the first word of a session, as urgent as anything that may follow: nothing overtakes it.
    pub(super) fn introduce(&mut self, connected: Connected, cx: &mut Context) -> Verdict {
        let queued = self.encode(&[Event::Connected(connected)], cx, Link::queue_urgent);
        self.touch(cx);
        queued.map_err(|_| Ending::Left)
    }

    /// Counts what was refused, if it was for a limit.
    pub(super) fn count_limit(&self, refused: Option<&Failure>) {
        if let Some(exceeded) = refused.and_then(|failure| failure.exceeded.as_ref()) {
            metrics::limited(exceeded.limit, self.tenant_metrics());
        }
    }

    /// Encodes the events that have gathered and queues them. Those that the client waits for go before
    /// what it is behind with.
    pub(super) fn queue_events(&mut self, cx: &mut Context) -> Verdict {
        if cx.outputs.events.is_empty() {
            return Ok(());
        }
        let mut queued = Ok(());
        if self.link.unsent() > 0 {
            let urgent = cx.outputs.events.extract_if(.., |event| is_urgent(event));
            let urgent: Vec<Event> = urgent.collect();
            if !urgent.is_empty() {
                queued = self.encode(&urgent, cx, Link::queue_urgent);
            }
        }
        if !cx.outputs.events.is_empty() {
            let mut events = std::mem::take(&mut cx.outputs.events);
            queued = queued.and_then(|()| self.encode(&events, cx, Link::queue));
            events.clear();
            cx.outputs.events = events;
        }
        self.touch(cx);
        queued.map_err(|_| Ending::Left)
    }

    fn encode(
        &mut self,
        events: &[Event],
        cx: &mut Context,
        queue: impl FnOnce(&mut Link, &[Frame], &mut Scratch) -> Result<(), TransportError>,
    ) -> Result<(), TransportError> {
        let mut frames = std::mem::take(&mut cx.frames_out);
        self.protocol.encode(events, FRAME_BYTES, &mut frames);
        self.count_sent(events, &frames, cx);
        let queued = queue(&mut self.link, &frames, &mut cx.scratch);
        frames.clear();
        cx.frames_out = frames;
        queued
    }

    fn count_sent(&self, events: &[Event], frames: &[Frame], cx: &mut Context) {
        let count = events.iter().map(|event| match event {
            Event::Publications { publications, deltas, .. } => {
                cx.counts.tally(Tally::of(publications, *deltas));
                publications.len() as u64
            }
            _ => 1,
        });
        let count = count.sum();
        let bytes = frames.iter().map(|frame| frame.bytes().len() as u64).sum();
        self.sent(count, bytes, cx);
    }

    pub(super) fn sent(&self, events: u64, bytes: u64, cx: &mut Context) {
        cx.counts.sent += events;
        cx.counts.sent_bytes += bytes;
        let Some(allowance) = &self.allowance else { return };
        if allowance.limits.quotas.rates.bytes_out.is_some() {
            allowance.usage.charge_sent(bytes, cx.age);
        }
        if let Some(tenant) = &allowance.metrics {
            tenant.sent.increment(events);
        }
    }

    /// The tenant's own, where they are kept.
    pub(super) fn tenant_metrics(&self) -> Option<&TenantMetrics> {
        self.allowance.as_ref()?.metrics.as_deref()
    }

    /// Whether so much is on its way that nothing is to be added.
    pub(super) fn is_over_bound(&self) -> bool {
        let unsent = self.link.unsent();
        unsent > 0 && (unsent >= self.most_unsent() || self.link.unsent_pieces() >= MOST_PIECES)
    }

    /// Whether so much is on its way that the client has to read some of it before it is asked
    /// anything, or sent what it could be sent later.
    pub(super) fn is_behind(&self) -> bool {
        let unsent = self.link.unsent();
        unsent > 0
            && (unsent >= MOST_UNSENT.min(self.most_unsent() / 2)
                || self.link.unsent_pieces() >= MOST_PIECES / 2)
    }

    /// Bytes that may be on their way to it.
    pub(super) fn most_unsent(&self) -> usize {
        self.allowance.as_ref().map_or(usize::MAX, |allowance| allowance.limits.unsent_bytes)
    }

    /// Tells whoever watches how much is unsent; nothing any more if this `is_over`.
    pub(super) fn show_unsent(&mut self, is_over: bool, cx: &mut Context) {
        let unsent = if is_over { 0 } else { self.link.unsent() };
        let unsent = u32::try_from(unsent).unwrap_or(u32::MAX);
        if unsent != self.shown_unsent {
            cx.counts.unsent += i64::from(unsent) - i64::from(self.shown_unsent);
            self.shown_unsent = unsent;
        }
    }

    /// Tells the worker how much is held of messages that are not complete; whether that is more.
    pub(super) fn show_unfinished(&mut self, cx: &mut Context) -> bool {
        let bytes = self.link.unfinished().unwrap_or_default();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.shown_unfinished, bytes);
        cx.counts.unfinished += i64::from(bytes) - i64::from(before);
        if let Some(allowance) = &self.allowance {
            cx.unfinished.change(Usage::of(allowance), before as usize, bytes as usize);
        }
        bytes > before
    }

    /// Whether it holds more of a message that is not complete than everybody may, and its tenant as
    /// much as there is room for.
    pub(super) fn is_holding_too_much(&self, cx: &Context) -> bool {
        self.shown_unfinished as usize > Unfinished::EVERYBODYS
            && self.allowance.as_ref().is_some_and(|one| !cx.unfinished.has_room(Usage::of(one)))
    }

    /// Holds nothing any more of a message that is not complete, which nobody waits for; whether there
    /// was one.
    pub(super) fn forget_unfinished(&mut self, cx: &mut Context) -> bool {
        let has_begun = self.link.unfinished().is_some();
        if has_begun {
            self.link.forget_unfinished();
        }
        self.show_unfinished(cx);
        has_begun
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_misrouted {
            metrics::misrouted_ended();
        }
        if let Some(allowance) = &self.allowance {
            allowance.usage.leave();
        }
    }
}

/// Whether it is the answer to something, or about the connection itself. What tells of a channel stays
/// in order with its publications.
fn is_urgent(event: &Event) -> bool {
    matches!(
        event,
        Event::Published { .. }
            | Event::Failed { .. }
            | Event::Pong { .. }
            | Event::Refreshed { .. }
            | Event::Expiring { .. }
            | Event::Reconnect { .. }
    )
}
