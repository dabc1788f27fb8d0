//! Handing a client what its channels bring.

use tidewire_model::{JoinId, TenantChannel};
use tidewire_session::Meeting;

use super::serving::Serving;
use super::{Ending, Line, Verdict, Word};
use crate::metrics;
use crate::worker::{Context, Run};

impl Serving {
    pub(super) fn tell(&mut self, word: Word, line: &mut Line, cx: &mut Context) -> Verdict {
        match word {
            Word::Gap(join, gap) => self.session.gap(join, gap, &mut cx.outputs),
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
        if line.is_over_bound() && !line.is_blocked {
            // What has gathered in this turn is not what it does not read.
            line.write(cx)?;
            line.touch(cx);
        }
        if line.is_over_bound() {
            self.fall_behind(run.channel(), join, line, cx);
            return Ok(());
        }
        let (first, last) = run.span();
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
        line.sent(run.len() as u64, wire.len() as u64, &mut cx.counts);
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
}
