//! What clients, and the ends of their connections, have to say.

use std::time::Duration;

use tidewire_model::{MemberWord, PresenceMode, TenantChannel, UserId};
use tidewire_store::Age;
use tokio::time::Instant;

use super::roll::{Awaiting, Held, Wish};
use super::{Answer, Away, Depart, Enter, moved, name, not_kept};
use crate::OwnedSession;
use crate::shard::Shard;

/// How long a client waits for the store.
const PATIENCE: Duration = Duration::from_secs(5);

impl Shard {
    pub(crate) fn enter(&mut self, enter: Enter, now: Instant) {
        let Enter { channel, session, user, word, answer } = enter;
        let rule = self.rules.presence(&channel.tenant, &channel.channel);
        if rule.is_none_or(|rule| rule.mode != PresenceMode::Members) {
            if let Some(answer) = answer {
                answer.refuse(not_kept());
            }
            return;
        }
        let is_owned = self.wish(&channel, &session, (user, word, Wish::Here), now);
        self.await_or_refuse(&channel, (&session, is_owned), (answer, false), now);
        self.say(&channel);
    }

    pub(crate) fn be_away(&mut self, away: Away, now: Instant) {
        let Away { channel, session, user, at_least } = away;
        self.wish(&channel, &session, (user, None, Wish::Away { at_least }), now);
        self.say(&channel);
    }

    pub(crate) fn depart(&mut self, depart: Depart, now: Instant) {
        let Depart { channel, session, user, answer } = depart;
        let is_owned = self.wish(&channel, &session, (user, None, Wish::Gone), now);
        self.await_or_refuse(&channel, (&session, is_owned), (answer, true), now);
        self.say(&channel);
    }

    /// Takes note of how it stands with a session, unless a younger owner of it has spoken.
    fn wish(
        &mut self,
        channel: &TenantChannel,
        session: &OwnedSession,
        (user, word, wish): (UserId, Option<MemberWord>, Wish),
        now: Instant,
    ) -> bool {
        let part = self.around.presence.store.part_of(channel);
        let age = Age { generation: session.generation, version: self.desk.next_version() };
        self.desk.note_part(part, now);
        let roll = self.desk.open_roll(part, channel);
        let known = roll.held.get(&name(session));
        if known.is_some_and(|known| known.age.generation > age.generation) {
            return false;
        }
        let is_new = known.is_none();
        roll.held.insert(name(session), Held { age, user, word, wish });
        roll.unsaid.insert(name(session));
        self.desk.held += usize::from(is_new);
        true
    }

    fn await_or_refuse(
        &mut self,
        channel: &TenantChannel,
        (session, is_owned): (&OwnedSession, bool),
        (answer, is_leaving): (Option<Answer>, bool),
        now: Instant,
    ) {
        let Some(answer) = answer else { return };
        if !is_owned {
            return answer.refuse(moved());
        }
        let part = self.around.presence.store.part_of(channel);
        let roll = self.desk.open_roll(part, channel);
        let session = name(session);
        let age = roll.held.get(&session).map(|held| held.age).unwrap_or_default();
        let until = now + PATIENCE;
        roll.awaiting.push(Awaiting { session, age, until, answer, is_leaving });
    }
}
