//! What every [`Log`] must do: one function per behaviour, each against a log of its own.
//!
//! [`log_conformance!`](crate::log_conformance) makes a test of every one of them.
#![expect(
    clippy::missing_panics_doc,
    reason = "a behaviour that is not met is a panic: that is what a suite is for"
)]

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidewire_model::{
    Channel, ChannelLimits, ChannelRule, ChannelRules, Direction, Filter, HistoryPage,
    HistoryQuery, Incarnation, Payload, Position, Publication, PublicationId, Since, Tenant,
    TenantChannel, UserId,
};

use crate::{Appended, Draft, Log, LogError, MAX_PAGE_BYTES, Outcome, Read, Retention, Status};

/// Makes the logs of the suite: each empty, and none sharing anything with another.
#[async_trait]
pub trait LogFactory: Sync {
    type Log: Log + 'static;

    async fn open(&self, retention: Retention) -> Self::Log {
        self.open_with(retention, Arc::default()).await
    }

    /// A log that keeps what `rules` say, and `retention` where they say nothing.
    async fn open_with(&self, retention: Retention, rules: Arc<ChannelRules>) -> Self::Log;
}

/// Makes a `#[tokio::test]` of every behaviour. `$factory` is an expression of a
/// [`LogFactory`](crate::conformance::log::LogFactory), evaluated for each test, and may await.
#[macro_export]
macro_rules! log_conformance {
    ($factory:expr) => {
        $crate::log_conformance! { $factory =>
            offsets_of_a_channel_start_at_one_and_have_no_holes
            a_batch_keeps_its_order
            an_empty_batch_changes_nothing
            a_repeated_id_gets_the_position_of_the_first_time
            an_id_repeated_inside_one_batch_is_stored_once
            a_batch_of_old_and_new_ids_stores_only_the_new
            an_id_is_known_only_to_its_publisher
            an_id_is_known_only_in_its_channel
            drafts_without_an_id_are_never_taken_for_each_other
            concurrent_appenders_share_no_offset_and_skip_none
            a_concurrently_repeated_id_is_stored_once
            reading_since_a_position_returns_what_came_after
            reading_stops_at_the_limit_and_goes_on_from_there
            reading_from_now_returns_nothing
            reading_the_last_returns_the_newest
            reading_more_than_there_is_returns_all
            reading_with_a_limit_of_zero_tells_where_the_position_stands
            a_read_of_large_publications_goes_on_without_a_hole
            a_publication_larger_than_a_page_comes_alone
            a_position_before_what_is_kept_is_told_so
            a_position_of_an_unknown_epoch_is_reset
            a_position_beyond_the_newest_is_set_back
            no_more_than_the_retention_is_kept
            publications_run_out_and_the_numbering_goes_on
            a_rules_retention_holds_for_its_channels_only
            paging_forward_reaches_the_newest
            paging_backward_reaches_the_oldest
            paging_large_publications_reaches_all_of_them
            a_page_from_an_unknown_position_is_empty
            a_page_from_before_what_is_kept_is_empty
            a_page_at_the_end_is_empty
            asking_makes_no_channel
            heads_are_the_newest_positions_in_the_order_asked
            the_epoch_of_an_empty_channel_stays
            channels_of_one_name_in_two_tenants_are_two
            every_byte_of_a_payload_is_kept
            a_json_payload_stays_json_byte_for_byte
            id_publisher_and_time_are_kept
            the_longest_names_are_kept
            the_incarnation_is_that_of_the_epoch
            an_append_under_the_current_epoch_is_kept
            an_append_under_another_epoch_stores_nothing
            the_incarnation_asked_for_is_that_of_new_epochs
            asking_for_the_incarnation_makes_no_channel
            a_log_in_reach_is_healthy
            a_tenant_keeps_as_many_bytes_as_it_may_and_another_is_not_asked
            what_was_acknowledged_is_kept_though_the_tenant_may_keep_no_more
            what_is_trimmed_makes_room_for_what_comes
            what_runs_out_makes_room_again
        }
    };
    ($factory:expr => $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::conformance::log::$behaviour(&$factory).await;
            }
        )*
    };
}

pub async fn offsets_of_a_channel_start_at_one_and_have_no_holes(factory: &impl LogFactory) {
    let log = open(factory).await;

    for expected in 1..=5 {
        let appended = append(&log, &[draft("x")]).await;

        assert_eq!(offsets(&appended), [expected]);
        assert!(!appended[0].duplicate);
    }
    assert_eq!(append(&log, &drafts(3)).await[2].position.offset, 8);
}

