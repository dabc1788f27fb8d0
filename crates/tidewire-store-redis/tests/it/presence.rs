//! Presence where there is more than one server, or another one than before.

use std::time::Duration;

use tidewire_model::{Channel, Generation, NodeId, SessionId, Tenant, TenantChannel, UserId};
use tidewire_store::{Age, Entry, Fate, Life, Move, Presence, Terms};
use tidewire_store_redis::RedisPresence;
use tidewire_testkit::services::RedisServer;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::lost_reply::Proxy;
use crate::redis::{command, connect, keys, unix_ms};

#[tokio::test]
async fn channels_of_all_primaries_are_entered_counted_swept_and_left() {
    let cluster = Cluster::start().await;
    let presence = RedisPresence::new(cluster.connect());
    let channels: Vec<_> = (0..60).map(channel).collect();
    for channel in &channels {
        apply(&presence, channel, &[enter(1), enter(2), away(2)], Duration::ZERO).await;
    }

    let before = presence.occupancies(&channels).await.expect("counted");
    let (mut expired, mut swept) = (0, 0);
    for part in 0..presence.parts() {
        let left = presence.expire(part, 100).await.expect("expired");
        expired += left.channels.iter().map(|departed| departed.sessions.len()).sum::<usize>();
        for channel in presence.channels_of(part, &life()).await.expect("listed") {
            assert_eq!(presence.part_of(&channel), part);
            let orphaned = presence.orphan(&channel, &life(), 0, LONG).await.expect("marked");
            swept += orphaned.marked;
        }
        assert_eq!(presence.channels_of(part, &life()).await.expect("listed"), []);
    }
    let after = presence.occupancies(&channels).await.expect("counted");

    assert!(before.iter().all(|standing| standing.occupancy.count == 2), "{before:?}");
    assert_eq!((expired, swept), (60, 60));
    assert!(after.iter().all(|standing| standing.occupancy.count == 1), "{after:?}");
    for server in &cluster.redis.servers {
        let keys: u64 = redis::from_redis_value(command(server, &["DBSIZE"]).await).expect("count");
        assert!(keys > 20, "a primary holds only {keys} keys");
    }
}

/// Were moves carried out where only some of the keys are, who enters would be forgotten by those who
/// sweep, or who is away would never leave.
#[tokio::test]
async fn while_a_slot_moves_members_wait_and_nothing_is_half_done() {
    for moved in 0..=4 {
        let cluster = Cluster::start().await;
        let presence = RedisPresence::new(cluster.connect_for(Duration::from_secs(20)));
        let room = channel(1);
        apply(&presence, &room, &[enter(1), enter(2), away(2)], LONG).await;
        let moving = cluster.begin_to_move_the_only_slot().await;
        assert_eq!(moving.keys.len(), 4, "fence, members, away and index: {:?}", moving.keys);
        moving.carry(moved).await;

        let moves = [enter(3), away(1), leave(2)];
        let life = life();
        let mut applying = Box::pin(presence.apply(&room, &life, &moves, terms(Duration::ZERO)));
        let early = timeout(Duration::from_millis(300), &mut applying).await;
        moving.finish().await;
        let applied = applying.await.expect("applied");

        assert!(early.is_err(), "with {moved} keys moved: {early:?}");
        assert_eq!(applied.fates, [Fate::Joined, Fate::Away, Fate::Left], "{moved} moved");
        let expired = presence.expire(presence.part_of(&room), 10).await.expect("expired");
        assert_eq!(expired.channels[0].sessions.len(), 1, "with {moved} keys moved");
        assert_eq!(presence.occupancies(&[room]).await.expect("counted")[0].occupancy.count, 1);
    }
}

#[tokio::test]
async fn moves_whose_reply_was_lost_are_repeated_and_count_once() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let (presence, room) = (RedisPresence::new(proxy.connect()), channel(1));
    let first = presence.apply(&room, &life(), &[enter(1)], terms(LONG)).await.expect("applied");

    proxy.lose_the_next_reply();
    let second = presence.apply(&room, &life(), &[enter(2), leave(1)], terms(LONG)).await;

    let second = second.expect("applied");
    assert_eq!(second.occupancy.count, 1);
    assert_eq!(second.occupancy.position.offset, first.occupancy.position.offset + 2);
}

#[tokio::test]
async fn another_life_of_the_server_shows_in_the_position_and_ends_the_pages() {
    let mut server = RedisServer::start().await;
    let (presence, room) = (RedisPresence::new(connect(&server)), channel(1));
    let moves: Vec<_> = (0..100).map(enter).collect();
    for round in 0..8_u8 {
        let moves = moves.iter().map(|one| renamed(one, round)).collect::<Vec<_>>();
        apply(&presence, &room, &moves, LONG).await;
    }
    let first = presence.page(&room, None, 10).await.expect("a page");

    server.restart().await;
    apply(&presence, &room, &[enter(1)], LONG).await;
    let second = presence.page(&room, first.next, 10).await.expect("a page");

    assert!(first.next.is_some());
    let [before, after] = [first, second.clone()].map(|page| page.occupancy.position.epoch);
    assert!(after.incarnation() > before.incarnation());
    assert!(second.is_anew);
}

