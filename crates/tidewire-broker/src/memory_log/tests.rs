use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidewire_model::{Channel, ChannelRules, Direction, Payload, PublicationId, Tenant};

use super::*;
use crate::conformance::log::LogFactory;
use crate::{Lineage, Status};

struct InMemory;

#[async_trait]
impl LogFactory for InMemory {
    type Log = MemoryLog;

    async fn open_with(&self, retention: Retention, rules: Arc<ChannelRules>) -> MemoryLog {
        MemoryLog::new(retention).with_rules(rules)
    }
}

crate::log_conformance!(InMemory);

/// A log that went on from what another one kept is a log like any.
mod restored {
    use super::*;

    struct Restored;

    #[async_trait]
    impl LogFactory for Restored {
        type Log = MemoryLog;

        async fn open_with(&self, retention: Retention, rules: Arc<ChannelRules>) -> MemoryLog {
            let log = MemoryLog::new(retention);
            let other = Channel::parse("another").expect("valid");
            let other = TenantChannel::new(channel().tenant, other);
            log.append(&other, &[draft("1")]).await.expect("append");
            let again = MemoryLog::restored(retention, log.saved(), Duration::ZERO);
            again.expect("a log has kept it").with_rules(rules)
        }
    }

    crate::log_conformance!(Restored);
}

#[tokio::test]
async fn a_restart_that_loses_nothing_lets_every_position_go_on_under_a_new_epoch() {
    let log = MemoryLog::new(Retention::default());
    let before = append(&log, ["1", "2"]).await;

    log.restart(0);
    let read = log.read(&channel(), Since::Position(before[0]), 10).await.expect("read");

    assert_eq!((read.status, read.base, read.top), (Status::Continues, 1, 2));
    assert_eq!(read.publications[0].position, before[1]);
    assert!(read.epoch.incarnation() > before[0].epoch.incarnation());
    assert_eq!(read.incarnation, read.epoch.incarnation());
}

#[tokio::test]
async fn who_saw_a_lost_tail_is_set_back_to_where_all_agree() {
    let log = MemoryLog::new(Retention::default());
    let before = append(&log, ["1", "2", "3"]).await;

    log.restart(2);
    let after = append(&log, ["2"]).await;
    let read = log.read(&channel(), Since::Position(before[2]), 10).await.expect("read");

    assert_eq!((after[0].offset, after[0].epoch), (2, read.epoch));
    assert_eq!((read.status, read.base, read.top), (Status::Rewound, 1, 2));
    assert_eq!(read.base_position(), before[0]);
}

#[tokio::test]
async fn an_epoch_that_began_in_a_lost_tail_is_lost_with_it() {
    let log = MemoryLog::new(Retention::default());
    let first = append(&log, ["1", "2", "3"]).await;
    log.restart(0);
    let second = append(&log, ["4", "5"]).await;

    log.restart(4);
    let from_first = log.read(&channel(), Since::Position(first[2]), 10).await.expect("read");
    let from_second = log.read(&channel(), Since::Position(second[0]), 10).await.expect("read");

    assert_eq!((from_first.status, from_first.base), (Status::Rewound, 1));
    assert_eq!((from_second.status, from_second.base), (Status::Reset, 1));
}

#[tokio::test(start_paused = true)]
async fn an_id_is_known_for_two_minutes_after_it_was_last_used() {
    let log = MemoryLog::new(Retention::default());
    let append_again = async || log.append(&channel(), &[draft("1")]).await.expect("append")[0];
    let first = append_again().await;

    tokio::time::advance(Duration::from_secs(119)).await;
    let inside = append_again().await;
    tokio::time::advance(Duration::from_secs(119)).await;
    let kept_up = append_again().await;
    tokio::time::advance(Duration::from_mins(3)).await;
    let outside = append_again().await;

    assert_eq!((inside.position, inside.duplicate), (first.position, true));
    assert_eq!((kept_up.position, kept_up.duplicate), (first.position, true));
    assert_eq!((outside.position.offset, outside.duplicate), (2, false));
}