pub async fn a_batch_keeps_its_order(factory: &impl LogFactory) {
    let log = open(factory).await;

    let appended = append(&log, &drafts(100)).await;
    let read = read(&log, Since::Last(200), 200).await;

    assert_eq!(offsets(&appended), (1..=100).collect::<Vec<_>>());
    assert_eq!(contents(&read.publications), numbers(1..=100));
}

pub async fn an_empty_batch_changes_nothing(factory: &impl LogFactory) {
    let log = open(factory).await;

    let appended = append(&log, &[]).await;

    assert_eq!(appended, []);
    assert_eq!(read(&log, Since::Last(10), 10).await.top, 0);
}

pub async fn a_repeated_id_gets_the_position_of_the_first_time(factory: &impl LogFactory) {
    let log = open(factory).await;

    let first = append(&log, &[with_id("1")]).await[0];
    append(&log, &drafts(3)).await;
    let again = append(&log, &[with_id("1")]).await[0];

    assert_eq!(again, Appended { duplicate: true, ..first });
    assert_eq!(read(&log, Since::Last(10), 10).await.publications.len(), 4);
}

pub async fn an_id_repeated_inside_one_batch_is_stored_once(factory: &impl LogFactory) {
    let log = open(factory).await;

    let appended = append(&log, &[with_id("1"), with_id("1"), with_id("2")]).await;

    assert_eq!(offsets(&appended), [1, 1, 2]);
    assert_eq!(duplicates(&appended), [false, true, false]);
}

pub async fn a_batch_of_old_and_new_ids_stores_only_the_new(factory: &impl LogFactory) {
    let log = open(factory).await;

    append(&log, &[with_id("1"), with_id("2")]).await;
    let appended = append(&log, &[with_id("2"), with_id("3"), with_id("1"), draft("x")]).await;

    assert_eq!(offsets(&appended), [2, 3, 1, 4]);
    assert_eq!(duplicates(&appended), [true, false, true, false]);
    assert_eq!(read(&log, Since::Last(10), 10).await.top, 4);
}

pub async fn an_id_is_known_only_to_its_publisher(factory: &impl LogFactory) {
    let log = open(factory).await;
    let by = |user| Draft { publisher: user, ..with_id("1") };

    let appended = append(&log, &[by(None), by(Some(user("ann"))), by(Some(user("bob")))]).await;

    assert_eq!(offsets(&appended), [1, 2, 3]);
    assert_eq!(duplicates(&appended), [false; 3]);
}

pub async fn an_id_is_known_only_in_its_channel(factory: &impl LogFactory) {
    let log = open(factory).await;

    for channel in [channel("acme", "a"), channel("acme", "b"), channel("other", "a")] {
        let appended = log.append(&channel, &[with_id("1")]).await.expect("append");

        assert_eq!(
            (offsets(&appended), duplicates(&appended)),
            (vec![1], vec![false]),
            "{channel}"
        );
    }
}

pub async fn drafts_without_an_id_are_never_taken_for_each_other(factory: &impl LogFactory) {
    let log = open(factory).await;

    let appended = append(&log, &[draft("same"), draft("same")]).await;
    let later = append(&log, &[draft("same")]).await;

    assert_eq!(offsets(&appended), [1, 2]);
    assert_eq!((offsets(&later), duplicates(&later)), (vec![3], vec![false]));
}

pub async fn concurrent_appenders_share_no_offset_and_skip_none(factory: &impl LogFactory) {
    let log = open(factory).await;
    let appender = async || {
        let mut mine = Vec::new();
        for _ in 0..50 {
            mine.extend(offsets(&append(&log, &drafts(3)).await));
        }
        mine
    };

    let (left, right) = together(appender(), appender()).await;

    assert!(left.is_sorted() && right.is_sorted());
    let all: BTreeSet<u64> = left.into_iter().chain(right).collect();
    assert_eq!(all, (1..=300).collect());
}

pub async fn a_concurrently_repeated_id_is_stored_once(factory: &impl LogFactory) {
    let log = open(factory).await;

    for id in 1..=20 {
        let drafts = [with_id(&id.to_string())];
        let (left, right) = together(append(&log, &drafts), append(&log, &drafts)).await;

        assert_eq!((offsets(&left), offsets(&right)), (vec![id], vec![id]));
        assert_ne!(left[0].duplicate, right[0].duplicate);
    }
}

pub async fn reading_since_a_position_returns_what_came_after(factory: &impl LogFactory) {
    let log = open(factory).await;
    let appended = append(&log, &drafts(5)).await;

    let read = read(&log, Since::Position(appended[1].position), 10).await;

    assert_eq!((read.status, read.base, read.top), (Status::Continues, 2, 5));
    assert_eq!(contents(&read.publications), numbers(3..=5));
    assert_eq!(positions(&read.publications), appended_positions(&appended[2..]));
    assert_eq!(read.base_position(), appended[1].position);
    assert_eq!(read.top_position(), appended[4].position);
    assert!(read.reaches_top());
}

