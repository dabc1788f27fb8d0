use std::collections::{HashMap, VecDeque};

use tidewire_model::{Channel, Command, PublicationId, Publish, RequestId};
use tidewire_protocol_native::client::Refusal;
use tokio::time::Instant;

use crate::retry::Retry;

/// Publications that are neither stored nor refused for good, in the order they were published.
///
/// A channel is *held* from the moment one of its publications is refused as retryable: nothing new
/// is sent to it then. When it is time, its oldest publication goes alone, and once that one is
/// settled the others follow in order: a few, and twice as many each time these have been stored, so
/// that a queue of thousands does not run against the same limit at once. Ids make it safe to send
/// what may have been stored.
#[derive(Default)]
pub(crate) struct Unacknowledged {
    waiting: VecDeque<Waiting>,
    held: HashMap<Channel, Hold>,
}

struct Waiting {
    publish: Publish,
    /// Under which it was last sent over the connection at hand.
    request: Option<RequestId>,
}

#[derive(Default)]
struct Hold {
    /// When to send the oldest publication; `None` while that is under way.
    send_at: Option<Instant>,
    probe: Option<RequestId>,
    retry: Retry,
    /// How many were sent behind the last probe that was settled; 0 while nothing is known to pass.
    window: usize,
}

/// Publications that first follow the one that was settled.
const FIRST_WINDOW: usize = 8;

/// Too many publications wait to be acknowledged; [`Client::publish`](crate::Client::publish) says
/// how many.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many publications wait to be acknowledged")]
pub struct Full;

/// What a refusal of a publication means.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// It is sent again by itself.
    ForNow,
    ForGood(PublicationId),
}

impl Unacknowledged {
    pub(crate) const MOST: usize = 4_096;

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is room for one more.
    pub(crate) fn check_room(&self) -> Result<(), Full> {
        if self.waiting.len() < Self::MOST { Ok(()) } else { Err(Full) }
    }

    /// Adds `publish`, and sends it with `send` unless its channel is held. `send` has no id for a
    /// command that it cannot send now.
    pub(crate) fn push(
        &mut self,
        publish: Publish,
        send: impl FnOnce(Command) -> Option<RequestId>,
    ) {
        let is_held = self.held.contains_key(&publish.channel);
        let request = if is_held { None } else { send(Command::Publish(publish.clone())) };
        self.waiting.push_back(Waiting { publish, request });
    }

    /// Sends everything, on a connection that begins.
    pub(crate) fn begin_anew(&mut self, mut send: impl FnMut(Command) -> Option<RequestId>) {
        self.held.clear();
        for waiting in &mut self.waiting {
            waiting.request = send(Command::Publish(waiting.publish.clone()));
        }
    }

    /// Takes out what `request` published, and sends what waited for that.
    pub(crate) fn acknowledge(
        &mut self,
        request: RequestId,
        send: impl FnMut(Command) -> Option<RequestId>,
    ) -> Option<PublicationId> {
        let index = self.index_of(request)?;
        self.settle(index, request, send)
    }

    /// `None` if `request` is not that of a publication.
    pub(crate) fn refuse(
        &mut self,
        request: RequestId,
        refusal: &Refusal,
        now: Instant,
        send: impl FnMut(Command) -> Option<RequestId>,
    ) -> Option<Refused> {
        let index = self.index_of(request)?;
        if !refusal.retryable {
            return self.settle(index, request, send).map(Refused::ForGood);
        }
        let waiting = &mut self.waiting[index];
        waiting.request = None;
        let is_held = self.held.contains_key(&waiting.publish.channel);
        let hold = self.held.entry(waiting.publish.channel.clone()).or_default();
        if !is_held || hold.window > 0 || hold.probe == Some(request) {
            hold.window = 0;
            hold.probe = None;
            hold.send_at = Some(now + hold.retry.after(refusal));
        }
        Some(Refused::ForNow)
    }

    /// When to [`send_again`](Self::send_again).
    pub(crate) fn send_at(&self) -> Option<Instant> {
        self.held.values().filter_map(|hold| hold.send_at).min()
    }

    /// Sends the oldest publication to each held channel whose time has come.
    pub(crate) fn send_again(
        &mut self,
        now: Instant,
        mut send: impl FnMut(Command) -> Option<RequestId>,
    ) {
        self.held.retain(|channel, hold| {
            if hold.send_at.is_none_or(|at| at > now) {
                return true;
            }
            hold.send_at = None;
            let oldest =
                self.waiting.iter_mut().find(|waiting| waiting.publish.channel == *channel);
            let Some(oldest) = oldest else { return false };
            oldest.request = send(Command::Publish(oldest.publish.clone()));
            hold.probe = oldest.request;
            true
        });
    }

    fn index_of(&self, request: RequestId) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.request == Some(request))
    }

    fn settle(
        &mut self,
        index: usize,
        request: RequestId,
        send: impl FnMut(Command) -> Option<RequestId>,
    ) -> Option<PublicationId> {
        let Waiting { publish, .. } = self.waiting.remove(index)?;
        if self.held.get(&publish.channel).is_some_and(|hold| hold.probe == Some(request)) {
            self.release(&publish.channel, send);
        }
        publish.id
    }

    /// Sends what waits for `channel`, in order, as much as is likely to pass. Also what is under way:
    /// should that be refused, what follows it here would have overtaken it.
    fn release(&mut self, channel: &Channel, mut send: impl FnMut(Command) -> Option<RequestId>) {
        let Some(hold) = self.held.get_mut(channel) else { return };
        hold.window = (2 * hold.window).max(FIRST_WINDOW);
        hold.retry = Retry::default();
        let mut waiting =
            self.waiting.iter_mut().filter(|waiting| waiting.publish.channel == *channel);
        for next in waiting.by_ref().take(hold.window) {
            next.request = send(Command::Publish(next.publish.clone()));
            hold.probe = next.request;
        }
        let mut is_all = true;
        for later in waiting {
            // An answer to what was sent before the hold says nothing about what passes now.
            later.request = None;
            is_all = false;
        }
        if is_all {
            self.held.remove(channel);
        }
    }
}

#[cfg(test)]
mod tests;
