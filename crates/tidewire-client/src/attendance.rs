//! What the application wants of presence.

use std::collections::BTreeMap;

use tidewire_model::{Channel, Command, MemberWord, PageMark, RequestId};
use tidewire_protocol_native::client::Refusal;
use tokio::time::Instant;

use crate::retry::Retry;

/// The channels the application wants to be in or to watch, and the lists it has asked for.
#[derive(Default)]
pub(crate) struct Attendance {
    wishes: BTreeMap<(Wish, Channel), Granted>,
    pages: Vec<Page>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Wish {
    BeIn,
    Watch,
}

/// How far a wish has got.
struct Granted {
    /// What the member says.
    word: Option<MemberWord>,
    /// It is wished no more, and the server has not confirmed that yet.
    is_over: bool,
    /// The command that has not been answered on the connection at hand.
    request: Option<RequestId>,
    /// When to ask again after a refusal.
    ask_at: Option<Instant>,
    retry: Retry,
}

/// A part of a list that has been asked for.
struct Page {
    channel: Channel,
    from: Option<PageMark>,
    limit: u32,
    request: Option<RequestId>,
}

/// What was refused.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// It is asked again, or there is nothing to ask for.
    ForNow,
    ForGood(Channel),
}

impl Granted {
    fn command(&self, wish: Wish, channel: &Channel) -> Command {
        let channel = channel.clone();
        match (wish, self.is_over) {
            (Wish::BeIn, false) => Command::Enter { channel, word: self.word.clone() },
            (Wish::BeIn, true) => Command::Leave { channel },
            (Wish::Watch, false) => Command::Watch { channel },
            (Wish::Watch, true) => Command::Unwatch { channel },
        }
    }
}

impl Attendance {
    /// Wishes something, with a word if it is to be in a channel; the newest word replaces those before.
    pub(crate) fn want(
        &mut self,
        (wish, channel): (Wish, Channel),
        word: Option<MemberWord>,
        send: impl FnOnce(Command) -> Option<RequestId>,
    ) {
        let retry = Retry::default();
        let mut granted = Granted { word, is_over: false, request: None, ask_at: None, retry };
        granted.request = send(granted.command(wish, &channel));
        self.wishes.insert((wish, channel), granted);
    }

    /// Wishes something no more.
    pub(crate) fn give_up(
        &mut self,
        (wish, channel): (Wish, Channel),
        send: impl FnOnce(Command) -> Option<RequestId>,
    ) {
        let Some(granted) = self.wishes.get_mut(&(wish, channel.clone())) else { return };
        granted.is_over = true;
        granted.ask_at = None;
        granted.request = send(granted.command(wish, &channel));
    }

    /// Waits no more for what has been asked for of a channel's list.
    pub(crate) fn forget_pages(&mut self, channel: &Channel) {
        self.pages.retain(|page| page.channel != *channel);
    }

    /// Asks for a part of a list.
    pub(crate) fn ask_for_members(
        &mut self,
        (channel, from, limit): (Channel, Option<PageMark>, u32),
        send: impl FnOnce(Command) -> Option<RequestId>,
    ) {
        let request = send(Command::Members { channel: channel.clone(), from, limit });
        self.pages.push(Page { channel, from, limit, request });
    }

    /// Parts of lists that have not come.
    pub(crate) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Everything, on a connection that begins: what the session knows of is asked for again without harm.
    pub(crate) fn begin_anew(&mut self, mut send: impl FnMut(Command) -> Option<RequestId>) {
        for ((wish, channel), granted) in &mut self.wishes {
            granted.ask_at = None;
            granted.request = send(granted.command(*wish, channel));
        }
        for Page { channel, from, limit, request } in &mut self.pages {
            let (channel, from, limit) = (channel.clone(), *from, *limit);
            *request = send(Command::Members { channel, from, limit });
        }
    }

    /// Takes note of an answer; says whether anybody waits for it.
    pub(crate) fn answered(&mut self, request: RequestId) -> bool {
        let mut is_awaited = false;
        self.pages.retain(|page| {
            is_awaited |= page.request == Some(request);
            page.request != Some(request)
        });
        self.wishes.retain(|_, granted| {
            let is_it = granted.request == Some(request);
            if is_it {
                is_awaited = true;
                granted.request = None;
                granted.retry = Retry::default();
            }
            !(is_it && granted.is_over)
        });
        is_awaited
    }

    /// Whether a request was to watch.
    pub(crate) fn is_watch(&self, request: RequestId) -> bool {
        let mut wishes = self.wishes.iter();
        wishes.any(|((wish, _), one)| *wish == Wish::Watch && one.request == Some(request))
    }

    /// Takes note of a refusal; `None` if it was of something else.
    pub(crate) fn refuse(
        &mut self,
        request: RequestId,
        refusal: &Refusal,
        now: Instant,
    ) -> Option<Refused> {
        if let Some(index) = self.pages.iter().position(|page| page.request == Some(request)) {
            return Some(Refused::ForGood(self.pages.remove(index).channel));
        }
        let found = self.wishes.iter_mut().find(|(_, one)| one.request == Some(request));
        let ((wish, channel), granted) = found?;
        if granted.is_over && !refusal.retryable {
            // It was not so anyway.
            let key = (*wish, channel.clone());
            self.wishes.remove(&key);
            return Some(Refused::ForNow);
        }
        if refusal.retryable {
            granted.request = None;
            granted.ask_at = Some(now + granted.retry.after(refusal));
            return Some(Refused::ForNow);
        }
        let key = (*wish, channel.clone());
        self.wishes.remove(&key);
        Some(Refused::ForGood(key.1))
    }

    /// The server has ended a watch by itself. Says whether that is for good.
    pub(crate) fn end_watch(&mut self, channel: &Channel, refusal: &Refusal, now: Instant) -> bool {
        let key = (Wish::Watch, channel.clone());
        let Some(granted) = self.wishes.get_mut(&key) else { return false };
        if refusal.retryable && !granted.is_over {
            granted.ask_at = Some(now + granted.retry.after(refusal));
            return false;
        }
        let is_wished = !granted.is_over;
        self.wishes.remove(&key);
        is_wished
    }

    /// When to [`ask_again`](Self::ask_again).
    pub(crate) fn ask_at(&self) -> Option<Instant> {
        self.wishes.values().filter_map(|granted| granted.ask_at).min()
    }

    /// Asks again for what has waited long enough.
    pub(crate) fn ask_again(
        &mut self,
        now: Instant,
        mut send: impl FnMut(Command) -> Option<RequestId>,
    ) {
        let is_due = |granted: &&mut Granted| granted.ask_at.is_some_and(|at| at <= now);
        for ((wish, channel), granted) in &mut self.wishes {
            if is_due(&granted) {
                granted.ask_at = None;
                granted.request = send(granted.command(*wish, channel));
            }
        }
    }
}
