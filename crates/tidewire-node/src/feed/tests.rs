use bytes::Bytes;
use tidewire_model::{Channel, Payload, Publication, Tenant, TenantChannel};

use tidewire_model::{Epoch, Joined};

use super::*;
use crate::RingLimits;

#[tokio::test(start_paused = true)]
async fn publications_that_come_out_of_order_leave_in_order_without_a_read() {
    let mut feed = Fixture::open(1, 0);

    for offset in [2, 3, 1, 1, 5, 4] {
        feed.receive(1, offset);
    }

    assert_eq!(feed.handed_out(), "1 2 3 4 5");
    assert_eq!(feed.reads_after(Patience::LEAST), None);
}

#[tokio::test(start_paused = true)]
async fn a_hole_that_does_not_fill_is_read_from_the_log_once_after_30_ms() {
    let mut feed = Fixture::open(1, 0);
    feed.receive(1, 1);
    feed.receive(1, 3);

    assert_eq!(feed.reads_after(Duration::from_millis(29)), None);
    assert_eq!(feed.reads_after(Duration::from_millis(1)), Some(Since::Position(at(1, 1))));
    assert_eq!(feed.reads_after(Duration::from_mins(1)), None, "one read at a time");
    feed.merge(continues(&[(1, 1)], 1, 3));

    assert_eq!(feed.handed_out(), "1 2 3");
}

#[tokio::test(start_paused = true)]
async fn one_hole_after_the_other_that_fills_by_itself_costs_no_read() {
    let mut feed = Fixture::open(1, 0);
    feed.receive(1, 2);

    for offset in (4..=20).step_by(2) {
        assert_eq!(feed.reads_after(Duration::from_millis(9)), None);
        feed.receive(1, offset);
        feed.receive(1, offset - 3);
    }

    assert_eq!(feed.handed_out(), "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18");
}

