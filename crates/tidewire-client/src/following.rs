use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use tidewire_model::{Channel, Command, Gap, Position, RequestId, Subscribed, Token};
use tidewire_protocol_native::client::{Content, Received, Refusal};
use tidewire_protocol_native::fossil::BadDelta;
use tokio::time::Instant;

use crate::behind::Side;
use crate::followed::{Followed, Wanted};

/// The channels the application wants.
#[derive(Default)]
pub(crate) struct Following {
    channels: BTreeMap<Channel, Followed>,
    /// The earliest time at which one is to be asked for again.
    ask_at: Option<Instant>,
}

impl Following {
    /// Wants `channel`, and asks for it with `send`; one that is wanted already stays as it is. `send` has
    /// no id for a command that it cannot send now.
    pub(crate) fn follow(
        &mut self,
        channel: Channel,
        wanted: Wanted,
        send: impl FnOnce(Command) -> Option<RequestId>,
    ) {
        let Entry::Vacant(vacant) = self.channels.entry(channel) else { return };
        let channel = vacant.key().clone();
        let Wanted { since, delta, token } = wanted.clone();
        vacant.insert(Followed::new(wanted)).request =
            send(Command::Subscribe { channel, since, delta, token });
    }

    /// Asks for `channel`, from where it has been read to.
    fn ask(&mut self, channel: &Channel, send: impl FnOnce(Command) -> Option<RequestId>) {
        let Some(followed) = self.channels.get_mut(channel) else { return };
        followed.settle();
        let (since, Wanted { delta, token, .. }) = (followed.go_on(), followed.wanted.clone());
        followed.request =
            send(Command::Subscribe { channel: channel.clone(), since, delta, token });
    }

    /// Shows another token of the channel, now and whenever it is asked for.
    pub(crate) fn show(
        &mut self,
        channel: &Channel,
        token: Token,
        send: impl FnOnce(Command) -> Option<RequestId>,
    ) {
        let Some(followed) = self.channels.get_mut(channel) else { return };
        followed.wanted.token = Some(token.clone());
        followed.shown = send(Command::Refresh { token, channel: Some(channel.clone()) });
    }

    /// The channel of which `request` has shown another token; it is answered.
    pub(crate) fn shown_by(&mut self, request: RequestId) -> Option<Channel> {
        let is_it = |followed: &Followed| followed.shown == Some(request);
        let (channel, followed) = self.channels.iter_mut().find(|(_, followed)| is_it(followed))?;
        followed.shown = None;
        Some(channel.clone())
    }

    /// Asks for a channel that the server has ended for want of a token, if there is one to show; says
    /// whether there is. A session that is resumed brings back what its store has heard of.
    pub(crate) fn ask_with_token(
        &mut self,
        channel: &Channel,
        send: impl FnOnce(Command) -> Option<RequestId>,
    ) -> bool {
        let has_one = |followed: &Followed| followed.wanted.token.is_some();
        let has_one = self.channels.get(channel).is_some_and(has_one);
        if has_one {
            self.ask(channel, send);
        }
        has_one
    }

    /// Asks for `channel` anew after a delta that could not be applied: from where it has been read
    /// to, and in full from now on. What has come meanwhile comes again.
    pub(crate) fn ask_in_full(
        &mut self,
        channel: &Channel,
        send: impl FnMut(Command) -> Option<RequestId>,
    ) {
        let Some(followed) = self.channels.get_mut(channel) else { return };
        followed.lose_base();
        self.ask_anew(channel, send);
    }

    /// Gives a subscription up, and asks for its channel from where it has been read to.
    pub(crate) fn ask_anew(
        &mut self,
        channel: &Channel,
        mut send: impl FnMut(Command) -> Option<RequestId>,
    ) {
        send(Command::Unsubscribe { channel: channel.clone() });
        self.ask(channel, send);
    }

