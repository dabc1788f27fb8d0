use tidewire_model::{Incarnation, Payload};

use super::*;

#[test]
fn an_id_that_comes_twice_without_a_rewind_is_two_publications() {
    let mut seen = Seen::default();

    assert!(seen.read(&publication(1, Some("ada"), "a"), now()));
    assert!(seen.read(&publication(2, Some("ada"), "a"), now()));
}

#[test]
fn what_lay_beyond_a_rewind_is_read_once_more_at_most() {
    let mut seen = Seen::default();
    seen.read(&publication(1, Some("ada"), "a"), now());
    seen.read(&publication(2, Some("ada"), "b"), now());

    seen.rewind(position(1), now());

    assert!(!seen.read(&publication(2, Some("ada"), "b"), now()));
    assert!(seen.read(&publication(3, Some("ada"), "b"), now()), "the log knows its ids again");
}

#[test]
fn what_lay_before_a_rewind_does_not_come_again() {
    let mut seen = Seen::default();
    seen.read(&publication(1, Some("ada"), "a"), now());
    seen.read(&publication(2, Some("ada"), "b"), now());

    seen.rewind(position(1), now());

    assert!(seen.read(&publication(2, Some("ada"), "a"), now()));
}

#[test]
fn another_publishers_publication_of_the_same_id_is_another_one() {
    let mut seen = Seen::default();
    seen.read(&publication(2, Some("ada"), "a"), now());

    seen.rewind(position(1), now());

    assert!(seen.read(&publication(2, Some("bob"), "a"), now()));
    assert!(seen.read(&publication(3, None, "a"), now()));
    assert!(!seen.read(&publication(4, Some("ada"), "a"), now()));
}

#[test]
fn a_second_rewind_knows_what_came_again_under_another_offset() {
    let mut seen = Seen::default();
    seen.read(&publication(2, Some("ada"), "a"), now());
    seen.rewind(position(1), now());
    seen.read(&publication(3, Some("ada"), "a"), now());

    seen.rewind(position(2), now());

    assert!(!seen.read(&publication(3, Some("ada"), "a"), now()));
}

#[test]
fn after_two_minutes_a_rewind_is_forgotten() {
    let mut seen = Seen::default();
    seen.read(&publication(2, Some("ada"), "a"), now());
    let rewound = now();
    seen.rewind(position(1), rewound);

    assert!(seen.read(&publication(2, Some("ada"), "a"), rewound + LASTS));
}

#[test]
fn of_too_many_the_oldest_are_forgotten() {
    let mut seen = Seen::default();
    for offset in 1..=MOST as u64 + 1 {
        seen.read(&publication(offset, Some("ada"), &offset.to_string()), now());
    }

    seen.rewind(position(0), now());

    assert!(seen.read(&publication(1, Some("ada"), "1"), now()));
    assert!(!seen.read(&publication(2, Some("ada"), "2"), now()));
}

#[test]
fn what_was_read_before_the_numbering_began_anew_may_come_again() {
    let mut seen = Seen::default();
    seen.read(&publication(500, Some("ada"), "a"), now());

    seen.reset(now());
    seen.rewind(position(1), now());

    assert!(!seen.read(&publication(2, Some("ada"), "a"), now()));
    assert!(seen.read(&publication(3, Some("ada"), "a"), now()), "once");
}

#[test]
fn what_had_no_id_comes_again_under_the_name_of_its_position() {
    let mut seen = Seen::default();
    let without = |offset| Received { id: None, ..publication(offset, Some("ada"), "-") };
    seen.read(&without(1), now());
    seen.read(&without(2), now());

    seen.rewind(position(1), now());

    let again = position(2).to_string();
    let next = Position::new(Incarnation::ZERO.epoch(2), 2);
    let in_its_place = Received { position: next, ..without(2) };
    assert!(seen.read(&in_its_place, now()), "a new one");
    assert!(!seen.read(&publication(3, Some("ada"), &again), now()));
}

fn now() -> Instant {
    Instant::now()
}

fn position(offset: u64) -> Position {
    Position::new(Incarnation::ZERO.epoch(1), offset)
}

fn publication(offset: u64, publisher: Option<&str>, id: &str) -> Received {
    Received {
        position: position(offset),
        time_ms: 0,
        id: Some(PublicationId::parse(id).expect("valid")),
        publisher: publisher.map(|name| UserId::parse(name).expect("valid")),
        payload: Payload::binary("".into()),
    }
}
