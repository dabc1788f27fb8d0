//! Watching who is in a channel, and being there.
//!
//! Who watches is subscribed to the reserved channel of its presence; there is no more to it than to any other
//! subscription, but for the permission and the name.

use tidewire_model::{Action, Channel, ErrorCode, Event, MemberWord, RequestId, Since};

use super::Session;
use super::resumption::resumed_at;
use crate::subscription::{Asked, Pending};
use crate::{Effect, Outputs, SavedMember, SavedPresence};

/// Channels one session may be a member of, and what it may say in all of them together.
const MOST_ENTERED: usize = 64;
const MOST_SAID: usize = 16 * 1_024;

impl Session {
    /// Every channel that this session is a member of, to be said when its connection ends.
    pub fn entered(&self) -> impl Iterator<Item = &Channel> {
        self.members().iter().map(|member| &member.channel)
    }

    fn members(&self) -> &[SavedMember] {
        self.rare.as_ref().map(|rare| &*rare.entered).unwrap_or_default()
    }

    pub(super) fn saved_presence(&self) -> SavedPresence {
        let channels = self.subscriptions.iter().map(|subscription| &subscription.channel);
        let watched = channels.filter_map(Channel::watched).collect();
        SavedPresence { watched, entered: self.members().to_vec() }
    }

    pub(super) fn handle_watch(
        &mut self,
        request: RequestId,
        channel: &Channel,
        out: &mut Outputs,
    ) {
        if !self.may(Action::Presence, channel, request, out) {
            return;
        }
        let Some(reserved) = channel.presence() else {
            return out.refuse(request, ErrorCode::NoPresence, TOO_LONG);
        };
        let asked = Asked::ByClient { request: Some(request), since: Since::Now };
        self.subscribe_anew(request, reserved, Pending::new(asked, None, None), out);
    }

    pub(super) fn handle_unwatch(
        &mut self,
        request: RequestId,
        channel: &Channel,
        out: &mut Outputs,
    ) {
        match channel.presence() {
            Some(reserved) => self.handle_unsubscribe(request, &reserved, out),
            None => out.refuse(request, ErrorCode::NoPresence, TOO_LONG),
        }
    }

    pub(super) fn handle_enter(
        &mut self,
        request: RequestId,
        channel: Channel,
        word: Option<MemberWord>,
        out: &mut Outputs,
    ) {
        if !self.may(Action::Presence, &channel, request, out) {
            return;
        }
        if channel.presence().is_none() {
            return out.refuse(request, ErrorCode::NoPresence, TOO_LONG);
        }
        let said = |word: &Option<MemberWord>| word.as_ref().map_or(0, |word| word.bytes().len());
        if said(&word) > MemberWord::MAX_BYTES {
            let message = "what a member says of itself has at most 1024 bytes";
            return out.refuse(request, ErrorCode::PayloadTooLarge, message);
        }
        let others = self.members().iter().filter(|member| member.channel != channel);
        let (count, bytes) =
            others.fold((0, 0), |(count, bytes), one| (count + 1, bytes + said(&one.word)));
        if count >= MOST_ENTERED || bytes + said(&word) > MOST_SAID {
            let message =
                "a connection may be a member of 64 channels, and say 16 KiB in all of them";
            return out.refuse(request, ErrorCode::LimitExceeded, message);
        }
        let entered = &mut self.rare.get_or_insert_default().entered;
        entered.retain(|member| member.channel != channel);
        entered.push(SavedMember { channel: channel.clone(), word: word.clone() });
        out.effects.push(Effect::Enter { request: Some(request), channel, word });
        out.effects.push(Effect::Save);
    }

    /// Leaving is allowed to everybody, and more often than entering.
    pub(super) fn handle_leave(&mut self, request: RequestId, channel: Channel, out: &mut Outputs) {
        if !self.take_member(&channel) {
            return out.events.push(Event::Left { request, channel });
        }
        out.effects.push(Effect::Depart { request: Some(request), channel });
        out.effects.push(Effect::Save);
        self.forget_queue();
    }

    /// Goes on watching, and being where it was.
    pub(super) fn take_up_presence(&mut self, saved: SavedPresence, out: &mut Outputs) {
        for channel in saved.watched {
            let Some(reserved) = channel.presence() else { continue };
            self.take_up(reserved, Pending::new(resumed_at(None), None, None).known(), out);
        }
        for member in saved.entered {
            let SavedMember { channel, word } = member.clone();
            if self.allows(Action::Presence, &channel) {
                self.rare.get_or_insert_default().entered.push(member);
                out.effects.push(Effect::Enter { request: None, channel, word });
            } else {
                out.effects.push(Effect::Depart { request: None, channel });
            }
        }
    }

    pub(super) fn leave_what_is_denied(&mut self, out: &mut Outputs) {
        let denied = |channel: &&Channel| !self.allows(Action::Presence, channel);
        let denied: Vec<Channel> = self.entered().filter(denied).cloned().collect();
        for channel in denied {
            self.take_member(&channel);
            out.effects.push(Effect::Depart { request: None, channel });
        }
    }

    fn take_member(&mut self, channel: &Channel) -> bool {
        let Some(rare) = &mut self.rare else { return false };
        let before = rare.entered.len();
        rare.entered.retain(|member| member.channel != *channel);
        rare.entered.len() < before
    }
}

const TOO_LONG: &str = "a channel whose name has more than 245 bytes keeps no presence";