pub async fn reading_stops_at_the_limit_and_goes_on_from_there(factory: &impl LogFactory) {
    let log = open(factory).await;
    let appended = append(&log, &drafts(7)).await;
    let start = Position::new(appended[0].position.epoch, 0);

    let first = read(&log, Since::Position(start), 4).await;
    let second = read(&log, Since::Position(first.publications[3].position), 4).await;

    assert_eq!(contents(&first.publications), numbers(1..=4));
    assert!(!first.reaches_top());
    assert_eq!(contents(&second.publications), numbers(5..=7));
    assert!(second.reaches_top());
}

pub async fn reading_from_now_returns_nothing(factory: &impl LogFactory) {
    let log = open(factory).await;
    append(&log, &drafts(3)).await;

    let read = read(&log, Since::Now, 10).await;

    assert_eq!((read.status, read.base, read.top), (Status::Fresh, 3, 3));
    assert_eq!(read.publications, []);
}

pub async fn reading_the_last_returns_the_newest(factory: &impl LogFactory) {
    let log = open(factory).await;
    append(&log, &drafts(9)).await;

    let last_three = read(&log, Since::Last(3), 10).await;
    let first_two_of_them = read(&log, Since::Last(3), 2).await;
    let none = read(&log, Since::Last(0), 10).await;

    assert_eq!((last_three.status, last_three.base), (Status::Fresh, 6));
    assert_eq!(contents(&last_three.publications), numbers(7..=9));
    assert_eq!(contents(&first_two_of_them.publications), numbers(7..=8));
    assert_eq!((none.base, none.publications), (9, vec![]));
}

pub async fn reading_more_than_there_is_returns_all(factory: &impl LogFactory) {
    let log = open(factory).await;
    append(&log, &drafts(2)).await;

    let read = read(&log, Since::Last(u32::MAX), 1_000).await;

    assert_eq!((read.status, read.base), (Status::Fresh, 0));
    assert_eq!(contents(&read.publications), numbers(1..=2));
}

pub async fn reading_with_a_limit_of_zero_tells_where_the_position_stands(
    factory: &impl LogFactory,
) {
    let log = open(factory).await;
    let appended = append(&log, &drafts(2)).await;

    let read = read(&log, Since::Position(appended[0].position), 0).await;

    assert_eq!((read.status, read.base, read.top), (Status::Continues, 1, 2));
    assert_eq!(read.publications, []);
}

pub async fn a_read_of_large_publications_goes_on_without_a_hole(factory: &impl LogFactory) {
    let log = open(factory).await;
    let appended = append_large(&log, 20).await;
    let start = Position::new(appended[0].position.epoch, 0);

    let mut found = Vec::new();
    let mut reads = 0;
    loop {
        let from = found.last().map_or(start, |last: &Publication| last.position);
        let read = read(&log, Since::Position(from), 1_000).await;
        assert_eq!((read.status, read.base), (Status::Continues, from.offset));
        assert!((1..=MAX_PAGE_BYTES).contains(&bytes_of(&read.publications)));
        reads += 1;
        let reaches_top = read.reaches_top();
        found.extend(read.publications);
        assert!(found.len() <= appended.len(), "reading does not come to an end");
        if reaches_top {
            break;
        }
    }

    assert_eq!(positions(&found), appended_positions(&appended));
    assert_eq!(reads, 20_usize.div_ceil(MAX_PAGE_BYTES / LARGE));
}

pub async fn a_publication_larger_than_a_page_comes_alone(factory: &impl LogFactory) {
    let log = open(factory).await;
    let larger = Payload::binary(Bytes::from(vec![7; MAX_PAGE_BYTES + 1]));
    let appended = append(&log, &[draft("1"), Draft { payload: larger, ..draft("") }]).await;
    let empty = append(&log, &[draft("")]).await[0];

    let first = read(&log, Since::Last(3), 10).await;
    let second = read(&log, Since::Position(appended[0].position), 10).await;
    let paged = page(&log, Direction::Forward, Some(appended[0].position), 10).await;
    let back = page(&log, Direction::Backward, Some(empty.position), 10).await;

    assert_eq!(positions(&first.publications), [appended[0].position]);
    assert_eq!(positions(&second.publications), [appended[1].position]);
    for page in [paged, back] {
        assert_eq!(positions(&page.publications), [appended[1].position]);
        assert_eq!(page.next, Some(appended[1].position));
    }
}