#[tokio::test(start_paused = true)]
async fn a_channel_whose_publications_come_late_is_read_once_for_it_and_then_waited_for() {
    let mut feed = Fixture::open(1, 0);
    let mut reads = 0;

    for offset in (1..=200).step_by(2) {
        feed.receive(1, offset + 1);
        for _ in 0..8 {
            if feed.reads_after(Duration::from_millis(10)).is_some() {
                reads += 1;
                feed.merge(continues(&[(1, 1)], offset - 1, offset + 1));
            }
        }
        feed.receive(1, offset);
    }

    // After 300 ms and 2 s it is read because it is new.
    assert_eq!(reads, 3);
    assert_eq!(feed.handed_out().split(' ').count(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_arrives_while_the_first_read_is_under_way_is_not_lost() {
    let mut feed = Fixture::unopened();
    feed.feed.begin(feed.now, feed.now);
    assert_eq!(feed.reads_after(Duration::ZERO), Some(Since::Now));

    feed.receive(1, 7);
    feed.receive(1, 8);
    feed.merge(fresh(1, 7));

    assert_eq!(feed.handed_out(), "8");
}

#[tokio::test(start_paused = true)]
async fn a_new_subscription_is_read_again_because_the_network_may_not_have_heard_of_it() {
    let mut feed = Fixture::open(1, 5);

    assert_eq!(feed.reads_after(Duration::from_millis(300)), Some(Since::Position(at(1, 5))));
    feed.merge(continues(&[(1, 1)], 5, 6));
    assert_eq!(feed.reads_after(Duration::from_millis(1_699)), None);
    assert_eq!(feed.reads_after(Duration::from_millis(1)), Some(Since::Position(at(1, 6))));
    feed.merge(continues(&[(1, 1)], 6, 6));
    assert_eq!(feed.reads_after(Duration::from_mins(1)), None);
    assert_eq!(feed.handed_out(), "6");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_the_network_has_long_heard_of_is_not_read_again() {
    let since = |since| Fixture::open_after(Duration::from_millis(since), 1, 5);

    assert_eq!(since(2_001).reads_after(Duration::from_mins(1)), None);
    let mut between = since(1_000);
    assert_eq!(between.reads_after(Duration::from_millis(999)), None);
    assert_eq!(between.reads_after(Duration::from_millis(1)), Some(Since::Position(at(1, 5))));
    between.merge(continues(&[(1, 1)], 5, 5));
    assert_eq!(between.reads_after(Duration::from_mins(1)), None);
}

#[tokio::test(start_paused = true)]
async fn word_of_a_newer_position_is_followed_and_of_an_older_one_is_not() {
    let mut feed = Fixture::open(1, 5);

    feed.feed.observe(at(1, 5), feed.now);
    assert_eq!(feed.reads_after(Duration::ZERO), None);
    feed.feed.observe(at(1, 6), feed.now);
    assert_eq!(feed.reads_after(Duration::ZERO), Some(Since::Position(at(1, 5))));
}

#[tokio::test(start_paused = true)]
async fn after_a_failover_nobody_behind_the_fork_notices() {
    let mut feed = Fixture::open(1, 5);

    feed.receive(2, 6);
    assert_eq!(feed.reads_after(Duration::ZERO), Some(Since::Position(at(1, 5))));
    feed.merge(continues(&[(1, 1), (2, 6)], 5, 6));
    feed.receive(2, 7);

    assert_eq!(feed.handed_out(), "6 7");
    assert_eq!(feed.feed.position(), Some(at(2, 7)));
}

#[tokio::test(start_paused = true)]
async fn a_lost_tail_is_taken_back_before_anything_after_it() {
    let mut feed = Fixture::open(1, 5);
    feed.receive(1, 6);
    feed.receive(1, 7);

    feed.receive(2, 7);
    assert_eq!(feed.reads_after(Duration::ZERO), Some(Since::Position(at(1, 7))));
    let mut read = continues(&[(1, 1), (2, 6)], 5, 7);
    read.status = Status::Rewound;
    feed.merge(read);

    assert_eq!(feed.handed_out(), "6 7 rewind@5 6 7");
}

#[tokio::test(start_paused = true)]
async fn who_was_set_back_is_not_handed_the_lost_tail_again_by_a_node_that_still_has_it() {
    let mut unaware = Fixture::open(1, 5);
    let mut aware = Fixture::open(1, 5);
    for feed in [&mut unaware, &mut aware] {
        feed.receive(1, 6);
        feed.receive(1, 7);
    }
    let read = || Read { status: Status::Rewound, ..continues(&[(1, 1), (2, 6)], 5, 7) };

    aware.feed.read_by(aware.now);
    aware.reads_after(Duration::ZERO);
    aware.merge(read());
    let Step::Gap(told_live) = &aware.steps[2] else { panic!("a gap") };
    let joined = aware.feed.splice(Since::Position(at(1, 7)), read()).expect("in step");

    assert_eq!((told_live.position, joined.position), (at(2, 5), at(2, 5)));
    assert!(unaware.feed.join(Since::Position(told_live.position)).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_publication_of_a_deposed_primary_is_never_adopted() {
    let mut feed = Fixture::open(1, 5);
    feed.feed.observe(at(2, 5), feed.now);
    feed.reads_after(Duration::ZERO);
    feed.merge(continues(&[(1, 1), (2, 6)], 5, 5));

    feed.receive(1, 6);

    assert_eq!(feed.handed_out(), "");
    assert_eq!(feed.reads_after(Duration::ZERO), None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_an_older_life_of_the_log_is_not_believed() {
    let mut feed = Fixture::open(2, 5);
    feed.feed.read_by(feed.now);
    feed.reads_after(Duration::ZERO);

    feed.merge(continues(&[(1, 1)], 5, 9));

    assert_eq!(feed.handed_out(), "");
    assert_eq!(feed.reads_after(FIRST_BACKOFF), Some(Since::Position(at(2, 5))));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_began_anew_is_announced_as_a_reset() {
    let mut feed = Fixture::open(1, 5);
    feed.feed.observe(at(3, 2), feed.now);
    feed.reads_after(Duration::ZERO);

    let mut read = continues(&[(3, 1)], 2, 2);
    read.status = Status::Reset;
    feed.merge(read);
    feed.receive(3, 3);

    assert_eq!(feed.handed_out(), "reset@2 3");
}

#[tokio::test(start_paused = true)]
async fn what_the_log_has_dropped_is_announced_as_a_gap() {
    let mut feed = Fixture::open(1, 5);
    feed.feed.observe(at(1, 20), feed.now);
    feed.reads_after(Duration::ZERO);

    let mut read = continues(&[(1, 1)], 18, 20);
    read.status = Status::Trimmed;
    feed.merge(read);

    assert_eq!(feed.handed_out(), "window@18 19 20");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_overtaken_is_judged_by_where_the_feed_stands_now() {
    let mut feed = Fixture::open(1, 5);
    feed.feed.observe(at(1, 7), feed.now);
    feed.reads_after(Duration::ZERO);

    feed.receive(1, 6);
    feed.receive(1, 7);
    feed.receive(1, 8);
    feed.merge(continues(&[(1, 1)], 5, 7));

    assert_eq!(feed.handed_out(), "6 7 8");
    assert_eq!(feed.feed.position(), Some(at(1, 8)));
    assert_eq!(feed.reads_after(Duration::from_millis(200)), None);
}

#[tokio::test(start_paused = true)]
async fn reads_that_fail_are_repeated_at_growing_intervals() {
    let mut feed = Fixture::open(1, 5);
    feed.feed.observe(at(1, 6), feed.now);
    feed.reads_after(Duration::ZERO).expect("due");

    feed.feed.read_failed(feed.now);
    assert_eq!(feed.reads_after(FIRST_BACKOFF / 2), None);
    feed.reads_after(FIRST_BACKOFF / 2).expect("due");
    feed.feed.read_failed(feed.now);
    assert_eq!(feed.reads_after(FIRST_BACKOFF), None);
    feed.reads_after(FIRST_BACKOFF).expect("due");
}

#[tokio::test(start_paused = true)]
async fn the_reorder_buffer_is_bounded_and_what_it_drops_comes_from_the_log() {
    let mut feed = Fixture::open(1, 0);

    for offset in 2..=(Held::MOST as u64 + 2) {
        feed.receive(1, offset);
    }

    assert_eq!(feed.feed.held.publications.len(), Held::MOST);
    assert_eq!(feed.reads_after(Duration::ZERO), Some(Since::Position(at(1, 0))));
}

#[tokio::test(start_paused = true)]
async fn those_who_come_back_quickly_are_served_from_memory() {
    let mut feed = Fixture::open(1, 5);
    for offset in 6..=9 {
        feed.receive(1, offset);
    }

    assert_eq!(missed(feed.feed.join(Since::Now)), (9, vec![], true));
    assert_eq!(missed(feed.feed.join(Since::Position(at(1, 7)))), (7, vec![8, 9], true));
    assert_eq!(missed(feed.feed.join(Since::Position(at(1, 9)))), (9, vec![], true));
    assert_eq!(missed(feed.feed.join(Since::Last(2))), (7, vec![8, 9], true));
    assert!(feed.feed.join(Since::Position(at(1, 4))).is_none(), "older than memory");
    assert!(feed.feed.join(Since::Position(at(1, 10))).is_none(), "ahead of this node");
    assert!(feed.feed.join(Since::Position(at(2, 7))).is_none(), "of another epoch");
    assert!(feed.feed.join(Since::Last(5)).is_none(), "more than is in memory");
}

#[tokio::test(start_paused = true)]
async fn history_and_live_are_spliced_without_hole_or_double() {
    let mut feed = Fixture::open(1, 5);
    for offset in 6..=9 {
        feed.receive(1, offset);
    }
    let splice = |base, top| {
        let since = Since::Position(at(1, base));
        missed(feed.feed.splice(since, continues(&[(1, 1)], base, top)).ok())
    };

    assert_eq!(splice(2, 9), (2, (3..=9).collect(), true), "exactly to here");
    assert_eq!(splice(2, 12), (2, (3..=9).collect(), true), "the rest comes live");
    assert_eq!(splice(2, 7), (2, (3..=9).collect(), true), "the rest is in memory");
    assert_eq!(splice(2, 3), (2, vec![3], false), "memory does not connect: read on");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_does_not_reach_the_top_is_not_the_end_of_catching_up() {
    let feed = Fixture::open(1, 500);
    let mut read = continues(&[(1, 1)], 0, 3);
    read.top = 500;

    let (_, offsets, live) = missed(feed.feed.splice(Since::Position(at(1, 0)), read).ok());

    assert_eq!((offsets, live), (vec![1, 2, 3], false));
}

#[tokio::test(start_paused = true)]
async fn a_read_of_another_epoch_waits_until_the_feed_has_caught_up() {
    let feed = Fixture::open(1, 5);

    let spliced = feed.feed.splice(Since::Position(at(1, 3)), continues(&[(1, 1), (2, 6)], 3, 6));

    assert!(spliced.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_ahead_of_the_feed_waits_because_its_gaps_would_not_be_the_feeds() {
    let feed = Fixture::open(1, 5);
    let splice = |since, base, top| feed.feed.splice(since, continues(&[(1, 1)], base, top));

    assert!(splice(Since::Position(at(1, 6)), 6, 7).is_err());
    assert!(splice(Since::Position(at(1, 5)), 5, 7).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_stands_nowhere_begins_where_the_feed_does() {
    let feed = Fixture::open(1, 5);
    let with = |status| Read { status, ..continues(&[(1, 1)], 7, 9) };
    let splice = |since, status| missed(feed.feed.splice(since, with(status)).ok());

    assert_eq!(splice(Since::Last(2), Status::Fresh), (5, vec![], true));
    assert_eq!(splice(Since::Position(at(9, 3)), Status::Reset), (5, vec![], true));
}

#[tokio::test(start_paused = true)]
async fn what_the_log_never_confirms_is_asked_for_ever_less_often() {
    let mut feed = Fixture::open(1, 5);
    feed.receive(7, 1);
    let mut waits = Vec::new();

    for _ in 0..4 {
        let mut wait = Duration::ZERO;
        while feed.reads_after(Duration::from_millis(10)).is_none() {
            wait += Duration::from_millis(10);
        }
        feed.feed.rechecks.clear();
        feed.merge(continues(&[(1, 1)], 5, 5));
        waits.push(wait);
    }

    assert!(waits.is_sorted() && waits[3] > 3 * waits[1], "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn what_another_epoch_of_the_same_life_wrote_is_forgotten() {
    let mut feed = Fixture::open(1, 5);
    let other = Incarnation::new(1, 0).epoch(9);
    let stray = Publication { position: Position::new(other, 1), ..publication(1, 1) };
    feed.feed.receive(Arc::new(Envelope::new(stray)), feed.now, &mut feed.steps);

    feed.reads_after(Duration::ZERO).expect("asked for");
    feed.merge(continues(&[(1, 1)], 5, 5));

    assert!(feed.feed.held.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_publication_knows_the_one_before_it_however_it_came_but_in_its_own_epoch() {
    let mut feed = Fixture::open(1, 0);

    for offset in [1, 3, 2] {
        feed.receive(1, offset);
    }
    feed.receive(2, 4);
    assert_eq!(feed.reads_after(Duration::ZERO), Some(Since::Position(at(1, 3))));
    feed.merge(continues(&[(1, 1), (2, 4)], 3, 4));
    feed.receive(2, 5);

    let delta = |step: &Step| match step {
        Step::Deliver(envelope) => envelope.delta(|_, _| Some(Bytes::new())).is_some(),
        Step::Gap(_) => false,
    };
    assert_eq!(feed.handed_out(), "1 2 3 4 5");
    let known: Vec<_> = feed.steps.iter().map(delta).collect();
    assert_eq!(known, [false, true, true, false, true]);
}

/// A feed, the time it believes it is, and what it has handed out.
struct Fixture {
    feed: Feed,
    now: Instant,
    steps: Vec<Step>,
}

impl Fixture {
    fn unopened() -> Self {
        let feed = Feed::new(Ring::new(RingLimits::default()));
        Self { feed, now: Instant::now(), steps: Vec::new() }
    }

    fn open(life: u64, top: u64) -> Self {
        Self::open_after(Duration::ZERO, life, top)
    }

    /// One whose subscription the broker has known for so long.
    fn open_after(since: Duration, life: u64, top: u64) -> Self {
        let mut fixture = Self::unopened();
        let settled_at = fixture.now;
        fixture.now += since;
        fixture.feed.begin(settled_at, fixture.now);
        fixture.reads_after(Duration::ZERO);
        fixture.merge(fresh(life, top));
        fixture
    }

    fn receive(&mut self, life: u64, offset: u64) {
        let envelope = Arc::new(Envelope::new(publication(life, offset)));
        self.feed.receive(envelope, self.now, &mut self.steps);
    }

    fn merge(&mut self, read: Read) {
        self.feed.merge(read, self.now, &mut self.steps);
    }

    fn reads_after(&mut self, passed: Duration) -> Option<Since> {
        self.now += passed;
        self.feed.next_read(self.now)
    }

    fn handed_out(&self) -> String {
        let word = |step: &Step| match step {
            Step::Deliver(envelope) => envelope.position.offset.to_string(),
            Step::Gap(gap) => format!("{}@{}", gap.reason.as_str(), gap.position.offset),
        };
        self.steps.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

fn epoch(life: u64) -> Epoch {
    Incarnation::new(life, 0).epoch(0)
}

fn at(life: u64, offset: u64) -> Position {
    Position::new(epoch(life), offset)
}

fn publication(life: u64, offset: u64) -> Publication {
    Publication {
        channel: TenantChannel::new(
            Tenant::parse("acme").expect("tenant"),
            Channel::parse("a").expect("channel"),
        ),
        position: at(life, offset),
        id: None,
        time_ms: 0,
        publisher: None,
        payload: Payload::binary(Bytes::new()),
    }
}

/// A read from `base` to the top, by a log with this lineage.
fn continues(lineage: &[(u64, u64)], base: u64, top: u64) -> Read {
    let lineage =
        Lineage::new(lineage.iter().map(|(life, first)| (epoch(*life), *first)).collect());
    let publications = (base + 1..=top)
        .map(|offset| Publication {
            position: Position::new(lineage.epoch_of(offset), offset),
            ..publication(1, offset)
        })
        .collect();
    Read {
        status: Status::Continues,
        base,
        publications,
        epoch: lineage.current(),
        top,
        incarnation: lineage.current().incarnation(),
        lineage,
    }
}

fn fresh(life: u64, top: u64) -> Read {
    Read { status: Status::Fresh, ..continues(&[(life, 1)], top, top) }
}

fn missed(joined: Option<Joined>) -> (u64, Vec<u64>, bool) {
    let joined = joined.expect("in step");
    let offsets = joined.missed.iter().map(|envelope| envelope.position.offset).collect();
    (joined.position.offset, offsets, joined.live)
}
