//! Publications that wait until a client has read, of channels that leave out what it misses meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidewire_model::{Envelope, JoinId, Position, WhenSlow};

/// What is held for one connection, by its joins.
///
/// The session knows nothing of it: its positions are those of what was sent, from which a client that
/// is lost meanwhile comes back.
#[derive(Debug, Default)]
pub(super) struct Held {
    joins: BTreeMap<JoinId, Kept>,
    publications: usize,
    bytes: usize,
}

/// What is held of one channel.
#[derive(Debug)]
pub(super) struct Kept {
    when_slow: WhenSlow,
    /// In the order of their positions.
    pub(super) newest: VecDeque<Arc<Envelope>>,
    /// Of the newest publication there was.
    pub(super) last: Position,
    /// The channel was sampled all the while.
    pub(super) is_sampled: bool,
    bytes: usize,
}

/// Publications held for a connection, of all its channels.
const MOST_PUBLICATIONS: usize = 1_024;

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.joins.is_empty()
    }

    pub(super) fn has(&self, join: JoinId) -> bool {
        self.joins.contains_key(&join)
    }

    /// Takes publications of a channel, which may be sampled, of which `most` are held, and altogether
    /// `most_bytes`; of those of the same key the newest. Returns how many are left out for that.
    pub(super) fn take(
        &mut self,
        (join, when_slow, is_sampled): (JoinId, WhenSlow, bool),
        publications: &[Arc<Envelope>],
        key_of: impl for<'a> Fn(&'a Envelope) -> Option<&'a str>,
        (most, most_bytes): (usize, usize),
    ) -> usize {
        let Some(last) = publications.last().map(|last| last.position) else { return 0 };
        let kept = self.joins.entry(join).or_insert_with(|| Kept {
            when_slow,
            newest: VecDeque::new(),
            last,
            is_sampled,
            bytes: 0,
        });
        (kept.when_slow, kept.last) = (when_slow, last);
        kept.is_sampled &= is_sampled;
        let before = (kept.newest.len(), kept.bytes);
        for publication in publications {
            if when_slow == WhenSlow::LatestByKey {
                kept.drop_other(key_of(publication), &key_of);
            }
            kept.bytes += publication.weight();
            kept.newest.push_back(Arc::clone(publication));
        }
        while kept.newest.len() > most {
            kept.drop_oldest();
        }
        self.publications = self.publications + kept.newest.len() - before.0;
        self.bytes = self.bytes + kept.bytes - before.1;
        let left_out = before.0 + publications.len() - kept.newest.len();
        left_out + self.keep_to(most_bytes)
    }

    /// Drops of whatever there is most until it is as much as may be.
    fn keep_to(&mut self, most_bytes: usize) -> usize {
        let mut left_out = 0;
        while self.publications > MOST_PUBLICATIONS || self.bytes > most_bytes {
            let heaviest = self.joins.values_mut().max_by_key(|kept| kept.bytes);
            let Some(kept) = heaviest else { return left_out };
            let Some(weight) = kept.drop_oldest() else { return left_out };
            self.bytes -= weight;
            self.publications -= 1;
            left_out += 1;
        }
        left_out
    }

    /// Holds nothing any more but the newest of channels that want that; returns how many are left out.
    pub(super) fn pause(&mut self) -> usize {
        let before = self.publications;
        for kept in self.joins.values_mut().filter(|kept| !kept.when_slow.is_of_values()) {
            self.publications -= kept.newest.len();
            self.bytes -= kept.bytes;
            (kept.newest, kept.bytes) = (VecDeque::new(), 0);
        }
        before - self.publications
    }

    /// Gives out what the client may be sent now that it is not behind: all of it, unless its socket
    /// takes no more, for which the newest of a channel go on waiting.
    pub(super) fn release(&mut self, is_blocked: bool) -> Vec<(JoinId, Kept)> {
        if !is_blocked {
            return std::mem::take(self).joins.into_iter().collect();
        }
        let ready = self.joins.iter().filter(|(_, kept)| !kept.when_slow.is_of_values());
        let ready: Vec<_> = ready.map(|(join, _)| *join).collect();
        ready.into_iter().filter_map(|join| Some((join, self.remove(join)?))).collect()
    }

    pub(super) fn remove(&mut self, join: JoinId) -> Option<Kept> {
        let kept = self.joins.remove(&join)?;
        self.publications -= kept.newest.len();
        self.bytes -= kept.bytes;
        Some(kept)
    }
}

