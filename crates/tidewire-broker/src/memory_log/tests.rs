use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidewire_model::{Channel, Direction, Payload, PublicationId, Tenant};

use super::*;
use crate::Status;
use crate::conformance::log::LogFactory;

struct InMemory;

#[async_trait]
impl LogFactory for InMemory {
    type Log = MemoryLog;

    async fn open_with(&self, retention: Retention, rules: Arc<ChannelRules>) -> MemoryLog {
        MemoryLog::new(retention).with_rules(rules)
    }
}

crate::log_conformance!(InMemory);

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
async fn an_id_is_forgotten_after_two_minutes() {
    let log = MemoryLog::new(Retention::default());
    let append_again = async || log.append(&channel(), &[draft("1")]).await.expect("append")[0];
    let first = append_again().await;

    tokio::time::advance(Duration::from_secs(119)).await;
    let inside = append_again().await;
    tokio::time::advance(Duration::from_secs(2)).await;
    let outside = append_again().await;

    assert_eq!((inside.position, inside.duplicate), (first.position, true));
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