    /// Every channel, on a connection that begins: those that `are_back` come by themselves.
    pub(crate) fn begin_anew(
        &mut self,
        are_back: &HashSet<Channel>,
        mut send: impl FnMut(Command) -> Option<RequestId>,
    ) {
        self.ask_at = None;
        for followed in self.channels.values_mut() {
            followed.begin_anew();
        }
        let asked: Vec<_> =
            self.channels.keys().filter(|channel| !are_back.contains(*channel)).cloned().collect();
        for channel in asked {
            self.ask(&channel, &mut send);
        }
    }

    /// Asks again for those whose time has come.
    pub(crate) fn ask_again(
        &mut self,
        now: Instant,
        mut send: impl FnMut(Command) -> Option<RequestId>,
    ) {
        let is_due = |followed: &Followed| followed.ask_at.is_some_and(|at| at <= now);
        let due: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, followed)| is_due(followed))
            .map(|(channel, _)| channel.clone())
            .collect();
        for channel in due {
            self.ask(&channel, &mut send);
        }
        self.ask_at = self.channels.values().filter_map(|followed| followed.ask_at).min();
    }

    /// When to [`ask_again`](Self::ask_again).
    pub(crate) fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// The channel that `request` asked for.
    pub(crate) fn asked_by(&self, request: RequestId) -> Option<Channel> {
        let (channel, _) =
            self.channels.iter().find(|(_, followed)| followed.request == Some(request))?;
        Some(channel.clone())
    }

    /// The server has this subscription after all.
    pub(crate) fn keep(&mut self, channel: &Channel) {
        if let Some(followed) = self.channels.get_mut(channel) {
            followed.settle();
        }
    }

    /// The server does not serve `channel`: asks again later if that may help, or else wants it no
    /// more. Says whether that is so.
    pub(crate) fn refuse(&mut self, channel: &Channel, refusal: &Refusal, now: Instant) -> bool {
        if !refusal.retryable {
            self.channels.remove(channel);
            return true;
        }
        if let Some(followed) = self.channels.get_mut(channel) {
            followed.ask_later(refusal, now);
            self.ask_at = self.ask_at.into_iter().chain(followed.ask_at).min();
        }
        false
    }

    /// Takes a confirmation; says whether to [`ask_anew`](Self::ask_anew).
    pub(crate) fn subscribed(&mut self, subscribed: &Subscribed, now: Instant) -> bool {
        let followed = self.channels.get_mut(&subscribed.channel);
        followed.is_some_and(|followed| followed.subscribed(subscribed, now))
    }

    /// Takes a gap; says whether the application misses anything for that.
    pub(crate) fn gap(&mut self, channel: &Channel, gap: &Gap, side: Side, now: Instant) -> bool {
        let followed = self.channels.get_mut(channel);
        followed.is_some_and(|followed| followed.gap(gap, side, now))
    }

    /// Whether the connection at hand brings all that is new in every channel.
    pub(crate) fn is_in_step(&self) -> bool {
        self.channels.values().all(Followed::is_in_step)
    }

    /// Gives the publication with its whole payload; `None` for one that nobody waits for.
    pub(crate) fn restore(
        &mut self,
        channel: &Channel,
        publication: Received<Content>,
        side: Side,
    ) -> Result<Option<Received>, BadDelta> {
        let Some(followed) = self.channels.get_mut(channel) else { return Ok(None) };
        followed.restore(publication, side)
    }

    /// Reads a publication; says whether the application has not had it before. `None` if it does
    /// not want the channel, or has it over the other connection.
    pub(crate) fn read(
        &mut self,
        channel: &Channel,
        publication: &Received,
        side: Side,
        now: Instant,
    ) -> Option<bool> {
        self.channels.get_mut(channel)?.read(publication, side, now)
    }

    pub(crate) fn position(&self, channel: &Channel) -> Option<Position> {
        self.channels.get(channel)?.position
    }

    pub(crate) fn positions(&self) -> Vec<(Channel, Position)> {
        let position = |(channel, followed): (&Channel, &Followed)| {
            Some((channel.clone(), followed.position?))
        };
        self.channels.iter().filter_map(position).collect()
    }
}