impl Kept {
    /// Drops the one that is held of a key, if there is one.
    fn drop_other(
        &mut self,
        key: Option<&str>,
        key_of: impl for<'a> Fn(&'a Envelope) -> Option<&'a str>,
    ) {
        let other = self.newest.iter().position(|one| key_of(one) == key);
        if let Some(other) = other.and_then(|at| self.newest.remove(at)) {
            self.bytes -= other.weight();
        }
    }

    /// Drops the oldest one; returns what it weighed.
    fn drop_oldest(&mut self) -> Option<usize> {
        let weight = self.newest.pop_front()?.weight();
        self.bytes -= weight;
        Some(weight)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tidewire_model::{Channel, Incarnation, Payload, Publication, Tenant, TenantChannel};

    use super::*;

    const MOST_BYTES: usize = 20_000;
    const SKIPPING: &[WhenSlow] =
        &[WhenSlow::DropOldest, WhenSlow::DropNewest, WhenSlow::Latest, WhenSlow::LatestByKey];

    #[test]
    fn as_many_of_the_newest_are_held_as_the_channel_says() {
        for (when_slow, expected) in [
            (WhenSlow::DropOldest, (37..=100).collect()),
            (WhenSlow::DropNewest, vec![]),
            (WhenSlow::Latest, vec![100]),
            (WhenSlow::LatestByKey, vec![98, 99, 100]),
        ] {
            let mut held = Held::default();

            let left_out = take(&mut held, 1, when_slow, 1..=100);

            let [(JoinId(1), kept)] = &held.release(false)[..] else { unreachable!("of one join") };
            assert_eq!(offsets(kept), expected, "{when_slow:?}");
            assert_eq!((kept.last.offset, left_out), (100, 100 - expected.len()));
            assert!(held.is_empty());
        }
    }

    #[test]
    fn while_the_socket_takes_nothing_only_the_newest_go_on_waiting() {
        let mut held = Held::default();
        take(&mut held, 1, WhenSlow::Latest, 1..=3);
        take(&mut held, 2, WhenSlow::DropOldest, 1..=3);

        let released = held.release(true);

        assert_eq!(released.iter().map(|(join, _)| join.0).collect::<Vec<_>>(), [2]);
        assert!(held.has(JoinId(1)));
    }

    #[test]
    fn for_who_is_slow_only_the_newest_of_some_channels_are_held() {
        let mut held = Held::default();
        take(&mut held, 1, WhenSlow::Latest, 1..=3);
        take(&mut held, 2, WhenSlow::DropOldest, 1..=3);

        assert_eq!(held.pause(), 3);

        let released = held.release(false);
        assert_eq!(offsets(&released[0].1), [3]);
        assert!(released[1].1.newest.is_empty());
        assert_eq!(released[1].1.last.offset, 3, "how much was left out is known");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take { join: u32, when_slow: WhenSlow, count: u64, bytes: usize },
        Remove(u32),
        Release(bool),
        Pause,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..4_u32, prop::sample::select(SKIPPING), 1..90_u64, 0..6_000_usize).prop_map(
                |(join, when_slow, count, bytes)| Step::Take { join, when_slow, count, bytes }
            ),
            1 => (0..4_u32).prop_map(Step::Remove),
            1 => any::<bool>().prop_map(Step::Release),
            1 => Just(Step::Pause),
        ];
        prop::collection::vec(step, 1..40)
    }

    proptest! {
        #[test]
        fn nothing_is_held_beyond_its_bounds_nor_lost_without_being_counted(steps in steps()) {
            let mut held = Held::default();
            let mut next = [1_u64; 4];
            let (mut taken, mut left_out, mut released) = (0, 0, 0);
            for step in steps {
                match step {
                    Step::Take { join, when_slow, count, bytes } => {
                        let first = next[join as usize];
                        next[join as usize] += count;
                        let offsets = first..first + count;
                        let run: Vec<_> = offsets.map(|offset| envelope(offset, bytes)).collect();
                        taken += run.len();
                        let whom = (JoinId(join), when_slow, false);
                        let bounds = (when_slow.held(), MOST_BYTES);
                        left_out += held.take(whom, &run, key_of, bounds);
                        prop_assert!(held.joins[&JoinId(join)].newest.len() <= when_slow.held());
                        prop_assert_eq!(held.joins[&JoinId(join)].last.offset, first + count - 1);
                    }
                    Step::Remove(join) => {
                        released += held.remove(JoinId(join)).map_or(0, |kept| kept.newest.len());
                    }
                    Step::Release(is_blocked) => {
                        for (_, kept) in held.release(is_blocked) {
                            prop_assert!(offsets(&kept).is_sorted());
                            released += kept.newest.len();
                        }
                    }
                    Step::Pause => left_out += held.pause(),
                }
                prop_assert!(held.bytes <= MOST_BYTES && held.publications <= MOST_PUBLICATIONS);
                let kept = held.joins.values();
                prop_assert_eq!(kept.clone().map(|kept| kept.newest.len()).sum::<usize>(), held.publications);
                prop_assert_eq!(kept.map(|kept| kept.bytes).sum::<usize>(), held.bytes);
                prop_assert_eq!(taken, left_out + released + held.publications);
            }
        }
    }

    fn take(
        held: &mut Held,
        join: u32,
        when_slow: WhenSlow,
        offsets: std::ops::RangeInclusive<u64>,
    ) -> usize {
        let run: Vec<_> = offsets.map(|offset| envelope(offset, 10)).collect();
        held.take((JoinId(join), when_slow, false), &run, key_of, (when_slow.held(), MOST_BYTES))
    }

    /// One of three, by the offset.
    fn key_of(envelope: &Envelope) -> Option<&str> {
        match envelope.position.offset % 3 {
            0 => Some("a"),
            1 => Some("b"),
            _ => None,
        }
    }

    fn offsets(kept: &Kept) -> Vec<u64> {
        kept.newest.iter().map(|one| one.position.offset).collect()
    }

    fn envelope(offset: u64, bytes: usize) -> Arc<Envelope> {
        let channel = TenantChannel::new(
            Tenant::parse("acme").expect("tenant"),
            Channel::parse("a").expect("channel"),
        );
        Arc::new(Envelope::new(Publication {
            channel,
            position: Position::new(Incarnation::ZERO.epoch(0), offset),
            id: None,
            time_ms: 0,
            publisher: None,
            payload: Payload::binary(Bytes::from(vec![b'x'; bytes])),
        }))
    }
}