pub async fn a_position_before_what_is_kept_is_told_so(factory: &impl LogFactory) {
    let log = factory.open(Retention { size: 10, ..Retention::default() }).await;
    let appended = append_many(&log, 500).await;

    let read = read(&log, Since::Position(appended[0].position), 1_000).await;

    assert_eq!(read.status, Status::Trimmed);
    let oldest = read.base + 1;
    assert!(oldest > 2 && oldest <= 491, "the newest ten are kept, but not all 500: {oldest}");
    assert_eq!(contents(&read.publications), numbers(oldest..=500));
}

pub async fn a_position_of_an_unknown_epoch_is_reset(factory: &impl LogFactory) {
    let log = open(factory).await;
    append(&log, &drafts(3)).await;

    let read = read(&log, Since::Position(unknown_position()), 10).await;

    assert_eq!((read.status, read.base, read.top), (Status::Reset, 3, 3));
    assert_eq!(read.publications, []);
}

pub async fn a_position_beyond_the_newest_is_set_back(factory: &impl LogFactory) {
    let log = open(factory).await;
    let appended = append(&log, &drafts(3)).await;
    let beyond = Position::new(appended[0].position.epoch, Position::MAX_OFFSET);

    let read = read(&log, Since::Position(beyond), 10).await;

    assert_eq!((read.status, read.base), (Status::Rewound, 3));
    assert_eq!(read.publications, []);
}

pub async fn no_more_than_the_retention_is_kept(factory: &impl LogFactory) {
    let log = factory.open(Retention { size: 100, ..Retention::default() }).await;
    append_many(&log, 1_000).await;

    let read = read(&log, Since::Last(1_000), 1_000).await;

    // Trimming may go by blocks of up to 100.
    let kept = read.publications.len();
    assert!((100..=200).contains(&kept), "{kept} publications are kept");
    assert_eq!(read.top, 1_000);
    assert!(read.reaches_top());
}

pub async fn publications_run_out_and_the_numbering_goes_on(factory: &impl LogFactory) {
    let ttl = Duration::from_millis(100);
    let log = factory.open(Retention { ttl, ..Retention::default() }).await;
    let first = append(&log, &drafts(2)).await;

    until(async || read(&log, Since::Last(10), 10).await.publications.is_empty()).await;
    let stale = read(&log, Since::Position(first[0].position), 10).await;
    let current = read(&log, Since::Position(first[1].position), 10).await;
    let next = append(&log, &drafts(1)).await;

    assert_eq!((stale.status, stale.base), (Status::Trimmed, 2));
    assert_eq!((current.status, current.base), (Status::Continues, 2));
    assert_eq!(next[0].position, Position::new(first[0].position.epoch, 3));
}

pub async fn a_rules_retention_holds_for_its_channels_only(factory: &impl LogFactory) {
    let brief = Retention { size: 100, ttl: Duration::from_millis(100) };
    let filter = Filter::parse("brief/*").expect("filter");
    let rule = ChannelRule { retention: Some(brief), ..ChannelRule::new(filter) };
    let rules = ChannelRules::new(HashMap::from([(room().tenant, vec![rule])]));
    let log = factory.open_with(Retention::default(), Arc::new(rules)).await;
    let room_of_rule =
        TenantChannel::new(room().tenant, Channel::parse("brief/1").expect("channel"));

    log.append(&room_of_rule, &drafts(2)).await.expect("append");
    append(&log, &drafts(2)).await;
    let last = |channel: TenantChannel| {
        let log = &log;
        async move { log.read(&channel, Since::Last(10), 10).await.expect("read").publications.len() }
    };

    until(async || last(room_of_rule.clone()).await == 0).await;
    assert_eq!(last(room()).await, 2);
}

pub async fn paging_forward_reaches_the_newest(factory: &impl LogFactory) {
    let log = open(factory).await;
    append(&log, &drafts(7)).await;

    let pages = all_pages(&log, Direction::Forward, 3).await;

    assert_eq!(pages, [numbers(1..=3), numbers(4..=6), numbers(7..=7)]);
}

pub async fn paging_backward_reaches_the_oldest(factory: &impl LogFactory) {
    let log = open(factory).await;
    append(&log, &drafts(6)).await;

    let pages = all_pages(&log, Direction::Backward, 3).await;

    let newest_first = |numbers: Vec<String>| numbers.into_iter().rev().collect::<Vec<_>>();
    assert_eq!(pages, [newest_first(numbers(4..=6)), newest_first(numbers(1..=3))]);
}

pub async fn paging_large_publications_reaches_all_of_them(factory: &impl LogFactory) {
    let log = open(factory).await;
    let mut appended = appended_positions(&append_large(&log, 20).await);

    for direction in [Direction::Forward, Direction::Backward] {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = page(&log, direction, from, 1_000).await;
            assert!((1..=MAX_PAGE_BYTES).contains(&bytes_of(&page.publications)));
            found.extend(positions(&page.publications));
            assert!(found.len() <= appended.len(), "paging does not come to an end");
            from = page.next;
            if from.is_none() {
                break;
            }
            assert_eq!(from.as_ref(), found.last());
        }

        assert_eq!(found, appended, "{direction:?}");
        appended.reverse();
    }
}

