//! Taking what a client asks.

use tidewire_model::{Command, ErrorCode, Event, Failure};
use tidewire_protocol::{Decoded, Frame};

use super::serving::Serving;
use super::{Ending, Line, Verdict};
use crate::edge::unix_seconds;
use crate::worker::Context;

impl Serving {
    pub(super) fn receive(
        &mut self,
        line: &mut Line,
        frames: &mut Vec<Frame>,
        cx: &mut Context,
    ) -> Verdict {
        for frame in frames.drain(..) {
            cx.counts.received += 1;
            cx.counts.received_bytes += frame.bytes().len() as u64;
            if let Some(tenant) = &line.tenant {
                tenant.received.increment(1);
            }
            match line.protocol.decode(frame) {
                Ok(decoded) => self.take_all(decoded, line, cx)?,
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
            if self.may_read(line, cx) {
                self.take(one, cx);
                self.perform(line, cx)?;
            } else {
                self.waiting().untaken.push_back(one);
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, decoded: Decoded, cx: &mut Context) {
        match decoded {
            Decoded::Request(request) if self.refuse_if_moved(&request, cx) => {}
            Decoded::Request(mut request) => {
                if let Command::Subscribe { channel, delta, .. } = &mut request.command {
                    let tenant = &self.owned.key.tenant;
                    *delta = cx.shared.tenants.grant(tenant, channel, *delta);
                }
                self.session.handle(request, unix_seconds(), &mut cx.outputs);
            }
            Decoded::Refused { id, failure } => {
                cx.outputs.events.push(Event::Failed { request: id, failure });
            }
        }
    }
}
