use bytes::Bytes;
use tidewire_broker::Status;
use tidewire_model::{Channel, Payload, Tenant};

use super::*;

#[test]
fn what_is_beyond_the_fork_is_taken_out_in_the_order_of_its_offsets() {
    let mut tail = tail(&[(1, 1), (1, 2), (1, 3), (1, 4)]);
    tail.push(&room(), acknowledged(1, 3));

    let verdict = tail.judge(&room(), &read(&[(1, 1), (2, 3)], 2));

    assert_eq!(offsets(&verdict), [3, 3, 4]);
    assert_eq!((verdict.unknown, tail.confirmed(&room())), (0, Some(epoch(2))));
    assert_eq!(tail.judge(&room(), &read(&[(1, 1), (2, 3)], 2)), Verdict::default());
}

#[test]
fn what_was_written_in_a_life_that_left_no_trace_is_lost() {
    let mut tail = tail(&[(1, 1), (2, 2)]);

    let verdict = tail.judge(&room(), &read(&[(1, 1), (3, 2)], 1));

    assert_eq!(offsets(&verdict), [2]);
}

#[test]
fn what_a_full_lineage_cannot_have_forgotten_is_lost_if_it_is_not_in_it() {
    let mut tail = tail(&[(10, 10), (11, 11)]);
    let eras: Vec<_> = (4..=10).chain([12]).map(|life| (life, life.min(11))).collect();

    let verdict = tail.judge(&room(), &read(&eras, 10));

    assert_eq!((offsets(&verdict), verdict.unknown), (vec![11], 0));
}

#[test]
fn of_what_a_full_lineage_may_have_forgotten_nobody_can_tell() {
    let mut tail = tail(&[(1, 1)]);
    let eras: Vec<_> = (2..=9).map(|life| (life, 2)).collect();

    let verdict = tail.judge(&room(), &read(&eras, 1));

    assert_eq!((offsets(&verdict), verdict.unknown), (vec![], 1));
    assert_eq!((tail.bytes(), tail.confirmed(&room())), (0, None));
}

#[test]
fn after_the_log_was_flushed_everything_is_lost() {
    let mut tail = tail(&[(1, 1), (1, 2)]);

    let verdict = tail.judge(&room(), &read(&[(2, 1)], 0));

    assert_eq!(offsets(&verdict), [1, 2]);
    assert_eq!(tail.bytes(), 0);
}

#[test]
fn what_is_kept_stays_known_through_more_lives_than_a_lineage_names() {
    let mut tail = tail(&[(1, 5)]);
    let mut eras = vec![(1, 1)];
    for life in 2..=20 {
        eras.push((life, 6));
        let newest = &eras[eras.len().saturating_sub(Lineage::MAX)..];

        let verdict = tail.judge(&room(), &read(newest, 5));

        assert_eq!(verdict, Verdict::default(), "life {life}");
    }
    let verdict = tail.judge(&room(), &read(&[(20, 6), (21, 5)], 4));
    assert_eq!(verdict.lost[0].position, Position::new(epoch(1), 5));
}

#[test]
fn what_is_kept_is_known_also_to_a_primary_that_never_heard_of_the_last_life() {
    let mut tail = tail(&[(1, 1), (1, 2), (1, 3)]);
    tail.judge(&room(), &read(&[(1, 1), (2, 4)], 3));

    let verdict = tail.judge(&room(), &read(&[(1, 1), (3, 3)], 2));

    assert_eq!(offsets(&verdict), [3]);
}

#[test]
fn what_had_no_id_gets_that_of_the_position_it_was_acknowledged_at() {
    let without = acknowledged(1, 2);
    let id = Some(PublicationId::parse("mine").expect("valid"));
    let with = Acknowledged { draft: Draft { id: id.clone(), ..draft(1) }, ..acknowledged(1, 2) };

    assert_eq!(with.again().id, id);
    let again = without.again();
    let expected = without.position.to_string();
    assert_eq!(again.id.as_ref().map(PublicationId::as_str), Some(expected.as_str()));
    assert_eq!(Draft { id: None, ..again }, without.draft);
}

#[test]
fn the_longest_position_is_an_id() {
    let position = Position::new(epoch(u64::MAX), u64::MAX);

    let again = Acknowledged::new(Instant::now(), position, draft(1)).again();

    assert_eq!(again.id.map(|id| id.as_str().len()), Some(16 + 1 + 20));
}