pub async fn a_page_from_an_unknown_position_is_empty(factory: &impl LogFactory) {
    let log = open(factory).await;
    let appended = append(&log, &drafts(3)).await;
    let beyond = Position::new(appended[0].position.epoch, 4);

    for direction in [Direction::Forward, Direction::Backward] {
        for from in [unknown_position(), beyond] {
            let page = page(&log, direction, Some(from), 10).await;

            assert_eq!((page.publications, page.next), (vec![], None), "{direction:?} {from}");
            assert_eq!(page.top, appended[2].position);
        }
    }
}

pub async fn a_page_from_before_what_is_kept_is_empty(factory: &impl LogFactory) {
    let log = factory.open(Retention { size: 10, ..Retention::default() }).await;
    let appended = append_many(&log, 500).await;

    for direction in [Direction::Forward, Direction::Backward] {
        let page = page(&log, direction, Some(appended[0].position), 10).await;

        assert_eq!((page.publications, page.next), (vec![], None), "{direction:?}");
    }
}

pub async fn a_page_at_the_end_is_empty(factory: &impl LogFactory) {
    let log = open(factory).await;
    let appended = append(&log, &drafts(3)).await;

    let after_newest = page(&log, Direction::Forward, Some(appended[2].position), 10).await;
    let before_oldest = page(&log, Direction::Backward, Some(appended[0].position), 10).await;
    let all = page(&log, Direction::Forward, None, 3).await;

    assert_eq!((after_newest.publications, after_newest.next), (vec![], None));
    assert_eq!((before_oldest.publications, before_oldest.next), (vec![], None));
    assert_eq!((contents(&all.publications), all.next), (numbers(1..=3), None));
}

pub async fn asking_makes_no_channel(factory: &impl LogFactory) {
    let log = open(factory).await;

    for direction in [Direction::Forward, Direction::Backward] {
        let asked = page(&log, direction, None, 10).await;
        let from_top = page(&log, direction, Some(asked.top), 10).await;
        let head = log.heads(&[room()]).await.expect("heads")[0];

        for page in [&asked, &from_top] {
            assert_eq!((&page.publications, page.top.offset, page.next), (&vec![], 0, None));
        }
        assert_eq!(head.position.offset, 0);
        assert_eq!(head.incarnation, asked.top.epoch.incarnation());
        // Had it been made, the second answer would have been in the epoch of the first.
        assert_ne!(asked.top.epoch, from_top.top.epoch);
        assert_ne!(asked.top.epoch, head.position.epoch);
    }
    assert_eq!(append(&log, &drafts(1)).await[0].position.offset, 1);
}

pub async fn heads_are_the_newest_positions_in_the_order_asked(factory: &impl LogFactory) {
    let log = open(factory).await;
    let names: Vec<_> = (0..300).map(|n| channel("acme", &format!("c{n}"))).collect();
    let mut expected = Vec::new();
    for (count, name) in names.iter().enumerate().take(3) {
        let appended = log.append(name, &drafts(count + 1)).await.expect("append");
        expected.push(appended[count].position);
    }

    let heads = log.heads(&names).await.expect("heads");

    assert_eq!(heads.len(), names.len());
    let positions: Vec<_> = heads[..3].iter().map(|head| head.position).collect();
    assert_eq!(positions, expected);
    assert!(heads[3..].iter().all(|head| head.position.offset == 0));
    assert_eq!(log.heads(&[]).await.expect("heads"), []);
}

pub async fn the_epoch_of_an_empty_channel_stays(factory: &impl LogFactory) {
    let log = open(factory).await;

    let first = read(&log, Since::Now, 10).await;
    let head = log.heads(&[room()]).await.expect("heads")[0];
    let second = read(&log, Since::Position(first.top_position()), 10).await;
    let appended = append(&log, &drafts(1)).await;

    assert_eq!((first.status, first.top), (Status::Fresh, 0));
    assert_eq!(head.position, first.top_position());
    assert_eq!((second.status, second.epoch), (Status::Continues, first.epoch));
    assert_eq!(appended[0].position, Position::new(first.epoch, 1));
}

pub async fn channels_of_one_name_in_two_tenants_are_two(factory: &impl LogFactory) {
    let log = open(factory).await;
    let (ours, theirs) = (channel("acme", "room"), channel("other", "room"));

    log.append(&ours, &[draft("secret")]).await.expect("append");
    let read = log.read(&theirs, Since::Last(10), 10).await.expect("read");
    let found = log.read(&ours, Since::Last(10), 10).await.expect("read");

    assert_eq!((read.top, read.publications), (0, vec![]));
    assert_eq!(found.publications[0].channel, ours);
}

