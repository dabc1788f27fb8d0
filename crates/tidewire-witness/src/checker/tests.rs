use tidewire_model::{Channel, Incarnation};

use super::*;
use crate::ledger::Acknowledged;

#[test]
fn what_came_as_it_was_published_holds() {
    let findings = check(&[1, 2, 3, 4], 4);

    assert!(findings.hold(), "{findings:?}");
    assert_eq!(findings.received, 4);
}

#[test]
fn a_hole_is_lost() {
    let findings = check(&[1, 4], 4);

    assert_eq!(findings, Findings { received: 2, lost: 2, ..Findings::default() });
}

#[test]
fn a_first_that_does_not_follow_the_subscription_is_a_hole() {
    assert_eq!(check(&[3, 4], 4).lost, 2);
}

#[test]
fn a_tail_that_never_comes_is_lost() {
    let findings = check(&[1, 2], 4);

    assert_eq!(findings, Findings { received: 2, lost: 2, ..Findings::default() });
}

#[test]
fn everything_is_lost_on_whom_nothing_reaches() {
    assert_eq!(check(&[], 4), Findings { lost: 4, ..Findings::default() });
}

#[test]
fn the_same_offset_again_is_a_duplicate() {
    let findings = check(&[1, 2, 2, 1, 3, 4], 4);

    assert_eq!(findings, Findings { received: 4, duplicated: 2, ..Findings::default() });
}

#[test]
fn an_offset_after_a_later_one_is_reordered_and_neither_lost_nor_a_duplicate() {
    let findings = check(&[1, 4, 3, 2], 4);

    assert_eq!(findings, Findings { received: 4, reordered: 2, ..Findings::default() });
}

#[test]
fn a_reordered_offset_that_comes_again_is_a_duplicate_too() {
    let findings = check(&[1, 4, 2, 2, 3], 4);

    assert_eq!(
        findings,
        Findings { received: 4, reordered: 2, duplicated: 1, ..Findings::default() }
    );
}

#[test]
fn another_content_than_was_acknowledged_is_altered() {
    let mut checker = subscribed();
    checker.receive(at(1), Some(&stamp(0)));
    checker.receive(at(2), Some(&stamp(2)));
    checker.receive(at(3), Some(&stamp(1)));

    let findings = checker.finish(&ledger(3));

    assert_eq!(findings, Findings { received: 3, altered: 1, ..Findings::default() });
}

#[test]
fn a_stranger_in_the_channel_is_altered() {
    let mut checker = subscribed();
    checker.receive(at(1), Some(&stamp(0)));
    checker.receive(at(2), None);

    assert_eq!(checker.finish(&ledger(2)).altered, 1);
}

#[test]
fn more_than_was_acknowledged_is_altered() {
    assert_eq!(check(&[1, 2, 3], 2).altered, 1);
}

#[test]
fn more_than_was_acknowledged_may_be_what_was_never_answered() {
    let mut acknowledged = told(2);
    acknowledged.doubt(CHANNEL);
    let mut checker = subscribed();
    for offset in 1..=3 {
        checker.receive(at(offset), Some(&stamp(offset - 1)));
    }

    assert!(checker.finish(&Ledger::new([acknowledged])).hold());
}

#[test]
fn a_known_id_under_a_new_offset_was_stored_twice() {
    let mut checker = subscribed();
    checker.receive(at(1), Some(&stamp(0)));
    checker.repeat(at(2));

    assert_eq!(checker.finish(&ledger(1)).duplicated, 1);
}

#[test]
fn an_announced_gap_loses_nothing() {
    let mut checker = subscribed();
    checker.receive(at(1), Some(&stamp(0)));
    checker.announce(&Gap { reason: GapReason::Window, position: at(3), missed: Some(2) });
    checker.receive(at(4), Some(&stamp(3)));

    let findings = checker.finish(&ledger(4));

    assert_eq!(findings, Findings { received: 2, gaps: 1, missed: 2, ..Findings::default() });
}

#[test]
fn what_a_channel_left_out_is_counted_apart_from_what_it_no_longer_keeps() {
    let mut checker = subscribed();
    checker.announce(&Gap { reason: GapReason::Skipped, position: at(2), missed: Some(2) });
    checker.receive(at(3), Some(&stamp(2)));

    let findings = checker.finish(&ledger(3));

    assert_eq!(findings, Findings { received: 1, gaps: 1, skipped: 2, ..Findings::default() });
}

#[test]
fn what_is_left_out_of_a_sampled_channel_is_no_loss() {
    let mut checker = Checker::new(CHANNEL);
    checker.subscribe(&Subscribed { sampled: true, ..confirmation(Recovery::NotAsked, at(0)) });
    checker.receive(at(3), Some(&stamp(2)));

    let findings = checker.finish(&ledger(3));

    assert_eq!(findings, Findings { received: 1, skipped: 2, ..Findings::default() });
}

