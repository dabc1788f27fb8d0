//! Who may write to a session, judged where the calls are performed.

use std::collections::{BTreeMap, BTreeSet};

use crate::invariant::{Invariant, Objection};
use crate::redis::{Reply, ServerId};

/// What every server has granted to whom, and whose writes it took.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    sessions: BTreeMap<(ServerId, Vec<u8>), Session>,
    /// Claims that were granted.
    pub(crate) granted: usize,
    /// Claims and writes that were refused, since the session had moved on.
    pub(crate) fenced: usize,
    objections: Vec<Objection>,
}

/// A session as one server ought to have it.
#[derive(Debug, Default)]
struct Session {
    generation: u64,
    owner: Vec<u8>,
    /// With which nonce each generation was claimed.
    claimed: BTreeMap<u64, Vec<u8>>,
}

impl Ownership {
    /// Takes note of a call and what it was answered with, if it is about a session.
    pub(crate) fn performed(&mut self, server: ServerId, command: &[Vec<u8>], reply: &Reply) {
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let [b"FCALL", function, b"1", key, generation, owner, third, _ttl] = *words.as_slice()
        else {
            return;
        };
        let is_claim = function.ends_with(b"_session_claim");
        if !is_claim && !function.ends_with(b"_session_save") {
            return;
        }
        let generation = std::str::from_utf8(generation).expect("text").parse().expect("a number");
        match verdict(reply) {
            b"GRANTED" => self.granted(server, key, (generation, owner, third)),
            b"OK" => self.saved(server, key, (generation, owner)),
            b"FENCED" => self.fenced += 1,
            _ => {}
        }
    }

    fn granted(&mut self, server: ServerId, key: &[u8], claim: (u64, &[u8], &[u8])) {
        let (from, owner, nonce) = claim;
        self.granted += 1;
        let session = self.sessions.entry((server, key.to_vec())).or_default();
        let first = session.claimed.entry(from).or_insert_with(|| nonce.to_vec());
        let is_rival = *first != nonce;
        if is_rival || from + 1 < session.generation {
            let text = format!("generation {from} was claimed again: {:?}", Name(key));
            self.objections.push(Objection::new(Invariant::Ownership, text));
        }
        session.generation = session.generation.max(from + 1);
        session.owner = owner.to_vec();
    }

    fn saved(&mut self, server: ServerId, key: &[u8], (generation, owner): (u64, &[u8])) {
        let session = self.sessions.entry((server, key.to_vec())).or_default();
        let is_others = generation == session.generation && owner != session.owner;
        if generation < session.generation || is_others {
            let text = format!(
                "{:?} wrote {:?} under {generation}, {:?} has it under {}",
                Name(owner),
                Name(key),
                Name(&session.owner),
                session.generation
            );
            self.objections.push(Objection::new(Invariant::Ownership, text));
            return;
        }
        session.generation = session.generation.max(generation);
        session.owner = owner.to_vec();
    }

    /// In the end every holder has written twice: those whose second write was taken are to be one.
    pub(crate) fn settled(&mut self, session: &str, owners: &BTreeSet<String>) {
        if owners.len() > 1 {
            let text = format!("{session} is held by all of {owners:?}");
            self.objections.push(Objection::new(Invariant::Ownership, text));
        }
    }

    pub(crate) fn objections(&self) -> &[Objection] {
        &self.objections
    }
}

fn verdict(reply: &Reply) -> &[u8] {
    match reply {
        Reply::List(replies) => match replies.first() {
            Some(Reply::Bytes(word)) => word,
            _ => b"",
        },
        _ => b"",
    }
}

/// Bytes that are mostly text.
struct Name<'a>(&'a [u8]);

impl std::fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_claimed_once_and_again_by_who_repeats_the_claim() {
        let mut ownership = Ownership::default();

        claim(&mut ownership, (1, "one", "a"));
        claim(&mut ownership, (1, "other", "a"));
        assert_eq!(ownership.objections(), []);
        claim(&mut ownership, (1, "other", "b"));

        assert_eq!(ownership.objections().len(), 1);
    }

    #[test]
    fn a_write_under_an_older_generation_or_by_another_is_not_to_be_taken() {
        let mut ownership = Ownership::default();

        save(&mut ownership, (1, "one"));
        claim(&mut ownership, (1, "other", "a"));
        save(&mut ownership, (2, "other"));
        assert_eq!(ownership.objections(), []);
        save(&mut ownership, (1, "one"));
        save(&mut ownership, (2, "one"));

        assert_eq!(ownership.objections().len(), 2);
    }

    #[test]
    fn what_two_hold_in_the_end_is_objected_to() {
        let mut ownership = Ownership::default();

        ownership.settled("s", &["one".into()].into());
        assert_eq!(ownership.objections(), []);
        ownership.settled("s", &["one".into(), "other".into()].into());

        assert_eq!(ownership.objections().len(), 1);
    }

    fn claim(ownership: &mut Ownership, (from, owner, nonce): (u64, &str, &str)) {
        call(ownership, ["f_session_claim", "1", "s", &from.to_string(), owner, nonce], "GRANTED");
    }

    fn save(ownership: &mut Ownership, (generation, owner): (u64, &str)) {
        call(ownership, ["f_session_save", "1", "s", &generation.to_string(), owner, "{}"], "OK");
    }

    fn call(ownership: &mut Ownership, words: [&str; 6], verdict: &str) {
        let words = ["FCALL"].into_iter().chain(words).chain(["1000"]);
        let command: Vec<_> = words.map(|word| word.as_bytes().to_vec()).collect();
        ownership.performed(1, &command, &Reply::List(vec![Reply::text(verdict)]));
    }
}
