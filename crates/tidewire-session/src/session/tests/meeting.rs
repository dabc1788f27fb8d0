//! Runs of publications, and whether the client holds what comes before them.

use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::*;

const BASELESS: Deltas = Deltas::Baseless(DeltaFormat::Fossil);
const BASED: Deltas = Deltas::Based(DeltaFormat::Fossil);

#[test]
fn a_run_that_comes_next_is_in_step_and_moves_the_position_to_its_last() {
    let mut client = Client::live("a", 7);

    assert_eq!(client.meet(8..=11), in_step(Deltas::Unasked));
    assert_eq!(client.meet(12..=12), in_step(Deltas::Unasked));

    client.lag();
    client.only_join("a", Since::Position(position_of(12)));
}

#[test]
fn what_was_seen_is_nothing_and_what_was_seen_in_part_or_leaves_a_hole_is_out_of_step() {
    let mut client = Client::live("a", 7);

    assert_eq!(client.meet(3..=7), Meeting::Nothing);
    assert_eq!(client.meet(7..=8), Meeting::OutOfStep);
    assert_eq!(client.meet(9..=9), Meeting::OutOfStep);
    assert_eq!(client.meet(8..=8), in_step(Deltas::Unasked));
}

#[test]
fn a_join_that_is_not_live_meets_nothing() {
    let mut client = Client::live("a", 7);
    let old = client.join;

    assert_eq!(client.session.meet(JoinId(77), position_of(8), position_of(8)), Meeting::Nothing);
    client.lag();
    assert_eq!(client.meet(8..=8), Meeting::Nothing);
    client.join = client.only_join("a", Since::Position(position_of(7)));
    assert_eq!(client.meet(8..=8), Meeting::Nothing);
    client.joined(client.join, at(7, &[], true));
    assert_eq!(client.session.meet(old, position_of(8), position_of(8)), Meeting::Nothing);
    assert_eq!(client.meet(8..=8), in_step(Deltas::Unasked));
}

#[test]
fn a_client_that_asked_for_deltas_holds_what_this_connection_has_sent() {
    let mut client = Client::live_with_deltas(7);

    assert_eq!(client.meet(8..=9), in_step(BASELESS));
    assert_eq!(client.meet(10..=10), in_step(BASED));
    client.deliver(11);
    assert_eq!(client.meet(12..=13), in_step(BASED));
}

#[test]
fn a_publication_delivered_by_itself_is_a_base_too() {
    let mut client = Client::live_with_deltas(7);

    client.deliver(8);

    assert_eq!(client.meet(9..=9), in_step(BASED));
}

#[test]
fn a_client_that_did_not_ask_never_gets_a_delta() {
    let mut client = Client::live("a", 7);
    client.deliver(8);

    assert_eq!(client.meet(9..=9), in_step(Deltas::Unasked));
    assert_eq!(client.meet(10..=10), in_step(Deltas::Unasked));
}

#[test]
fn after_a_gap_the_next_publication_is_sent_in_full() {
    for reason in [GapReason::Window, GapReason::Reset, GapReason::Rewind] {
        let mut client = Client::live_with_deltas(7);
        client.deliver(8);
        let gap = Gap { reason, position: position_of(6), missed: None };

        client.session.gap(client.join, gap, &mut client.out);

        assert_eq!(client.meet(7..=7), in_step(BASELESS), "{reason:?}");
        assert_eq!(client.meet(8..=8), in_step(BASED), "{reason:?}");
    }
}

#[test]
fn a_rewind_the_client_does_not_notice_brings_a_new_epoch_and_its_first_in_full() {
    let mut client = Client::live_with_deltas(7);
    client.deliver(8);
    let renewed = |offset| Position::new(Incarnation::ZERO.epoch(2), offset);
    let rewind = Gap { reason: GapReason::Rewind, position: renewed(8), missed: None };

    client.session.gap(client.join, rewind, &mut client.out);

    let join = client.join;
    assert_eq!(client.session.meet(join, renewed(9), renewed(9)), in_step(BASELESS));
    assert_eq!(client.session.meet(join, renewed(10), renewed(11)), in_step(BASED));
}

#[test]
fn what_is_left_out_is_told_with_its_number_and_only_if_there_is_anything() {
    let mut client = Client::live_with_deltas(7);
    assert!(!client.skip(7));
    assert!(client.out.events.is_empty());
    assert!(client.skip(12));

    let gap = Gap { reason: GapReason::Skipped, position: position_of(12), missed: Some(5) };
    assert!(matches!(client.out.events[..], [Event::Gap { gap: told, .. }] if told == gap));
    assert!(!client.skip(9), "it is behind that");
    assert_eq!(client.meet(13..=13), in_step(BASELESS));
}

