//! What the application wants of presence.

use std::collections::BTreeMap;

use tidewire_model::{Channel, Command, ErrorCode, MemberWord, PageMark, RequestId};
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
    /// When to ask again after a refusal.
    ask_at: Option<Instant>,
    retry: Retry,
}

/// What was refused.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// It is asked again, or there is nothing to ask for.
    ForNow,
    ForGood(Channel),
}

impl Page {
    fn command(&self) -> Command {
        Command::Members { channel: self.channel.clone(), from: self.from, limit: self.limit }
    }

    /// Says whether it is asked for again: where the mark means nothing any more, the list from its beginning.
    fn refuse(&mut self, refusal: &Refusal, now: Instant) -> bool {
        let is_bad_mark = refusal.error_code() == Some(ErrorCode::BadMark) && self.from.is_some();
        if !is_bad_mark && !refusal.retryable {
            return false;
        }
        self.request = None;
        if is_bad_mark {
            self.from = None;
            self.ask_at = Some(now);
        } else {
            self.ask_at = Some(now + self.retry.after(refusal));
        }
        true
    }
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
        let retry = Retry::default();
        let mut page = Page { channel, from, limit, request: None, ask_at: None, retry };
        page.request = send(page.command());
        self.pages.push(page);
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
        for page in &mut self.pages {
            page.ask_at = None;
            page.request = send(page.command());
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
            if self.pages[index].refuse(refusal, now) {
                return Some(Refused::ForNow);
            }
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
        let wishes = self.wishes.values().filter_map(|granted| granted.ask_at);
        wishes.chain(self.pages.iter().filter_map(|page| page.ask_at)).min()
    }

    /// Asks again for what has waited long enough.
    pub(crate) fn ask_again(
        &mut self,
        now: Instant,
        mut send: impl FnMut(Command) -> Option<RequestId>,
    ) {
        let is_due = |ask_at: Option<Instant>| ask_at.is_some_and(|at| at <= now);
        for ((wish, channel), granted) in &mut self.wishes {
            if is_due(granted.ask_at) {
                granted.ask_at = None;
                granted.request = send(granted.command(*wish, channel));
            }
        }
        for page in self.pages.iter_mut().filter(|page| is_due(page.ask_at)) {
            page.ask_at = None;
            page.request = send(page.command());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidewire_model::Incarnation;

    use super::*;

    const MARK: PageMark = PageMark { incarnation: Incarnation::ZERO, place: 7 };

    #[test]
    fn a_page_that_is_refused_for_now_is_asked_for_again_when_the_server_says() {
        let (mut attendance, now) = (asked(Some(MARK)), Instant::now());
        let refusal = refusal(ErrorCode::Unavailable);

        for request in 1..=3 {
            let refused = attendance.refuse(RequestId(request), &refusal, now);
            assert_eq!(refused, Some(Refused::ForNow));
            assert_eq!(attendance.ask_at(), Some(now + Duration::from_millis(7)));
            assert_eq!(again(&mut attendance, now, request + 1), []);
            let later = now + Duration::from_millis(7);
            assert_eq!(again(&mut attendance, later, request + 1), [members(Some(MARK))]);
        }

        assert!(attendance.answered(RequestId(4)));
        assert_eq!((attendance.pages(), attendance.ask_at()), (0, None));
    }

    #[test]
    fn a_list_begins_anew_where_its_mark_means_nothing_any_more() {
        let (mut attendance, now) = (asked(Some(MARK)), Instant::now());
        let refusal = refusal(ErrorCode::BadMark);

        assert_eq!(attendance.refuse(RequestId(1), &refusal, now), Some(Refused::ForNow));
        assert_eq!(again(&mut attendance, now, 2), [members(None)]);

        let refused = attendance.refuse(RequestId(2), &refusal, now);
        assert_eq!(refused, Some(Refused::ForGood(channel())), "it had no mark");
    }

    #[test]
    fn a_page_that_is_refused_otherwise_is_not_asked_for_again() {
        let (mut attendance, now) = (asked(Some(MARK)), Instant::now());

        let refused = attendance.refuse(RequestId(1), &refusal(ErrorCode::NoPresence), now);

        assert_eq!(refused, Some(Refused::ForGood(channel())));
        assert_eq!((attendance.pages(), attendance.ask_at()), (0, None));
    }

    /// A page has been asked for, as the first request.
    fn asked(from: Option<PageMark>) -> Attendance {
        let mut attendance = Attendance::default();
        attendance.ask_for_members((channel(), from, 5), |_| Some(RequestId(1)));
        attendance
    }

    /// What is asked again by then, as this request.
    fn again(attendance: &mut Attendance, now: Instant, request: u32) -> Vec<Command> {
        let mut sent = Vec::new();
        attendance.ask_again(now, |command| {
            sent.push(command);
            Some(RequestId(request))
        });
        sent
    }

    fn members(from: Option<PageMark>) -> Command {
        Command::Members { channel: channel(), from, limit: 5 }
    }

    fn refusal(code: ErrorCode) -> Refusal {
        let retry_after = Some(Duration::from_millis(7));
        let (name, message) = (code.as_str().to_owned(), "no".to_owned());
        let (code, retryable) = (code.number(), code.is_retryable());
        Refusal { code, name, message, retryable, retry_after, limit: None }
    }

    fn channel() -> Channel {
        Channel::parse("room:42").expect("valid")
    }
}
