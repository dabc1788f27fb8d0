use tidewire_model::{
    Channel, Gap, GapReason, Incarnation, Payload, PublicationId, Recovery, Since, Subscribed,
};
use tidewire_protocol_native::client::Received;
use tokio::time::Instant;

use super::*;
use crate::followed::{Followed, Wanted};

/// A channel that has been read over one connection, when another begins; and what has been read.
struct Moving {
    followed: Followed,
    read: Vec<u64>,
}

#[test]
fn of_two_streams_each_publication_is_read_once_and_in_order_however_they_mix() {
    // A failover that took nothing from anybody begins another epoch in the middle.
    let all: Vec<_> = (1..=4).map(|n| at(1, n)).chain((5..=7).map(|n| at(2, n))).collect();
    for (read, told) in (1..=7).flat_map(|read| (1..=read).map(move |told| (read, told))) {
        let count = 2 * all.len() - read - told;
        for order in 0_u32..1 << count {
            let mut moving = Moving::read(&all[..read]);
            moving.confirm(all[told - 1], Recovery::Recovered);
            let (mut older, mut newer) = (all[read..].iter(), all[told..].iter());
            for step in 0..count {
                let is_older = order >> step & 1 == 1 && older.len() > 0 || newer.len() == 0;
                let (side, stream) =
                    if is_older { (Side::Older, &mut older) } else { (Side::Newer, &mut newer) };
                moving.bring(*stream.next().expect("as many as steps"), side);
            }

            let is_whole = moving.read.iter().copied().eq(1..=7);
            assert!(is_whole, "{:?}: {read}, {told}, {order:b}", moving.read);
            assert!(moving.followed.is_in_step());
        }
    }
}

#[test]
fn what_comes_over_the_newer_before_it_has_confirmed_is_not_counted_on() {
    let mut moving = Moving::read(&[at(1, 5)]);

    moving.bring(at(1, 7), Side::Newer);
    moving.bring(at(1, 6), Side::Older);

    assert_eq!(moving.read, [5, 6]);
    assert!(!moving.followed.is_in_step());
}

#[test]
fn once_the_newer_is_in_step_the_older_counts_no_more() {
    let mut moving = Moving::read(&[at(1, 5)]);

    moving.confirm(at(1, 5), Recovery::Recovered);
    moving.bring(at(1, 6), Side::Older);
    moving.gap(GapReason::Reset, at(3, 0), Side::Older);
    moving.bring(at(1, 6), Side::Newer);

    assert_eq!(moving.read, [5, 6]);
    assert_eq!(moving.followed.position, Some(at(1, 6)));
}

#[test]
fn a_tail_that_only_the_older_had_is_given_up_and_read_again_once() {
    let mut moving = Moving::read(&[at(1, 5)]);

    moving.confirm(at(1, 4), Recovery::Recovered);
    for lost in [6, 7] {
        moving.bring(at(1, lost), Side::Older);
    }
    moving.bring(at(1, 5), Side::Newer);
    // The log lost 6 and 7; 6 was appended again, as 8 is that nobody has had.
    moving.bring_as(at(2, 6), 6, Side::Newer);
    moving.bring_as(at(2, 7), 8, Side::Newer);

    assert_eq!(moving.read, [5, 6, 7, 8]);
    assert_eq!(moving.followed.position, Some(at(2, 7)));
}

#[test]
fn an_epoch_that_the_log_lost_as_a_whole_holds_nothing_up() {
    let mut moving = Moving::read(&[at(1, 5)]);

    moving.confirm(at(1, 4), Recovery::Recovered);
    moving.bring(at(2, 6), Side::Older);
    moving.bring(at(1, 5), Side::Newer);
    moving.bring_as(at(3, 6), 9, Side::Newer);

    assert_eq!(moving.read, [5, 6, 9]);
}

#[test]
fn a_rewind_that_the_older_tells_of_is_no_reason_to_miss_or_repeat_anything() {
    let mut moving = Moving::read(&[at(1, 5), at(1, 6)]);

    moving.confirm(at(1, 4), Recovery::Recovered);
    moving.gap(GapReason::Rewind, at(1, 5), Side::Older);
    moving.bring(at(1, 5), Side::Newer);
    moving.bring_as(at(2, 6), 6, Side::Newer);
    moving.bring_as(at(2, 7), 7, Side::Newer);

    assert_eq!(moving.read, [5, 6, 7]);
}

#[test]
fn a_gap_in_what_the_older_has_brought_is_none() {
    let mut moving = Moving::read(&[at(1, 5)]);
    moving.confirm(at(1, 3), Recovery::Recovered);

    assert!(!moving.gap(GapReason::Window, at(1, 4), Side::Newer));
    for offset in [5, 6] {
        moving.bring(at(1, offset), Side::Newer);
    }

    assert_eq!(moving.read, [5, 6]);
}

#[test]
fn a_gap_beyond_what_has_been_read_is_one() {
    let mut moving = Moving::read(&[at(1, 5)]);
    moving.confirm(at(1, 3), Recovery::Recovered);

    assert!(moving.gap(GapReason::Window, at(1, 9), Side::Newer));
    moving.bring(at(1, 6), Side::Older);
    moving.bring(at(1, 10), Side::Newer);

    assert_eq!(moving.read, [5, 10]);
}

#[test]
fn a_channel_that_its_session_brings_back_from_elsewhere_is_asked_for_anew() {
    let mut moving = Moving::read(&[at(1, 5)]);

    assert!(moving.confirm(at(1, 9), Recovery::NotAsked));
    moving.bring(at(1, 10), Side::Newer);
    assert!(!moving.confirm(at(1, 5), Recovery::Recovered));
    moving.bring(at(1, 6), Side::Newer);

    assert_eq!(moving.read, [5, 6]);
}

impl Moving {
    /// Reads `positions` over a connection, and begins another.
    fn read(positions: &[Position]) -> Self {
        let mut moving = Self {
            followed: Followed::new(Wanted { since: Since::Now, delta: None, token: None }),
            read: Vec::new(),
        };
        for position in positions {
            moving.bring(*position, Side::Newer);
        }
        moving.followed.begin_anew();
        moving
    }

    fn confirm(&mut self, position: Position, recovery: Recovery) -> bool {
        let channel = Channel::parse("room:42").expect("valid");
        let subscribed =
            Subscribed { request: None, channel, recovery, position, delta: None, sampled: false };
        self.followed.subscribed(&subscribed, Instant::now())
    }

    fn gap(&mut self, reason: GapReason, position: Position, side: Side) -> bool {
        let gap = Gap { reason, position, missed: None };
        self.followed.gap(&gap, side, Instant::now())
    }

    /// Brings the publication of this position, which its offset names.
    fn bring(&mut self, position: Position, side: Side) {
        self.bring_as(position, position.offset, side);
    }

    fn bring_as(&mut self, position: Position, name: u64, side: Side) {
        let publication = Received {
            position,
            time_ms: 0,
            id: Some(PublicationId::parse(&name.to_string()).expect("valid")),
            publisher: None,
            payload: Payload::binary("".into()),
        };
        let Ok(Some(whole)) = self.followed.restore(publication.written(), side) else {
            return;
        };
        if self.followed.read(&whole, side, Instant::now()) == Some(true) {
            self.read.push(name);
        }
    }
}

fn at(epoch: u64, offset: u64) -> Position {
    Position::new(Incarnation::new(epoch, 0).epoch(1), offset)
}
