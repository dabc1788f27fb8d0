use tidewire_model::{Channel, GapReason, Incarnation, Recovery};

use super::*;

#[test]
fn what_was_published_heard_and_kept_holds() {
    let account = run(&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]);

    let verdict = account.verdict();

    assert!(verdict.holds(), "{verdict}");
    assert_eq!((verdict.acknowledged, verdict.delivered), (3, 3));
    assert_eq!(account.subscriptions(), 1);
}

#[test]
fn a_hole_is_lost_and_out_of_order() {
    let verdict = run(&[1, 2, 3], &[1, 3], &[1, 2, 3]).verdict();

    assert_eq!((verdict.lost, verdict.reordered), (1, 1));
    assert!(!verdict.holds());
}

#[test]
fn a_tail_that_does_not_come_is_lost() {
    assert_eq!(run(&[1, 2, 3], &[1], &[1, 2, 3]).verdict().lost, 2);
}

#[test]
fn what_nobody_was_acknowledged_must_come_if_it_is_kept() {
    assert_eq!(run(&[], &[1], &[1, 2]).verdict().lost, 1);
}

#[test]
fn what_comes_again_is_a_duplicate() {
    let verdict = run(&[1, 2], &[1, 2, 1], &[1, 2]).verdict();

    assert_eq!((verdict.duplicated, verdict.reordered, verdict.lost), (1, 0, 0));
}

#[test]
fn what_comes_late_is_out_of_order() {
    let verdict = run(&[1, 2, 3], &[1, 3, 2], &[1, 2, 3]).verdict();

    assert_eq!((verdict.reordered, verdict.lost, verdict.duplicated), (2, 0, 0));
}

#[test]
fn two_contents_at_one_position_are_a_disagreement() {
    let mut account = subscribed();
    account.hear(TO, at(1), Some(&stamp(1)), 0);
    account.subscribe(LISTENER + 1, CHANNEL, &confirmation(Recovery::NotAsked, at(0)));
    account.hear((LISTENER + 1, CHANNEL), at(1), Some(&stamp(2)), 0);

    assert_eq!(account.verdict().disagreements, 1);
}

#[test]
fn an_acknowledgement_that_says_another_position_than_before_is_a_disagreement() {
    let mut account = subscribed();
    account.acknowledge(saying(1), at(1), 0);
    account.acknowledge(saying(1), at(2), 0);

    assert_eq!(account.verdict().disagreements, 1);
}

#[test]
fn what_was_acknowledged_and_is_not_kept_is_forgotten() {
    let verdict = run(&[1, 2], &[1, 2], &[1]).verdict();

    assert_eq!(verdict.forgotten, 1);
    assert!(!verdict.holds() && verdict.is_loss_only());
}

#[test]
fn what_is_kept_twice_is_noticed() {
    let mut account = run(&[1], &[1], &[]);
    account.keep(CHANNEL, vec![(at(1), saying(1)), (at(2), saying(1))]);

    assert_eq!(account.verdict().stored_twice, 1);
}

#[test]
fn what_was_refused_once_stands_behind_a_later_one_and_breaks_nothing() {
    let mut account = Account::default();
    account.keep(CHANNEL, vec![(at(1), saying(2)), (at(2), saying(1))]);

    let verdict = account.verdict();

    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.overtaken, 1);
}

#[test]
fn an_epoch_that_continues_the_last_one_goes_unnoticed() {
    let mut account = subscribed();
    account.hear(TO, at(1), Some(&stamp(1)), 0);
    account.hear(TO, later(2), Some(&stamp(2)), 0);
    account.keep(CHANNEL, vec![(at(1), saying(1)), (later(2), saying(2))]);

    assert!(account.verdict().holds());
}

#[test]
fn an_older_epoch_after_a_newer_one_is_out_of_order() {
    let mut account = subscribed();
    account.hear(TO, later(1), Some(&stamp(1)), 0);
    account.hear(TO, at(2), Some(&stamp(2)), 0);

    assert_eq!(account.verdict().reordered, 1);
}