#[test]
fn who_was_told_of_sampling_is_told_of_no_hole() {
    let mut client = Client::new();
    client.send(subscribe(1, "a", Since::Now));
    client.join = client.only_join("a", Since::Now);
    client.joined(client.join, Joined { is_sampled: true, ..at(7, &[], true) });
    let told = client.out.events.pop();
    assert!(matches!(told, Some(Event::Subscribed(Subscribed { sampled: true, .. }))));

    assert!(!client.sample(12));

    assert!(client.out.events.is_empty());
    assert_eq!(client.meet(13..=13), in_step(Deltas::Unasked));
    client.lag();
    client.join = client.only_join("a", Since::Position(position_of(13)));
    client.joined(client.join, at(13, &[], true));
    assert!(!client.sample(20), "it goes on being so when it has caught up");
    assert!(!client.sample(19), "it is behind that");
    assert!(client.skip(22), "what is left out for another reason is told");
}

#[test]
fn who_was_not_told_of_sampling_is_told_of_each_hole() {
    let mut client = Client::live_with_deltas(7);

    assert!(client.sample(12));

    let gap = Gap { reason: GapReason::Skipped, position: position_of(12), missed: Some(5) };
    assert!(matches!(client.out.events[..], [Event::Gap { gap: told, .. }] if told == gap));
}

#[test]
fn catching_up_without_a_gap_keeps_the_base() {
    let mut client = Client::live_with_deltas(7);
    client.deliver(8);

    client.catch_up_from(8, at(8, &[], true));
    assert_eq!(client.meet(9..=9), in_step(BASED));

    client.catch_up_from(9, at(9, &[10, 11], true));
    assert_eq!(client.meet(12..=12), in_step(BASED));
}

#[test]
fn catching_up_with_a_gap_loses_the_base_unless_publications_follow_it() {
    let lost = Recovery::Failed(GapReason::Window);
    let mut bare = Client::live_with_deltas(7);
    bare.deliver(8);
    let mut followed = Client::live_with_deltas(7);

    bare.catch_up_from(8, Joined { recovery: lost, ..at(20, &[], true) });
    followed.catch_up_from(7, Joined { recovery: lost, ..at(20, &[21], true) });

    assert_eq!(bare.meet(21..=21), in_step(BASELESS));
    assert_eq!(followed.meet(22..=22), in_step(BASED));
}

#[test]
fn a_position_that_the_client_names_is_no_base() {
    let snapshot = {
        let mut client = Client::live_with_deltas(7);
        client.deliver(8);
        client.session.snapshot()
    };
    let mut out = Outputs::default();

    let positions = vec![(channel("a"), position_of(8))];
    let session = Session::resume(snapshot, positions, Limits::default(), &mut out);
    let mut client = Client { session, out, join: JoinId::default() };
    client.join = client.only_join("a", Since::Position(position_of(8)));
    client.joined(client.join, at(8, &[], true));

    assert_eq!(client.meet(9..=9), in_step(BASELESS));
    assert_eq!(client.meet(10..=10), in_step(BASED));
}

#[test]
fn subscribing_again_starts_without_a_base_and_with_what_is_asked_then() {
    let mut client = Client::live_with_deltas(7);
    client.deliver(8);

    client.send(unsubscribe(2, "a"));
    client.send(subscribe(3, "a", Since::Now));
    client.join = client.only_join("a", Since::Now);
    client.joined(client.join, at(8, &[], true));

    assert_eq!(client.meet(9..=9), in_step(Deltas::Unasked));
    assert_eq!(client.meet(10..=10), in_step(Deltas::Unasked));
    assert_eq!(client.session.snapshot().subscriptions[0].delta, None);
}

#[test]
fn what_is_caught_up_with_may_come_as_deltas_of_what_was_sent_before() {
    let lost = Recovery::Failed(GapReason::Window);
    for (recovery, deltas) in [(Recovery::Recovered, BASED), (lost, BASELESS)] {
        let mut client = Client::live_with_deltas(7);
        client.deliver(8);
        client.out = Outputs::default();

        client.catch_up_from(8, Joined { recovery, ..at(8, &[9, 10], true) });

        let heard = client.out.events.iter().find_map(|event| match event {
            Event::Publications { deltas, .. } => Some(*deltas),
            _ => None,
        });
        assert_eq!(heard, Some(deltas), "{recovery:?}");
    }
}

#[test]
fn what_a_join_brings_first_has_no_base() {
    let mut client = Client::new();
    let (channel, delta) = (channel("a"), Some(DeltaFormat::Fossil));
    client.send(request(
        1,
        Command::Subscribe { channel, since: Since::Last(2), delta, token: None },
    ));

    let join = client.only_join("a", Since::Last(2));
    client.joined(join, at(7, &[8, 9], true));

    assert!(matches!(
        &client.out.events[..],
        [
            Event::Subscribed(Subscribed { delta: Some(DeltaFormat::Fossil), .. }),
            Event::Publications { deltas: BASELESS, .. }
        ]
    ));
}

/// What a node may say about the one join of a client.
#[derive(Clone, Debug)]
enum Said {
    Run(RangeInclusive<u64>),
    Gap(GapReason, u64),
    Lagged,
    /// The join under way is answered with up to this many publications.
    Answered(u64, bool),
}

