//! Handing a client what its channels bring, as far as it reads.

use tidewire_model::{Disconnect, JoinId, Position, TenantChannel, WhenSlow};
use tidewire_session::Meeting;

use super::held::Kept;
use super::serving::Serving;
use super::{Ending, Line, Verdict, Word};
use crate::metrics;
use crate::worker::{Context, Run};

impl Serving {
    pub(super) fn tell(&mut self, word: Word, line: &mut Line, cx: &mut Context) -> Verdict {
        match word {
            Word::Gap(join, gap) => {
                if let Some(kept) = self.forget_held(join) {
                    self.leave_out((join, kept.is_sampled), kept.last, cx);
                }
                self.session.gap(join, gap, &mut cx.outputs);
            }
            Word::Lagged(join) => {
                metrics::lagged();
                self.waiting().lagged.push(join);
            }
        }
        self.go_on(line, cx)
    }

    pub(super) fn hand(
        &mut self,
        (join, at_once): (JoinId, bool),
        run: &mut Run,
        line: &mut Line,
        cx: &mut Context,
    ) -> Verdict {
        if self.has_to_read_first(join, run.when_slow(), line, cx)? {
            return self.keep_back(join, run, line, cx);
        }
        let (first, last) = run.span();
        if run.is_sampled() {
            self.session.sample(join, before(last), &mut cx.outputs);
            line.queue_events(cx)?;
        }
        let deltas = match self.session.meet(join, first, last) {
            Meeting::InStep { deltas } => deltas,
            Meeting::Nothing => return Ok(()),
            Meeting::OutOfStep => {
                for envelope in run.envelopes() {
                    self.session.deliver(join, envelope.clone(), &mut cx.outputs);
                }
                return self.go_on(line, cx);
            }
        };
        let (wire, tally) = run.wire(line.form, deltas, line.protocol.as_mut(), &mut cx.scratch);
        cx.counts.tally(tally);
        line.sent(run.len() as u64, wire.len() as u64, cx);
        let is_queued = if at_once && !line.is_touched {
            line.link.send_shared(&wire)
        } else {
            line.touch(cx);
            line.link.queue_shared(&wire)
        };
        is_queued.map_err(|_| Ending::Left)?;
        if at_once && line.link.unsent() > 0 {
            line.is_blocked |= !line.is_touched;
            if line.is_behind() {
                line.alarms.stall(cx.now, &cx.shared.config);
            }
        }
        Ok(())
    }

    /// Whether it is to be sent nothing of a channel until it has read.
    fn has_to_read_first(
        &self,
        join: JoinId,
        when_slow: WhenSlow,
        line: &mut Line,
        cx: &mut Context,
    ) -> Result<bool, Ending> {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.held.has(join)) {
            // Nothing overtakes what is held.
            return Ok(true);
        }
        if line.is_over_bound() && !line.is_blocked {
            // What has gathered in this turn is not what it does not read.
            line.write(cx)?;
            line.touch(cx);
        }
        Ok(line.is_over_bound() || (line.is_blocked && when_slow.is_of_values()))
    }

    /// Does with publications what their channel says for a client that has to read first.
    fn keep_back(&mut self, join: JoinId, run: &Run, line: &mut Line, cx: &mut Context) -> Verdict {
        let when_slow = run.when_slow();
        match when_slow {
            WhenSlow::Lag => {
                self.fall_behind(run.channel(), join, line, cx);
                return Ok(());
            }
            WhenSlow::Disconnect => return Err(Ending::Disconnected(Disconnect::Slow)),
            WhenSlow::DropOldest
            | WhenSlow::DropNewest
            | WhenSlow::Latest
            | WhenSlow::LatestByKey => {}
        }
        if line.is_behind() {
            line.alarms.stall(cx.now, &cx.shared.config);
        }
        let is_scarce = cx.shared.memory.is_scarce();
        let waiting = self.waiting();
        let is_paused = (waiting.slow.is_some() || is_scarce) && when_slow == WhenSlow::DropOldest;
        let most = if is_paused { 0 } else { when_slow.held() };
        let left_out = waiting.held.take(
            (join, when_slow, run.is_sampled()),
            run.envelopes(),
            |envelope| run.key_of(envelope),
            (most, line.most_unsent()),
        );
        metrics::skipped(left_out);
        Ok(())
    }

    /// Gives up its place in a channel until the client has read what is on its way to it.
    fn fall_behind(
        &mut self,
        channel: &TenantChannel,
        join: JoinId,
        line: &mut Line,
        cx: &mut Context,
    ) {
        metrics::lagged();
        if let Some(tenure) = cx.hub.remove(channel, line.id, join) {
            cx.release(channel.clone(), tenure);
        }
        line.alarms.stall(cx.now, &cx.shared.config);
        self.waiting().lagged.push(join);
    }

    /// Sends what was held of a channel, and tells what was left out around it.
    pub(super) fn hand_over(&mut self, join: JoinId, kept: Kept, cx: &mut Context) {
        let mut is_told = false;
        let whom = (join, kept.is_sampled);
        for envelope in kept.newest {
            is_told |= self.leave_out(whom, before(envelope.position), cx);
            self.session.deliver(join, envelope, &mut cx.outputs);
        }
        is_told |= self.leave_out(whom, kept.last, cx);
        if is_told {
            metrics::told_of_skipping();
        }
    }

    /// Leaves out what comes up to `position`, of which nothing is wanted or nothing is kept; returns
    /// whether the client is told.
    fn leave_out(
        &mut self,
        (join, is_sampled): (JoinId, bool),
        position: Position,
        cx: &mut Context,
    ) -> bool {
        if is_sampled {
            self.session.sample(join, position, &mut cx.outputs)
        } else {
            self.session.skip(join, position, &mut cx.outputs)
        }
    }

    /// Leaves out what is held of a channel.
    pub(super) fn forget_held(&mut self, join: JoinId) -> Option<Kept> {
        let kept = self.waiting.as_mut()?.held.remove(join)?;
        metrics::skipped(kept.newest.len());
        Some(kept)
    }
}

fn before(position: Position) -> Position {
    Position::new(position.epoch, position.offset.saturating_sub(1))
}