#[test]
fn whoever_was_beyond_the_fork_is_set_back_and_hears_the_healed_tail_once() {
    let mut account = subscribed();
    for number in 1..=3 {
        account.acknowledge(saying(number), at(number), 0);
        account.hear(TO, at(number), Some(&stamp(number)), 0);
    }
    // The log lost the second and the third, and has them again behind another one.
    account.announce(LISTENER, CHANNEL, &gap(GapReason::Rewind, at(1)));
    account.hear(TO, later(2), Some(&stamp(4)), 0);
    account.repeat(TO, later(3));
    account.repeat(TO, later(4));
    account.hear(TO, later(5), Some(&stamp(5)), 0);
    let healed = [(at(1), 1), (later(2), 4), (later(3), 2), (later(4), 3), (later(5), 5)];
    account.keep(CHANNEL, healed.map(|(position, number)| (position, saying(number))).into());

    let verdict = account.verdict();

    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.gaps("rewind"), 1);
}

#[test]
fn a_lost_tail_that_is_not_appended_again_is_forgotten() {
    let mut account = subscribed();
    account.acknowledge(saying(1), at(1), 0);
    account.hear(TO, at(1), Some(&stamp(1)), 0);
    account.subscribe(LISTENER, CHANNEL, &confirmation(Recovery::Rewound, at(0)));
    account.keep(CHANNEL, Vec::new());

    let verdict = account.verdict();

    assert_eq!((verdict.forgotten, verdict.lost), (1, 0));
    assert_eq!(verdict.gaps("rewind"), 1);
}

#[test]
fn a_rewind_to_where_a_listener_is_was_not_needed() {
    let mut account = subscribed();
    account.hear(TO, at(1), Some(&stamp(1)), 0);
    account.announce(LISTENER, CHANNEL, &gap(GapReason::Rewind, at(1)));

    assert_eq!(account.verdict().needlessly_rewound, 1);
}

#[test]
fn what_a_gap_covers_is_not_lost_and_what_it_does_not_cover_is() {
    let mut account = subscribed();
    account.hear(TO, at(1), Some(&stamp(1)), 0);
    account.announce(LISTENER, CHANNEL, &gap(GapReason::Window, at(3)));
    account.hear(TO, at(4), Some(&stamp(4)), 0);
    account.keep(CHANNEL, kept(&[1, 2, 3, 4, 5]));

    let verdict = account.verdict();

    assert_eq!((verdict.lost, verdict.reordered), (1, 0), "{verdict}");
    assert_eq!(verdict.gaps("window"), 1);
}

#[test]
fn what_a_gap_covered_must_come_if_the_log_goes_back_before_it() {
    let mut account = subscribed();
    account.announce(LISTENER, CHANNEL, &gap(GapReason::Window, at(3)));
    account.announce(LISTENER, CHANNEL, &gap(GapReason::Rewind, at(1)));
    account.keep(CHANNEL, vec![(at(1), saying(1)), (later(2), saying(2))]);

    assert_eq!(account.verdict().lost, 1);
}

#[test]
fn of_a_log_that_began_anew_only_what_follows_must_come() {
    let mut account = subscribed();
    for number in 1..=3 {
        account.hear(TO, at(number), Some(&stamp(number)), 0);
    }
    let failed = Recovery::Failed(GapReason::Reset);
    account.subscribe(LISTENER, CHANNEL, &confirmation(failed, later(1)));
    account.hear(TO, later(2), Some(&stamp(5)), 0);
    account.keep(CHANNEL, [(1, 4), (2, 5), (3, 6)].map(|(o, n)| (later(o), saying(n))).into());

    let verdict = account.verdict();

    assert_eq!((verdict.lost, verdict.reordered), (1, 0), "{verdict}");
}