proptest! {
    #[test]
    fn runs_that_are_met_are_heard_like_publications_delivered_one_by_one(
        said in prop::collection::vec(said(), 1..40)
    ) {
        let mut met = Listener::new();
        let mut delivered = Listener::new();

        for said in said {
            met.hear(&said, Listener::meet);
            delivered.hear(&said, Listener::deliver_each);

            prop_assert_eq!(met.client.effects(), delivered.client.effects());
            prop_assert_eq!(&met.heard, &delivered.heard);
            prop_assert_eq!(
                format!("{:?}", met.client.session),
                format!("{:?}", delivered.client.session)
            );
        }
        // The client checks on its own that it holds what a delta would be applied to.
        prop_assert!(met.wrong_bases.is_empty(), "{:?}", met.wrong_bases);
    }
}

fn said() -> impl Strategy<Value = Said> {
    let reason = prop_oneof![Just(GapReason::Window), Just(GapReason::Rewind)];
    prop_oneof![
        6 => (0..30_u64, 0..5_u64).prop_map(|(first, more)| Said::Run(first..=first + more)),
        6 => (0..3_u64, 0..5_u64).prop_map(|(ahead, more)| Said::Run(100 + ahead..=100 + ahead + more)),
        1 => (reason, 0..30_u64).prop_map(|(reason, offset)| Said::Gap(reason, offset)),
        1 => Just(Said::Lagged),
        2 => (0..4_u64, any::<bool>()).prop_map(|(more, live)| Said::Answered(more, live)),
    ]
}

/// A client that asked for deltas, and what it has heard.
struct Listener {
    client: Client,
    /// Offsets, with a gap as `None`.
    heard: Vec<Option<u64>>,
    /// Publications that could have come as a delta of something this client does not hold.
    wrong_bases: Vec<u64>,
}

/// Runs from here on are meant from where the client is.
const RELATIVE: u64 = 100;

impl Listener {
    fn new() -> Self {
        Self { client: Client::live_with_deltas(7), heard: Vec::new(), wrong_bases: Vec::new() }
    }

    fn hear(&mut self, said: &Said, take: fn(&mut Self, RangeInclusive<u64>)) {
        match said {
            Said::Run(run) => take(self, self.placed(run)),
            Said::Gap(reason, offset) => {
                let gap = Gap { reason: *reason, position: position_of(*offset), missed: None };
                self.client.session.gap(self.client.join, gap, &mut self.client.out);
            }
            Said::Lagged => self.client.lag(),
            Said::Answered(more, live) => self.answer(*more, *live),
        }
        self.note_events();
    }

    /// One past the client's position is `RELATIVE`.
    fn placed(&self, run: &RangeInclusive<u64>) -> RangeInclusive<u64> {
        let from = if *run.start() < RELATIVE { 0 } else { self.position() + 1 };
        from + run.start() % RELATIVE..=from + run.end() % RELATIVE
    }

    fn position(&self) -> u64 {
        let states =
            self.client.session.subscriptions.iter().map(|subscription| {
                match &subscription.state {
                    State::Live(live) => live.position.offset,
                    State::Pending(pending) => {
                        pending.position.map_or(0, |position| position.offset)
                    }
                }
            });
        states.last().expect("a subscription")
    }

    fn answer(&mut self, more: u64, live: bool) {
        let Some((_, join)) = self.client.session.joins().next() else { return };
        let from = self.position();
        let missed: Vec<_> = (from + 1..=from + more).collect();
        self.client.joined(join, at(from, &missed, live));
        if let Some((_, join)) = self.client.session.joins().next() {
            self.client.join = join;
        }
    }

    fn meet(&mut self, run: RangeInclusive<u64>) {
        match self.client.meet(run.clone()) {
            Meeting::InStep { deltas } => {
                let base = run.start() - 1;
                if deltas == BASED && self.heard.last() != Some(&Some(base)) {
                    self.wrong_bases.push(*run.start());
                }
                self.heard.extend(run.map(Some));
            }
            Meeting::Nothing => {}
            Meeting::OutOfStep => self.deliver_each(run),
        }
    }

    fn deliver_each(&mut self, run: RangeInclusive<u64>) {
        for offset in run {
            self.client.deliver(offset);
            self.note_events();
        }
    }

    fn note_events(&mut self) {
        for event in self.client.out.events.drain(..) {
            match event {
                Event::Publications { publications, deltas, .. } => {
                    let first = publications.first().map_or(0, |first| first.position.offset);
                    if deltas == BASED && self.heard.last() != Some(&Some(first - 1)) {
                        self.wrong_bases.push(first);
                    }
                    let offsets = publications.iter().map(|envelope| envelope.position.offset);
                    self.heard.extend(offsets.map(Some));
                }
                Event::Gap { .. } => self.heard.push(None),
                other => unreachable!("{other:?}"),
            }
        }
    }
}

fn in_step(deltas: Deltas) -> Meeting {
    Meeting::InStep { deltas }
}
