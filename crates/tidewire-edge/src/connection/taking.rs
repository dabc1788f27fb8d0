//! Taking what a client asks.

use std::sync::Arc;

use tidewire_model::{Command, ConnectionId, Disconnect, ErrorCode, Event, Failure, Request};
use tidewire_protocol::{Decoded, Frame};
use tokio::time::Duration;

use super::serving::Serving;
use super::toll::Consequence;
use super::{Connection, Ending, Line, State, Verdict};
use crate::edge::unix_seconds;
use crate::metrics;
use crate::tenancy::Spent;
use crate::worker::Context;

/// How long a connection waits at least that was refused because its tenant had used up its rate, and
/// the most that is added to it.
const NOT_SOONER: Duration = Duration::from_millis(250);
const SPREAD_MS: u64 = 256;

impl Connection {
    /// Goes on with what was read and was too much for the turn, or for a shard.
    pub(super) fn take_untaken(&mut self, cx: &mut Context) {
        if let State::Serving(serving) = &mut self.state
            && serving.may_go_on(&self.line)
        {
            let verdict = serving.go_on(&mut self.line, cx);
            self.obey(verdict, cx);
        }
    }
}

impl Serving {
    pub(super) fn receive(
        &mut self,
        line: &mut Line,
        frames: &mut Vec<Frame>,
        cx: &mut Context,
    ) -> Verdict {
        for frame in frames.drain(..) {
            let bytes = frame.bytes().len();
            cx.counts.received += 1;
            cx.counts.received_bytes += bytes as u64;
            if let Some(tenant) = line.tenant_metrics() {
                tenant.received.increment(1);
            }
            match line.protocol.decode(frame) {
                Ok(decoded) => {
                    self.charge_padding(bytes, &decoded, line, cx);
                    self.take_all(decoded, line, cx)?;
                }
                Err(error) => {
                    let failure = Failure::new(ErrorCode::BadRequest, error.to_string());
                    cx.outputs.events.push(Event::Failed { request: None, failure });
                    return Err(Ending::Disconnected(error.disconnect()));
                }
            }
        }
        line.queue_events(cx)
    }

    /// Takes commands as long as there is room for what they bring about; the others wait.
    fn take_all(&mut self, decoded: Vec<Decoded>, line: &mut Line, cx: &mut Context) -> Verdict {
        for one in decoded {
            if cx.has_left() && self.may_read(line, cx) {
                self.take(one, line, cx)?;
                self.perform(line, cx)?;
            } else {
                self.waiting().untaken.push_back(one);
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, decoded: Decoded, line: &mut Line, cx: &mut Context) -> Verdict {
        cx.spend(1);
        match decoded {
            Decoded::Request(request) if self.refuse_if_moved(&request, cx) => {}
            Decoded::Request(request) if self.refuse_without_presence(&request, cx) => {}
            Decoded::Request(mut request) => {
                self.heed_limits(line, cx);
                if self.is_refused(&request, line, cx)? {
                    return Ok(());
                }
                if let Command::Subscribe { channel, delta, .. } = &mut request.command {
                    if let Some(failure) = cx.shared.memory.keeps_from_subscribing() {
                        let refused = Event::Failed { request: Some(request.id), failure };
                        cx.outputs.events.push(refused);
                        return Ok(());
                    }
                    let tenant = &self.owned.key.tenant;
                    *delta = cx.shared.tenants.grant(tenant, channel, *delta);
                }
                let told = cx.outputs.events.len();
                self.session.handle(request, unix_seconds(), &mut cx.outputs);
                if let Some(Event::Failed { failure, .. }) = cx.outputs.events.get(told) {
                    line.count_limit(Some(failure));
                }
            }
            Decoded::Refused { id, failure } => {
                cx.outputs.events.push(Event::Failed { request: id, failure });
            }
        }
        Ok(())
    }

    /// Goes by the limits that its tenant has been given since.
    fn heed_limits(&mut self, line: &mut Line, cx: &Context) {
        if line.allowance.as_ref().is_some_and(|one| !one.is_of(cx.tenants_version)) {
            let allowance = cx.shared.allowance(&self.owned.key.tenant);
            self.session.set_limits(Arc::clone(&allowance.session));
            line.allowance = Some(allowance);
        }
    }

    /// Refuses what is more than the connection's rates allow.
    fn is_refused(
        &mut self,
        request: &Request,
        line: &Line,
        cx: &mut Context,
    ) -> Result<bool, Ending> {
        let Some(allowance) = &line.allowance else { return Ok(false) };
        let toll = self.toll.get_or_insert_default();
        let limits = &allowance.limits;
        let mut charged = toll.charge(&request.command, limits, cx.elapsed);
        if let (Ok(()), Command::Publish(publish)) = (&charged, &request.command)
            && let Err(spent) = allowance.charge(publish.payload.len(), cx.age)
        {
            // Not everybody at once, or most would be refused again.
            let wait = spent.wait.max(NOT_SOONER) + spread(line.id);
            charged = Err(toll.refuse_for_all(Spent { wait, ..spent }, limits, cx.elapsed));
        }
        let Err(refused) = charged else { return Ok(false) };
        metrics::limited(refused.limit, allowance.metrics.as_deref());
        let failure = refused.failure;
        cx.outputs.events.push(Event::Failed { request: Some(request.id), failure });
        self.bear(refused.consequence, line, cx)?;
        Ok(true)
    }

    /// Does to it what comes of not heeding limits.
    pub(super) fn bear(
        &mut self,
        consequence: Consequence,
        line: &Line,
        cx: &mut Context,
    ) -> Verdict {
        match consequence {
            Consequence::None => Ok(()),
            Consequence::Paused(time) => {
                if let Some(toll) = self.toll.as_mut().filter(|toll| !toll.is_paused) {
                    toll.is_paused = true;
                    cx.pause(line.id, time);
                }
                Ok(())
            }
            Consequence::Disconnected => Err(Ending::Disconnected(Disconnect::Flooding)),
        }
    }

    fn charge_padding(&mut self, bytes: usize, decoded: &[Decoded], line: &Line, cx: &Context) {
        if let Some(allowance) = &line.allowance {
            let toll = self.toll.get_or_insert_default();
            toll.charge_padding(bytes, decoded, &allowance.limits, cx.elapsed);
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.toll.as_ref().is_some_and(|toll| toll.is_paused)
    }

    pub(super) fn unpause(&mut self, line: &mut Line, cx: &mut Context) -> Verdict {
        if let Some(toll) = &mut self.toll {
            toll.is_paused = false;
        }
        self.go_on(line, cx)
    }

    /// Keeps nothing of a connection that has rested.
    pub(super) fn forget_toll(&mut self, cx: &Context) {
        if self.toll.as_ref().is_some_and(|toll| toll.is_clear(cx.elapsed)) {
            self.toll = None;
        }
    }
}

/// Something different for each connection, and always the same.
fn spread(id: ConnectionId) -> Duration {
    Duration::from_millis(id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32) % SPREAD_MS)
}