#[tokio::test(start_paused = true)]
async fn the_numbering_of_an_idle_channel_is_forgotten_a_day_after_its_publications() {
    let log = MemoryLog::new(Retention::default());
    let other = TenantChannel::new(channel().tenant, Channel::parse("another").expect("valid"));
    let first = append(&log, ["1"]).await[0];

    tokio::time::advance(Duration::from_hours(24)).await;
    let next = append(&log, ["2"]).await[0];
    tokio::time::advance(Duration::from_hours(24) + Duration::from_mins(6)).await;
    log.read(&other, Since::Now, 1).await.expect("read");

    assert_eq!(next, Position::new(first.epoch, 2));
    assert_eq!(log.state.lock().channels.len(), 1);
    assert_eq!(append(&log, ["3"]).await[0].offset, 1);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_was_only_read_is_forgotten_after_an_hour() {
    let log = MemoryLog::new(Retention::default());
    let other = TenantChannel::new(channel().tenant, Channel::parse("another").expect("valid"));
    let first = log.read(&channel(), Since::Now, 1).await.expect("read");

    tokio::time::advance(Duration::from_mins(59)).await;
    let head = log.heads(&[channel()]).await.expect("heads")[0];
    tokio::time::advance(Duration::from_mins(59)).await;
    log.heads(&[other]).await.expect("heads");
    let kept_by_heads = log.state.lock().channels.len();
    tokio::time::advance(Duration::from_mins(2)).await;
    let query = HistoryQuery { direction: Direction::Backward, from: None, limit: 1 };
    log.page(&channel(), query).await.expect("page");

    assert_eq!(head.position, first.top_position());
    assert_eq!((kept_by_heads, log.state.lock().channels.len()), (1, 0));
}

#[tokio::test]
async fn time_is_what_the_given_clock_says() {
    let unix_ms = Arc::new(AtomicU64::new(1_790_000_000_000));
    let clock = unix_ms.clone();
    let sources = Sources {
        unix_ms: Box::new(move || clock.load(Ordering::Relaxed)),
        random: Box::new(|| 7),
    };
    let log = MemoryLog::with_sources(Retention::default(), sources);

    unix_ms.fetch_add(5, Ordering::Relaxed);
    let appended = log.append(&channel(), &[draft("1")]).await.expect("append")[0];

    assert_eq!(appended.time_ms, 1_790_000_000_005);
    assert_eq!(appended.position.epoch, Incarnation::new(1_790_000_000_000, 7).epoch(7));
}

#[tokio::test(start_paused = true)]
async fn who_read_from_a_log_goes_on_in_the_one_that_was_restored_from_it() {
    let log = MemoryLog::new(Retention::default());
    let before = append(&log, ["1", "2", "3"]).await;

    let again = restored(log.saved(), Duration::from_mins(1));
    let after = append(&again, ["3", "4"]).await;
    let behind = again.read(&channel(), Since::Position(before[0]), 10).await.expect("read");
    let in_step = again.read(&channel(), Since::Position(before[2]), 10).await.expect("read");

    assert_eq!(after[0], before[2], "an id that is known is not stored again");
    assert_eq!(after[1].offset, 4);
    assert_eq!((behind.status, in_step.status), (Status::Continues, Status::Continues));
    let positions: Vec<_> = behind.publications.iter().map(|one| one.position).collect();
    assert_eq!(positions, [before[1], before[2], after[1]]);
    assert_eq!(in_step.publications.len(), 1);
}

#[tokio::test]
async fn who_saw_what_was_not_saved_is_told_though_its_offset_is_given_again() {
    let log = MemoryLog::new(Retention::default());
    append(&log, ["1", "2"]).await;
    let saved = log.saved();
    let unsaved = append(&log, ["3", "4"]).await;

    let again = restored(saved, Duration::ZERO);
    append(&again, ["5", "6", "7"]).await;
    let read = again.read(&channel(), Since::Position(unsaved[0]), 10).await.expect("read");

    assert_eq!((read.status, read.base, read.top), (Status::Rewound, 2, 5));
}

#[tokio::test]
async fn a_log_that_is_restored_twice_from_the_same_begins_two_lives() {
    let log = MemoryLog::new(Retention::default());
    append(&log, ["1"]).await;
    let saved = log.saved();

    let first = append(&restored(saved.clone(), Duration::ZERO), ["2", "3"]).await;
    let second = restored(saved, Duration::ZERO);
    append(&second, ["4", "5"]).await;
    let read = second.read(&channel(), Since::Position(first[0]), 10).await.expect("read");

    assert_eq!(read.status, Status::Reset);
}

#[tokio::test]
async fn a_restored_log_is_a_newer_life_also_when_the_clock_was_set_back() {
    let log = MemoryLog::new(Retention::default());
    append(&log, ["1"]).await;
    let before = log.incarnation(&channel()).await.expect("it answers");
    let mut saved = log.saved();
    saved.started_ms += 86_400_000;

    let again = restored(saved.clone(), Duration::ZERO);
    let after = append(&again, ["2"]).await[0].epoch.incarnation();

    assert!(after > before && after > Incarnation::new(saved.started_ms, u32::MAX));
}

#[tokio::test(start_paused = true)]
async fn what_runs_out_while_nobody_keeps_it_is_gone() {
    let log = MemoryLog::new(Retention::default());
    let before = append(&log, ["1", "2"]).await;
    tokio::time::advance(Duration::from_mins(4)).await;
    let saved = log.saved();

    let soon = restored(saved.clone(), Duration::from_secs(59));
    let late = restored(saved, Duration::from_secs(61));
    let kept = soon.read(&channel(), Since::Position(before[0]), 10).await.expect("read");
    let gone = late.read(&channel(), Since::Position(before[0]), 10).await.expect("read");

    assert_eq!((kept.status, kept.publications.len()), (Status::Continues, 1));
    assert_eq!((gone.status, gone.base, gone.publications.len()), (Status::Trimmed, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_time_away_counts_for_ids() {
    let log = MemoryLog::new(Retention::default());
    append(&log, ["1"]).await;
    tokio::time::advance(Duration::from_mins(1)).await;
    append(&log, ["2"]).await;

    let again = restored(log.saved(), Duration::from_secs(121));
    let after = append(&again, ["2", "1"]).await;
    tokio::time::advance(Duration::from_mins(3)).await;
    let later = append(&again, ["2"]).await;

    assert_eq!((after[0].offset, after[1].offset), (2, 3));
    assert_eq!(later[0].offset, 4);
}

#[tokio::test]
async fn what_does_not_fit_is_the_oldest_of_each_channel_and_who_misses_it_is_told() {
    let log = MemoryLog::new(Retention::default());
    let other = TenantChannel::new(channel().tenant, Channel::parse("another").expect("valid"));
    let before = append(&log, ["1", "2", "3", "4", "5", "6"]).await;
    log.append(&other, &["1", "2", "3"].map(draft)).await.expect("append");
    let mut saved = log.saved();

    saved.keep_newest(6, |_| 1);
    let lengths: HashMap<_, _> =
        saved.channels.iter().map(|kept| (kept.channel.clone(), kept.publications.len())).collect();
    let again = restored(saved, Duration::ZERO);
    let behind = again.read(&channel(), Since::Position(before[0]), 10).await.expect("read");
    let in_step = again.read(&channel(), Since::Position(before[1]), 10).await.expect("read");

    assert_eq!(lengths, HashMap::from([(channel(), 4), (other, 2)]));
    assert_eq!((behind.status, behind.base, behind.top), (Status::Trimmed, 2, 6));
    assert_eq!((in_step.status, in_step.publications.len()), (Status::Continues, 4));
}

#[tokio::test]
async fn what_fits_is_kept_and_without_room_only_positions_are() {
    let log = MemoryLog::new(Retention::default());
    append(&log, ["1", "2"]).await;
    let saved = log.saved();

    let (mut whole, mut bare) = (saved.clone(), saved.clone());
    whole.keep_newest(2, |_| 1);
    bare.keep_newest(0, |_| 1);

    assert_eq!(whole, saved);
    assert_eq!((bare.channels[0].top, bare.channels[0].oldest()), (2, 3));
}

#[tokio::test]
async fn what_no_log_can_have_kept_is_refused() {
    let log = MemoryLog::new(Retention::default());
    append(&log, ["1", "2"]).await;
    let saved = log.saved();
    let broken = |break_it: fn(&mut SavedChannel)| {
        let mut saved = saved.clone();
        break_it(&mut saved.channels[0]);
        let restored = MemoryLog::restored(Retention::default(), saved, Duration::ZERO);
        matches!(restored, Err(LogError::Corrupt { .. }))
    };

    assert!(broken(|channel| channel.top = 3), "its publications end elsewhere");
    assert!(broken(|channel| channel.top = 1), "there are more than it numbered");
    assert!(broken(|channel| channel.top = u64::MAX), "it cannot go on");
    assert!(broken(|channel| channel.lineage = Lineage::default()), "it has no epoch");
    assert!(broken(|channel| channel.publications.swap(0, 1)), "its order is wrong");
    assert!(!broken(|_| ()));
}

fn restored(saved: SavedLog, away: Duration) -> MemoryLog {
    MemoryLog::restored(Retention::default(), saved, away).expect("a log has kept it")
}

async fn append<const N: usize>(log: &MemoryLog, ids: [&str; N]) -> Vec<Position> {
    let appended = log.append(&channel(), &ids.map(draft)).await.expect("append");
    appended.into_iter().map(|one| one.position).collect()
}

fn draft(id: &str) -> Draft {
    Draft {
        id: Some(PublicationId::parse(id).expect("valid")),
        publisher: None,
        payload: Payload::binary(Bytes::copy_from_slice(id.as_bytes())),
    }
}

fn channel() -> TenantChannel {
    TenantChannel::new(
        Tenant::parse("acme").expect("valid"),
        Channel::parse("room:42").expect("valid"),
    )
}
