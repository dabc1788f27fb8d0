//! Who is in a channel, to a client and by it.

use tidewire_model::{Channel, ErrorCode, MemberWord, PageMark, RequestId};
use tidewire_protocol_native::client::{Refusal, ServerEvent};
use tokio::time::Instant;

use super::{Client, sending};
use crate::attendance::{Refused, Wish};
use crate::happening::Happening;

/// Pages that may be asked for at once.
const MOST_PAGES: usize = 64;

impl Client {
    /// Wants to be in a channel, from now on and over every loss, and to say this there. Each time the
    /// server has it, that is told as [`Happening::Entered`]; what is refused for good as
    /// [`Happening::Refused`].
    pub fn enter(&mut self, channel: Channel, word: Option<MemberWord>) {
        self.attendance.want((Wish::BeIn, channel), word, sending(&mut self.connection));
    }

    /// Wants to be in a channel no more.
    pub fn leave(&mut self, channel: Channel) {
        self.attendance.give_up((Wish::BeIn, channel), sending(&mut self.connection));
    }

    /// Wants to hear who comes and goes in a channel, from now on and over every loss, as
    /// [`Happening::Presence`]. After each [`Happening::Watching`], and after each change that is
    /// `lost`, the list is to be loaded by [`members`](Self::members); a [`MemberList`](crate::MemberList)
    /// keeps it.
    pub fn watch(&mut self, channel: Channel) {
        self.attendance.want((Wish::Watch, channel), None, sending(&mut self.connection));
    }

    /// Wants to hear of it no more.
    pub fn unwatch(&mut self, channel: Channel) {
        self.attendance.give_up((Wish::Watch, channel), sending(&mut self.connection));
    }

    /// Asks for about `limit` members of a channel, from the beginning or from where a page ended. They
    /// come as [`Happening::Members`], or what was asked is refused for good. Says whether it is asked: of 64
    /// pages at once no more are.
    ///
    /// Where the mark means nothing any more, after the store has lost what it had, the list begins anew: the
    /// page that comes is the first, and who is on it may have been told before.
    ///
    /// Asking from the beginning takes the place of whatever was asked of that channel before: no page of it
    /// comes any more, and so none that was made before what had the list loaded again.
    pub fn members(&mut self, channel: Channel, from: Option<PageMark>, limit: u32) -> bool {
        if from.is_none() {
            self.attendance.forget_pages(&channel);
        }
        if self.attendance.pages() == MOST_PAGES {
            return false;
        }
        self.attendance.ask_for_members((channel, from, limit), sending(&mut self.connection));
        true
    }

    /// Takes what the connection at hand says of presence, and leaves the rest.
    pub(super) fn take_presence(&mut self, event: ServerEvent) {
        let (request, happening) = match event {
            ServerEvent::Presence { channel, changes } => {
                return self.happenings.push_back(Happening::Presence { channel, changes });
            }
            ServerEvent::Unwatched { request: None, channel, refusal: Some(refusal) } => {
                if self.attendance.end_watch(&channel, &refusal, Instant::now()) {
                    let channel = Some(channel);
                    self.happenings.push_back(Happening::Refused { channel, refusal });
                }
                return;
            }
            ServerEvent::Watching { request, channel } => {
                (request, Some(Happening::Watching { channel }))
            }
            ServerEvent::Entered { request, channel, member } => {
                (request, Some(Happening::Entered { channel, member }))
            }
            ServerEvent::Members { request, channel, page } => {
                (request, Some(Happening::Members { channel, page }))
            }
            ServerEvent::Left { request, .. }
            | ServerEvent::Unwatched { request: Some(request), .. } => (request, None),
            _ => return,
        };
        if self.attendance.answered(request) {
            self.happenings.extend(happening);
        }
    }

    /// Takes a refusal that is about presence; says whether it is.
    pub(super) fn refuses_presence(&mut self, request: RequestId, refusal: &Refusal) -> bool {
        if refusal.error_code() == Some(ErrorCode::AlreadySubscribed)
            && self.attendance.is_watch(request)
        {
            // The session has gone on watching.
            self.attendance.answered(request);
            return true;
        }
        match self.attendance.refuse(request, refusal, Instant::now()) {
            None => return false,
            Some(Refused::ForNow) => {}
            Some(Refused::ForGood(channel)) => {
                let (channel, refusal) = (Some(channel), refusal.clone());
                self.happenings.push_back(Happening::Refused { channel, refusal });
            }
        }
        true
    }
}