#[tokio::test(start_paused = true)]
async fn beyond_its_bytes_the_oldest_of_any_channel_is_forgotten_first() {
    let weight = draft(100).weight();
    let mut tail = Tail::new(TailLimits { bytes: 3 * weight, ..TailLimits::default() });
    let start = Instant::now();
    for (number, name) in (0_u64..).zip(["a", "b", "a", "b"]) {
        let at = start + Duration::from_secs(number);
        tail.push(
            &channel(name),
            Acknowledged::new(at, Position::new(epoch(1), number), draft(100)),
        );
    }
    let now = start + Duration::from_secs(10);

    assert_eq!(tail.bytes(), 3 * weight);
    assert_eq!(tail.reaches_back(now), Duration::from_secs(10));
    let lost = |tail: &mut Tail, name| offsets(&tail.judge(&channel(name), &read(&[(2, 1)], 0)));
    assert_eq!((lost(&mut tail, "a"), lost(&mut tail, "b")), (vec![2], vec![1, 3]));
    tail.expire(start + Duration::from_secs(31));
    assert_eq!(tail.reaches_back(start + Duration::from_secs(31)), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn after_half_a_minute_it_is_forgotten_and_not_what_took_its_place() {
    let mut tail = tail(&[(1, 1), (1, 2)]);
    let start = Instant::now();
    let later = start + Duration::from_secs(20);
    let [lost] = tail.judge(&room(), &read(&[(1, 1), (2, 2)], 1)).lost.try_into().expect("one");
    tail.push(&room(), Acknowledged::new(later, Position::new(epoch(2), 2), lost.again()));

    tail.expire(start + Duration::from_secs(30));

    assert_eq!(tail.bytes(), draft(1).weight());
    tail.expire(later + Duration::from_secs(30));
    assert_eq!((tail.bytes(), tail.confirmed(&room())), (0, None));
    assert!(tail.parts(|_| 0).is_empty());
}

#[test]
fn a_part_is_asked_for_one_of_its_channels_and_answers_for_those_of_an_older_life() {
    let mut tail = Tail::new(TailLimits::default());
    for (name, life) in [("a", 1), ("b", 2), ("c", 1), ("d", 1)] {
        tail.push(&channel(name), acknowledged(life, 1));
    }
    let part_of = |channel: &TenantChannel| u16::from(channel.channel.as_str() == "d");

    let parts = tail.parts(part_of);
    let older = tail.older_than(epoch(2).incarnation(), |channel| part_of(channel) == 0);

    assert_eq!(parts, BTreeMap::from([(0, channel("a")), (1, channel("d"))]));
    assert_eq!(older, [channel("a"), channel("c")]);
}

fn tail(positions: &[(u64, u64)]) -> Tail {
    let mut tail = Tail::new(TailLimits::default());
    for (life, offset) in positions {
        tail.push(&room(), acknowledged(*life, *offset));
    }
    tail
}

fn acknowledged(life: u64, offset: u64) -> Acknowledged {
    Acknowledged::new(Instant::now(), Position::new(epoch(life), offset), draft(1))
}

fn draft(bytes: usize) -> Draft {
    Draft { id: None, publisher: None, payload: Payload::binary(Bytes::from(vec![0; bytes])) }
}

fn read(eras: &[(u64, u64)], top: u64) -> Read {
    let lineage = Lineage::new(eras.iter().map(|(life, first)| (epoch(*life), *first)).collect());
    let epoch = lineage.current();
    Read {
        status: Status::Fresh,
        base: top,
        publications: Vec::new(),
        epoch,
        top,
        lineage,
        incarnation: epoch.incarnation(),
    }
}

fn epoch(life: u64) -> Epoch {
    Incarnation::new(life, 0).epoch(0)
}

fn offsets(verdict: &Verdict) -> Vec<u64> {
    verdict.lost.iter().map(|one| one.position.offset).collect()
}

fn room() -> TenantChannel {
    channel("room")
}

fn channel(name: &str) -> TenantChannel {
    TenantChannel::new(
        Tenant::parse("acme").expect("tenant"),
        Channel::parse(name).expect("channel"),
    )
}