#[test]
fn whoever_is_said_to_have_recovered_and_missed_something_was_told_what_is_not_so() {
    let mut account = subscribed();
    account.hear(TO, at(1), Some(&stamp(1)), 0);
    account.subscribe(LISTENER, CHANNEL, &confirmation(Recovery::Recovered, at(1)));
    assert_eq!(account.verdict().falsely_recovered, 0);

    account.subscribe(LISTENER, CHANNEL, &confirmation(Recovery::Recovered, at(3)));

    assert_eq!(account.verdict().falsely_recovered, 1);
}

#[test]
fn what_came_before_the_subscription_is_not_owed() {
    let mut account = Account::default();
    account.subscribe(LISTENER, CHANNEL, &confirmation(Recovery::NotAsked, at(2)));
    account.hear(TO, at(3), Some(&stamp(3)), 0);
    account.keep(CHANNEL, kept(&[1, 2, 3]));

    assert!(account.verdict().holds());
}

#[test]
fn a_publication_of_somebody_else_is_noticed() {
    let mut account = subscribed();
    account.hear(TO, at(1), None, 0);

    assert_eq!(account.verdict().strangers, 1);
}

#[test]
fn a_wait_begins_when_anybody_knows_that_it_is_stored() {
    let mut account = subscribed();
    account.hear(TO, at(1), Some(&stamp(1)), 50);
    account.acknowledge(saying(1), at(1), 20);
    account.hear(TO, at(2), Some(&stamp(2)), 70);
    account.acknowledge(saying(2), at(2), 90);

    assert_eq!(account.waits(0..100), [0, 30]);
    assert_eq!(account.waits(0..50), [30]);
}

#[test]
fn whoever_has_not_heard_something_is_known() {
    let mut account = run(&[1], &[1], &[1]);
    account.subscribe(LISTENER + 1, CHANNEL, &confirmation(Recovery::NotAsked, at(0)));
    account.subscribe(LISTENER + 2, CHANNEL + 1, &confirmation(Recovery::NotAsked, at(0)));

    assert_eq!(account.deaf_to(saying(1)).collect::<Vec<_>>(), [LISTENER + 1]);
}

const LISTENER: u32 = 4;
const CHANNEL: u32 = 7;
const TO: (u32, u32) = (LISTENER, CHANNEL);

/// One publisher's publications, each with its offset for its sequence, one listener and a log.
fn run(acknowledged: &[u64], heard: &[u64], log: &[u64]) -> Account {
    let mut account = subscribed();
    for number in acknowledged {
        account.acknowledge(saying(*number), at(*number), 0);
    }
    for number in heard {
        account.hear(TO, at(*number), Some(&stamp(*number)), 0);
    }
    account.keep(CHANNEL, kept(log));
    account
}

fn subscribed() -> Account {
    let mut account = Account::default();
    account.subscribe(LISTENER, CHANNEL, &confirmation(Recovery::NotAsked, at(0)));
    account
}

fn kept(numbers: &[u64]) -> Vec<(Position, Saying)> {
    numbers.iter().map(|number| (at(*number), saying(*number))).collect()
}

fn confirmation(recovery: Recovery, position: Position) -> Subscribed {
    let channel = Channel::parse("chaos/7").expect("valid");
    Subscribed { request: None, channel, recovery, position, delta: None, sampled: false }
}

fn gap(reason: GapReason, position: Position) -> Gap {
    Gap { reason, position, missed: None }
}

fn at(offset: u64) -> Position {
    Position::new(Incarnation::new(1, 0).epoch(0), offset)
}

/// In the life that the log has after a failover.
fn later(offset: u64) -> Position {
    Position::new(Incarnation::new(2, 0).epoch(0), offset)
}

fn saying(sequence: u64) -> Saying {
    Saying::new(CHANNEL, &stamp(sequence))
}

fn stamp(sequence: u64) -> Stamp {
    Stamp { run: 1, publisher: 0, sequence, due: 0, sent: 0 }
}