pub async fn every_byte_of_a_payload_is_kept(factory: &impl LogFactory) {
    let log = open(factory).await;
    let every_byte = Payload::binary((0..=255).chain([0, 0]).collect());
    let empty = Payload::binary(Bytes::new());
    let large = Payload::binary(Bytes::from(vec![0xff; 512 * 1024]));

    for payload in [every_byte, empty, large] {
        append(&log, &[Draft { payload: payload.clone(), ..draft("") }]).await;
        let read = read(&log, Since::Last(1), 1).await;

        assert_eq!(read.publications[0].payload, payload);
    }
}

pub async fn a_json_payload_stays_json_byte_for_byte(factory: &impl LogFactory) {
    let log = open(factory).await;
    let payload =
        Payload::json(Bytes::from_static(b" {\"a\" : 1.50e0,\n\"b\":null} ")).expect("valid");

    append(&log, &[Draft { payload: payload.clone(), ..draft("") }]).await;
    let read = read(&log, Since::Last(1), 1).await;

    assert_eq!(read.publications[0].payload, payload);
}

pub async fn id_publisher_and_time_are_kept(factory: &impl LogFactory) {
    let log = open(factory).await;
    let named = Draft { publisher: Some(user("ann \u{e9}")), ..with_id("\u{1f30a} 1") };

    let appended = append(&log, &[named.clone(), draft("plain")]).await;
    let read = read(&log, Since::Last(2), 2).await;

    let [first, second] = read.publications.as_slice() else {
        unreachable!("two were appended, {} came back", read.publications.len())
    };
    assert_eq!((&first.id, &first.publisher), (&named.id, &named.publisher));
    assert_eq!((&second.id, &second.publisher), (&None, &None));
    assert_eq!([first.time_ms, second.time_ms], [appended[0].time_ms, appended[1].time_ms]);
    assert!(first.time_ms > 1_577_836_800_000, "the clock stands before 2020");
}

pub async fn the_longest_names_are_kept(factory: &impl LogFactory) {
    let log = open(factory).await;
    let channel = channel(&"t".repeat(Tenant::MAX_BYTES), &"\u{e9}".repeat(127));
    let draft = Draft {
        publisher: Some(user(&"u".repeat(UserId::MAX_BYTES))),
        ..with_id(&"i".repeat(PublicationId::MAX_BYTES))
    };

    log.append(&channel, std::slice::from_ref(&draft)).await.expect("append");
    let read = log.read(&channel, Since::Last(1), 1).await.expect("read");

    assert_eq!(
        (&read.publications[0].id, &read.publications[0].publisher),
        (&draft.id, &draft.publisher)
    );
    assert_eq!(read.publications[0].channel, channel);
}

pub async fn the_incarnation_is_that_of_the_epoch(factory: &impl LogFactory) {
    let log = open(factory).await;

    let appended = append(&log, &drafts(1)).await;
    let read = read(&log, Since::Now, 1).await;
    let head = log.heads(&[room()]).await.expect("heads")[0];

    assert_eq!(read.incarnation, appended[0].position.epoch.incarnation());
    assert_eq!(head.incarnation, read.incarnation);
    assert!(read.incarnation > Incarnation::ZERO);
    assert_eq!(read.lineage.entries(), [(read.epoch, 1)]);
}

pub async fn an_append_under_the_current_epoch_is_kept(factory: &impl LogFactory) {
    let log = open(factory).await;
    let Position { epoch, .. } = append(&log, &drafts(1)).await[0].position;

    let outcome = log.append_in(&room(), Some(epoch), &[draft("2"), with_id("3")]).await;
    let again = append(&log, &[draft("4"), with_id("3")]).await;

    let first = |appended: &Appended| Appended { duplicate: false, ..*appended };
    let expected = |offset| Position::new(epoch, offset);
    assert_eq!(appended_positions(&again), [expected(4), expected(3)]);
    assert_eq!(duplicates(&again), [false, true]);
    let kept = outcome.expect("append");
    let Outcome::Kept { appended, by } = kept else { unreachable!("it is in that epoch") };
    assert_eq!(appended.len(), 2);
    assert_eq!((appended[1], by), (first(&again[1]), epoch.incarnation()));
}