#[test]
fn a_hole_beside_an_announced_gap_is_lost() {
    let mut checker = subscribed();
    checker.announce(&Gap { reason: GapReason::Window, position: at(2), missed: Some(2) });
    checker.receive(at(4), Some(&stamp(3)));

    let findings = checker.finish(&ledger(4));

    assert_eq!(
        findings,
        Findings { received: 1, lost: 1, gaps: 1, missed: 2, ..Findings::default() }
    );
}

#[test]
fn a_subscription_that_says_it_recovered_and_skipped_lost_something() {
    let mut checker = subscribed();
    checker.receive(at(1), Some(&stamp(0)));
    checker.subscribe(&confirmation(Recovery::Recovered, at(3)));
    checker.receive(at(4), Some(&stamp(3)));

    assert_eq!(checker.finish(&ledger(4)).lost, 2);
}

#[test]
fn a_subscription_that_could_not_recover_announces_a_gap() {
    let mut checker = subscribed();
    checker.receive(at(1), Some(&stamp(0)));
    checker.subscribe(&confirmation(Recovery::Failed(GapReason::Window), at(3)));
    checker.receive(at(4), Some(&stamp(3)));

    let findings = checker.finish(&ledger(4));

    assert!(findings.hold(), "{findings:?}");
    assert_eq!((findings.gaps, findings.missed), (1, 2));
}

#[test]
fn after_a_rewind_what_was_seen_may_come_again() {
    let mut checker = subscribed();
    checker.receive(at(1), Some(&stamp(0)));
    checker.receive(at(2), Some(&stamp(1)));
    checker.announce(&Gap { reason: GapReason::Rewind, position: at(1), missed: None });
    checker.receive(at(2), Some(&stamp(2)));
    checker.repeat(at(3));

    assert!(checker.finish(&ledger(3)).hold());
}

#[test]
fn an_epoch_nobody_announced_is_altered_and_what_it_holds_is_lost() {
    let other = Position::new(Incarnation::ZERO.epoch(2), 1);
    let mut acknowledged = told(1);
    acknowledged.push(CHANNEL, other, 1);
    let mut checker = subscribed();
    checker.receive(at(1), Some(&stamp(0)));
    checker.receive(other, Some(&stamp(1)));

    let findings = checker.finish(&Ledger::new([acknowledged]));

    assert_eq!(findings, Findings { received: 1, lost: 1, altered: 1, ..Findings::default() });
}

#[test]
fn more_holes_than_can_be_remembered_are_all_lost() {
    let holes = MOST_HOLES as u64 + 10;
    let offsets: Vec<u64> = (1..=holes).map(|hole| hole * 2).collect();

    assert_eq!(check(&offsets, holes * 2).lost, holes);
}

#[test]
fn a_subscription_is_complete_at_the_last_acknowledged_offset() {
    let ledger = ledger(2);
    let mut checker = subscribed();

    checker.receive(at(1), Some(&stamp(0)));
    assert!(!checker.is_complete(&ledger));
    checker.receive(at(2), Some(&stamp(1)));
    assert!(checker.is_complete(&ledger));
}

const CHANNEL: u32 = 7;

/// Subscribes before the first, receives `offsets`, and finishes with `published` acknowledged.
fn check(offsets: &[u64], published: u64) -> Findings {
    let mut checker = subscribed();
    for offset in offsets {
        checker.receive(at(*offset), Some(&stamp(offset - 1)));
    }
    checker.finish(&ledger(published))
}

fn subscribed() -> Checker {
    let mut checker = Checker::new(CHANNEL);
    checker.subscribe(&confirmation(Recovery::NotAsked, at(0)));
    checker
}

fn confirmation(recovery: Recovery, position: Position) -> Subscribed {
    let channel = Channel::parse("loadtest/0/7").expect("valid");
    Subscribed { request: None, channel, recovery, position, delta: None, sampled: false }
}

fn ledger(published: u64) -> Ledger {
    Ledger::new([told(published)])
}

/// One publisher's publications, the first at offset 1.
fn told(published: u64) -> Acknowledged {
    let mut acknowledged = Acknowledged::new(0);
    for sequence in 0..published {
        acknowledged.push(CHANNEL, at(sequence + 1), sequence);
    }
    acknowledged
}

fn at(offset: u64) -> Position {
    Position::new(Incarnation::ZERO.epoch(1), offset)
}

fn stamp(sequence: u64) -> Stamp {
    Stamp { run: 1, publisher: 0, sequence, due: 0, sent: 0 }
}
