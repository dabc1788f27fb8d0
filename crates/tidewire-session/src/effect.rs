use tidewire_model::{
    Channel, DeltaFormat, Disconnect, ErrorCode, Event, Failure, HistoryQuery, JoinId, MemberWord,
    PageMark, Publish, RequestId, Since, Token,
};

/// What a session wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Join a channel; answered by [`Session::joined`](crate::Session::joined). It is new if nobody knows
    /// that the session had it before.
    Join { channel: Channel, since: Since, join: JoinId, is_new: bool },
    /// Leave a channel; not answered.
    Leave { channel: Channel, join: JoinId },
    /// Publish; the answer goes to the client as it is.
    Publish { request: RequestId, publish: Publish },
    /// Read a page; the answer goes to the client as it is.
    History { request: RequestId, channel: Channel, query: HistoryQuery },
    /// Say that the session is a member of a channel; the answer goes to the client as it is, if it has
    /// asked.
    Enter { request: Option<RequestId>, channel: Channel, word: Option<MemberWord> },
    /// Say that it is none any more, likewise.
    Depart { request: Option<RequestId>, channel: Channel },
    /// Read a page of who is in a channel; the answer goes to the client as it is.
    Members { request: RequestId, channel: Channel, from: Option<PageMark>, limit: u32 },
    /// Verify a new credential; answered by [`Session::refreshed`](crate::Session::refreshed).
    Refresh { request: RequestId, token: Token },
    /// Verify a token of one channel; answered by [`Session::granted`](crate::Session::granted).
    Examine(Box<Wish>),
    /// Write the session's snapshot to the store, some time soon.
    Save,
    /// End the connection.
    Disconnect(Disconnect),
}

/// What a client wants to do with a token of one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    pub request: RequestId,
    pub token: Token,
    pub channel: Channel,
    /// How to subscribe; `None` only replaces the token.
    pub(crate) start: Option<(Since, Option<DeltaFormat>)>,
}

/// What a session has decided, in order; the owner performs and sends it, and clears it.
#[derive(Debug, Default)]
pub struct Outputs {
    pub effects: Vec<Effect>,
    pub events: Vec<Event>,
}

impl Outputs {
    pub(crate) fn refuse(
        &mut self,
        request: RequestId,
        code: ErrorCode,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) {
        self.fail(request, Failure::new(code, message));
    }

    pub(crate) fn fail(&mut self, request: RequestId, failure: Failure) {
        self.events.push(Event::Failed { request: Some(request), failure });
    }
}