pub async fn an_append_under_another_epoch_stores_nothing(factory: &impl LogFactory) {
    let log = open(factory).await;
    let other = Some(unknown_position().epoch);

    let before = log.append_in(&room(), other, &drafts(2)).await.expect("append");
    append(&log, &[with_id("1")]).await;
    let after = log.append_in(&room(), other, &[with_id("2")]).await.expect("append");
    let known = log.append_in(&room(), other, &[with_id("1")]).await.expect("append");

    assert_eq!([before, after, known], [Outcome::Forked, Outcome::Forked, Outcome::Forked]);
    let kept = append(&log, &[with_id("2")]).await[0];
    assert_eq!((kept.position.offset, kept.duplicate), (2, false));
}

pub async fn the_incarnation_asked_for_is_that_of_new_epochs(factory: &impl LogFactory) {
    let log = open(factory).await;

    let asked = log.incarnation(&room()).await.expect("incarnation");
    let appended = append(&log, &drafts(1)).await[0];
    let asked_again = log.incarnation(&room()).await.expect("incarnation");

    assert_eq!(asked, appended.position.epoch.incarnation());
    assert_eq!(asked_again, asked);
}

pub async fn asking_for_the_incarnation_makes_no_channel(factory: &impl LogFactory) {
    let log = open(factory).await;

    log.incarnation(&room()).await.expect("incarnation");
    let heads =
        [log.heads(&[room()]).await.expect("heads"), log.heads(&[room()]).await.expect("heads")];

    // Had it been made, the second answer would have been in the epoch of the first.
    assert_ne!(heads[0][0].position.epoch, heads[1][0].position.epoch);
}

pub async fn a_log_in_reach_is_healthy(factory: &impl LogFactory) {
    let log = open(factory).await;

    log.health().await.expect("healthy");
}

pub async fn a_tenant_keeps_as_many_bytes_as_it_may_and_another_is_not_asked(
    factory: &impl LogFactory,
) {
    let log = open_bounded(factory, Retention::default()).await;
    let other_room = channel("acme", "other");

    let kept = append(&log, &[of_bytes(15_000), of_bytes(15_000)]).await;
    append(&log, &[of_bytes(15_000)]).await;

    assert_full(&log.append(&room(), &[of_bytes(1)]).await);
    // Parts of a log tell each other now and then.
    until(async || log.append(&other_room, &[of_bytes(1)]).await.is_err()).await;
    assert_full(&log.append(&other_room, &[of_bytes(1)]).await);
    let theirs = channel("globex", "room");
    for _ in 0..3 {
        log.append(&theirs, &[of_bytes(30_000)]).await.expect("theirs has no bound");
    }
    assert_eq!(read(&log, Since::Position(kept[0].position), 10).await.publications.len(), 2);
}

pub async fn what_was_acknowledged_is_kept_though_the_tenant_may_keep_no_more(
    factory: &impl LogFactory,
) {
    let log = open_bounded(factory, Retention::default()).await;
    let epoch = append(&log, &[of_bytes(50_000)]).await[0].position.epoch;
    assert_full(&log.append(&room(), &drafts(1)).await);

    let again = log.append_in(&room(), Some(epoch), &drafts(1)).await.expect("kept");

    assert!(matches!(again, Outcome::Kept { .. }), "{again:?}");
    assert_full(&log.append(&room(), &drafts(1)).await);
}

pub async fn what_is_trimmed_makes_room_for_what_comes(factory: &impl LogFactory) {
    let retention = Retention { size: 10, ..Retention::default() };
    let log = open_bounded(factory, retention).await;

    // A log may keep somewhat more than is asked of it: here three times the bound goes through.
    for _ in 0..1_000 {
        append(&log, &[of_bytes(7)]).await;
    }

    assert_eq!(read(&log, Since::Now, 1).await.top, 1_000);
}

pub async fn what_runs_out_makes_room_again(factory: &impl LogFactory) {
    let brief = Retention { ttl: Duration::from_millis(200), ..Retention::default() };
    let filter = Filter::parse("brief/*").expect("a valid filter");
    let rule = ChannelRule { retention: Some(brief), ..ChannelRule::new(filter) };
    let log = open_ruled(factory, Retention::default(), vec![rule]).await;
    append(&log, &[of_bytes(7)]).await;
    let brief = channel("acme", "brief/1");
    log.append(&brief, &[of_bytes(50_000)]).await.expect("there is room");

    until(async || log.append(&brief, &[of_bytes(7)]).await.is_ok()).await;
    until(async || log.append(&room(), &[of_bytes(7)]).await.is_ok()).await;
}

fn assert_full(outcome: &Result<Vec<Appended>, LogError>) {
    assert!(matches!(outcome, Err(LogError::Full { most: BOUND })), "{outcome:?}");
}

/// What `acme` may keep in a log that is bounded.
const BOUND: u64 = 45_000;

async fn open_bounded<F: LogFactory>(factory: &F, retention: Retention) -> F::Log {
    open_ruled(factory, retention, Vec::new()).await
}