#[tokio::test]
async fn what_nobody_is_in_any_more_is_forgotten_after_a_day() {
    let server = RedisServer::start().await;
    let (presence, room) = (RedisPresence::new(connect(&server)), channel(1));
    apply(&presence, &room, &[enter(1), leave(1)], LONG).await;

    let kept = keys(&server, "tw:*:p:acme:room:1").await;
    let [kept] = &kept[..] else { panic!("one key: {kept:?}") };
    let left: u64 =
        redis::from_redis_value(command(&server, &["TTL", kept]).await).expect("a time");

    assert!((86_300..=86_400).contains(&left), "{left}");
}

/// What a server's clock leaves behind that is set back by an hour: members that leave in an hour.
#[tokio::test]
async fn who_is_away_leaves_in_time_though_the_clock_is_set_back() {
    let server = RedisServer::start().await;
    let (presence, room) = (RedisPresence::new(connect(&server)), channel(1));
    apply(&presence, &room, &[enter(1), enter(2), away(1), away(2)], LONG).await;
    let names = command(&server, &["ZRANGE", "tw:a", "0", "-1"]).await;
    let names: Vec<String> = redis::from_redis_value(names).expect("names");
    let now = unix_ms();
    let later = (now + 60 * 60_000).to_string();
    command(&server, &["ZADD", "tw:a", "XX", &later, &names[0]]).await;

    let early = presence.expire(presence.part_of(&room), 10).await.expect("expired");

    let leaves = command(&server, &["ZSCORE", "tw:a", &names[0]]).await;
    let leaves: u64 = redis::from_redis_value(leaves).expect("a time");
    assert_eq!(early.channels, [], "nobody leaves for the clock's sake");
    assert!((now..=unix_ms() + 60_000).contains(&leaves), "{leaves} at {now}");
}

#[tokio::test]
async fn a_channel_that_was_lost_from_those_of_a_life_is_back_with_whoever_is_there_still() {
    let server = RedisServer::start().await;
    let (presence, room) = (RedisPresence::new(connect(&server)), channel(1));
    apply(&presence, &room, &[enter(1), enter(2)], LONG).await;
    let [index] = &keys(&server, "tw:h:*").await[..] else { panic!("one index") };
    command(&server, &["DEL", index]).await;

    apply(&presence, &room, &[enter(1)], LONG).await;

    let part = presence.part_of(&room);
    assert_eq!(presence.channels_of(part, &life()).await.expect("listed"), [room]);
}

#[tokio::test]
async fn a_channel_that_was_lost_and_is_back_stays_until_all_are_marked() {
    let server = RedisServer::start().await;
    let (presence, room) = (RedisPresence::new(connect(&server)), channel(1));
    apply(&presence, &room, &[enter(1), enter(2), enter(3)], LONG).await;
    let [index] = &keys(&server, "tw:h:*").await[..] else { panic!("one index") };
    command(&server, &["DEL", index]).await;

    apply(&presence, &room, &[enter(1), enter(4)], LONG).await;
    apply(&presence, &room, &[leave(1), leave(4)], LONG).await;

    let (part, life) = (presence.part_of(&room), life());
    let listed = presence.channels_of(part, &life).await.expect("listed");
    assert_eq!(listed, std::slice::from_ref(&room));
    let orphaned = presence.orphan(&room, &life, 0, LONG).await.expect("marked");
    assert_eq!((orphaned.marked, orphaned.next), (2, None));
    assert_eq!(presence.channels_of(part, &life).await.expect("listed"), []);
}

const LONG: Duration = Duration::from_mins(1);

fn terms(debounce: Duration) -> Terms {
    Terms { debounce, listed: 1_000 }
}

async fn apply(
    presence: &RedisPresence,
    channel: &TenantChannel,
    moves: &[Move],
    debounce: Duration,
) {
    presence.apply(channel, &life(), moves, terms(debounce)).await.expect("applied");
}

fn renamed(one: &Move, round: u8) -> Move {
    let Move::Enter { entry, age } = one else { unreachable!("all enter") };
    let mut bytes = *entry.session.as_bytes();
    bytes[0] = round;
    Move::Enter {
        entry: Entry { session: SessionId::from_bytes(bytes), ..entry.clone() },
        age: *age,
    }
}

fn enter(of: u8) -> Move {
    let user = UserId::parse("ann").expect("valid");
    Move::Enter { entry: Entry { session: session(of), user, word: None }, age: age() }
}

fn away(of: u8) -> Move {
    Move::Away { session: session(of), age: age() }
}

fn leave(of: u8) -> Move {
    Move::Leave { session: session(of), age: age() }
}

fn session(of: u8) -> SessionId {
    SessionId::from_bytes([of; 16])
}

fn age() -> Age {
    Age { generation: Generation(1), version: 1 }
}

fn life() -> Life {
    Life { node: NodeId::parse("n").expect("valid"), started_at_ms: 7 }
}

fn channel(number: u32) -> TenantChannel {
    TenantChannel::new(
        Tenant::parse("acme").expect("valid"),
        Channel::parse(&format!("room:{number}")).expect("valid"),
    )
}