async fn open_ruled<F: LogFactory>(
    factory: &F,
    retention: Retention,
    rules_of_tenant: Vec<ChannelRule>,
) -> F::Log {
    let mut rules = ChannelRules::default();
    rules.set(room().tenant, rules_of_tenant);
    let limits = ChannelLimits { kept_bytes: Some(BOUND), ..ChannelLimits::default() };
    rules.set_limits(&room().tenant, limits);
    factory.open_with(retention, Arc::new(rules)).await
}

fn of_bytes(count: usize) -> Draft {
    Draft { id: None, publisher: None, payload: Payload::binary(vec![7; count].into()) }
}

async fn open<F: LogFactory>(factory: &F) -> F::Log {
    factory.open(Retention::default()).await
}

async fn append(log: &impl Log, drafts: &[Draft]) -> Vec<Appended> {
    log.append(&room(), drafts).await.expect("append")
}

async fn append_many(log: &impl Log, count: usize) -> Vec<Appended> {
    let mut appended = Vec::new();
    for batch in drafts(count).chunks(50) {
        appended.extend(append(log, batch).await);
    }
    appended
}

/// Appends publications of which [`MAX_PAGE_BYTES`] hold five and a bit.
async fn append_large(log: &impl Log, count: usize) -> Vec<Appended> {
    let payload = Payload::binary(Bytes::from(vec![7; LARGE]));
    append(log, &vec![Draft { payload, ..draft("") }; count]).await
}

const LARGE: usize = 50_000;

fn bytes_of(publications: &[Publication]) -> usize {
    publications.iter().map(|publication| publication.payload.len()).sum()
}

async fn read(log: &impl Log, since: Since, limit: usize) -> Read {
    log.read(&room(), since, limit).await.expect("read")
}

async fn page(
    log: &impl Log,
    direction: Direction,
    from: Option<Position>,
    limit: u32,
) -> HistoryPage {
    log.page(&room(), HistoryQuery { direction, from, limit }).await.expect("page")
}

async fn all_pages(log: &impl Log, direction: Direction, limit: u32) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut from = None;
    loop {
        let page = page(log, direction, from, limit).await;
        pages.push(contents(&page.publications));
        assert!(pages.len() <= 100, "paging does not come to an end");
        from = page.next;
        if from.is_none() {
            return pages;
        }
    }
}

/// Runs both on this task, each going on while the other waits.
async fn together<T>(left: impl Future<Output = T>, right: impl Future<Output = T>) -> (T, T) {
    tokio::join!(left, right)
}

/// Asks every 5 ms until it is so; fails after 30 s.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it becomes so in 30 s");
}

fn drafts(count: usize) -> Vec<Draft> {
    numbers(1..=count as u64).iter().map(|number| draft(number)).collect()
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn draft(content: &str) -> Draft {
    let payload = Payload::binary(Bytes::copy_from_slice(content.as_bytes()));
    Draft { id: None, publisher: None, payload }
}

fn with_id(id: &str) -> Draft {
    Draft { id: Some(PublicationId::parse(id).expect("a valid id")), ..draft(id) }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a valid user")
}

fn room() -> TenantChannel {
    channel("acme", "room:42")
}

fn channel(tenant: &str, name: &str) -> TenantChannel {
    let tenant = Tenant::parse(tenant).expect("a valid tenant");
    TenantChannel::new(tenant, Channel::parse(name).expect("a valid channel"))
}

fn unknown_position() -> Position {
    Position::new(Incarnation::new(1, 1).epoch(1), 1)
}

fn offsets(appended: &[Appended]) -> Vec<u64> {
    appended.iter().map(|one| one.position.offset).collect()
}

fn duplicates(appended: &[Appended]) -> Vec<bool> {
    appended.iter().map(|one| one.duplicate).collect()
}

fn appended_positions(appended: &[Appended]) -> Vec<Position> {
    appended.iter().map(|one| one.position).collect()
}

fn positions(publications: &[Publication]) -> Vec<Position> {
    publications.iter().map(|publication| publication.position).collect()
}

fn contents(publications: &[Publication]) -> Vec<String> {
    let text = |one: &Publication| String::from_utf8_lossy(one.payload.bytes()).into_owned();
    publications.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_behaviour_is_left_out_of_the_list() {
        let source = include_str!("log.rs");
        let behaviours: Vec<_> = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
            .collect();

        let is_listed = |name: &&str| source.lines().any(|line| line.trim() == *name);

        assert!(behaviours.len() > 30);
        let unlisted: Vec<_> = behaviours.iter().filter(|name| !is_listed(name)).collect();
        assert_eq!(unlisted, [&""; 0]);
    }
}
