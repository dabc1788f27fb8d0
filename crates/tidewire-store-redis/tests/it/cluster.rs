//! A cluster of three primaries.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidewire_broker::{Log, LogError, Outcome, Read, Retention, Secured, Status};
use tidewire_model::{
    Channel, ChannelLimits, ChannelRules, Incarnation, Since, Tenant, TenantChannel,
};
use tidewire_store_redis::{Deployment, Finding, RedisConfig, RedisConnection, RedisLog, Severity};
use tidewire_testkit::services::{MovingSlot, RedisCluster, RedisServer, free_port};
use tokio::time::{sleep, timeout};

use crate::redis::{command, draft, keys, text, without_id};

#[tokio::test]
async fn channels_of_all_primaries_are_appended_to_and_read_and_survive_flushed_functions() {
    let cluster = Cluster::start().await;
    let log = cluster.log();
    let channels: Vec<_> = (0..60).map(channel).collect();

    let mut appended = Vec::new();
    for channel in &channels {
        appended.push(log.append(channel, &[draft("1"), draft("2")]).await.expect("append"));
    }
    let heads = log.heads(&channels).await.expect("heads");
    for server in &cluster.redis.servers {
        command(server, &["FUNCTION", "FLUSH"]).await;
    }

    for ((channel, appended), head) in channels.iter().zip(appended).zip(heads) {
        let since = Since::Position(appended[0].position);
        let read = log.read(channel, since, 10).await.expect("read");
        assert_eq!((read.status, read.base, read.top), (Status::Continues, 1, 2), "{channel}");
        assert_eq!(head.position, appended[1].position);
        assert!(log.append(channel, &[draft("2")]).await.expect("append")[0].duplicate);
    }
    assert_eq!(log.secure(Duration::from_secs(20)).await.expect("an answer"), Secured::Alone);
    for server in &cluster.redis.servers {
        let keys: u64 = redis::from_redis_value(command(server, &["DBSIZE"]).await).expect("count");
        assert!(keys > 20, "a primary holds only {keys} keys");
    }
}

#[tokio::test]
async fn a_channel_whose_slot_moves_goes_on_at_its_new_primary() {
    let cluster = Cluster::start().await;
    let (log, room) = (cluster.log(), channel(1));
    let before = log.append(&room, &[draft("1")]).await.expect("append")[0].position;

    cluster.move_the_only_slot().await;
    let after = log.append(&room, &[draft("2")]).await.expect("append")[0].position;
    let read = log.read(&room, Since::Position(before), 10).await.expect("read");

    assert_eq!((after.offset, read.status), (2, Status::Continues));
    assert!(after.epoch.incarnation() > before.epoch.incarnation());
}

#[tokio::test]
async fn word_of_another_life_leaves_the_connections_to_all_primaries_alone() {
    let cluster = Cluster::start().await;
    let (log, room) = (cluster.log(), channel(1));
    let first = log.append(&room, &[draft("1")]).await.expect("append")[0].position;
    let before = cluster.clients().await;

    let ms = first.epoch.incarnation().as_str()[..8].to_owned();
    let next = Incarnation::new(u64::from_str_radix(&ms, 36).expect("digits") + 1, 0);
    log.hear_of(&room, next);
    log.append(&room, &[draft("2")]).await.expect("append");

    assert_eq!(cluster.clients().await, before);
}

#[tokio::test]
async fn the_settings_of_every_primary_are_looked_at() {
    let cluster = Cluster::start().await;
    let bad = &cluster.redis.servers[2];
    command(bad, &["CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru"]).await;

    let findings = cluster.connect().check_settings().await.expect("the cluster is there");

    let refused = |finding: &&Finding| finding.severity == Severity::Refuse;
    let [refused] = findings.iter().filter(refused).collect::<Vec<_>>()[..] else {
        panic!("one: {findings:?}")
    };
    assert!(refused.text.contains(&bad.address().to_string()), "{refused:?}");
    for server in &cluster.redis.servers {
        let is_named = |finding: &Finding| finding.text.contains(&server.address().to_string());
        assert!(findings.iter().any(is_named), "no finding about {}", server.address());
    }
}

#[tokio::test]
async fn each_primarys_own_replica_is_asked_for_copies() {
    let cluster = Cluster::start().await;
    let replica = cluster.add_replica().await;
    let config = RedisConfig { durable_copies: 1, ..cluster.config() };
    let connection = RedisConnection::new(config).expect("a valid configuration");
    let log = RedisLog::new(connection, Retention::default());
    let [copied, alone] = [0, 1].map(|index| &cluster.redis.servers[index]);
    let (copied, alone) =
        (channel_at(&log, copied, 0..30).await, channel_at(&log, alone, 30..60).await);

    let asking = async { while confirm(&log, &copied).await != COPIED {} };
    timeout(Duration::from_secs(20), asking).await.expect("it is copied");
    let without = confirm(&log, &alone).await;
    replica.pause();
    let behind = confirm(&log, &copied).await;

    assert_eq!([without, behind], [BEHIND; 2]);
}

const COPIED: Secured = Secured::Copied { replicas: 1 };
const BEHIND: Secured = Secured::Behind { wanted: 1, reached: 0 };

/// Appends something, and asks whether it is copied.
async fn confirm(log: &RedisLog, channel: &TenantChannel) -> Secured {
    let outcome = log.append_in(channel, None, &[without_id("1")]).await.expect("append");
    let Outcome::Kept { by, .. } = outcome else { unreachable!("no epoch was named") };
    log.confirm(channel, by).await.expect("an answer")
}

/// The first of some channels that `server` has.
async fn channel_at(log: &RedisLog, server: &RedisServer, numbers: Range<u32>) -> TenantChannel {
    for channel in numbers.map(channel) {
        log.append(&channel, &[draft("1")]).await.expect("append");
        if command(server, &["DBSIZE"]).await != redis::Value::Int(0) {
            return channel;
        }
    }
    unreachable!("the server has none of them")
}

/// Were an append carried out where only some of its keys are, it would be half done: what is stored
/// would not be counted, and the channel could never be written to again.
#[tokio::test]
async fn while_a_slot_moves_an_append_waits_and_nothing_is_half_done() {
    for moved in 0..=4 {
        let cluster = Cluster::start().await;
        let (log, room) = (cluster.log(), channel(1));
        let before = log.append(&room, &[draft("1")]).await.expect("append")[0].position;
        let moving = cluster.begin_to_move_the_only_slot().await;
        assert_eq!(moving.keys.len(), 4, "fence, numbering, log and a bucket: {:?}", moving.keys);
        moving.carry(moved).await;

        // Before the batch, which is given up 5 s after it came: refusing a read takes two of them.
        let read = log.read(&room, Since::Position(before), 10).await;
        let batch = [draft("2"), draft("1"), without_id("3")];
        let mut appending = Box::pin(log.append(&room, &batch));
        let early = timeout(Duration::from_millis(300), &mut appending).await;
        moving.finish().await;
        let appended = appending.await;

        assert!(early.is_err(), "with {moved} keys moved: {early:?}");
        assert!(is_right(&read), "with {moved} keys moved: {read:?}");
        let appended = appended.unwrap_or_else(|error| unreachable!("{moved} moved: {error}"));
        let offsets: Vec<_> = appended.iter().map(|one| one.position.offset).collect();
        assert_eq!(offsets, [2, 1, 3], "with {moved} keys moved");
        let after = log.read(&room, Since::Position(before), 10).await.expect("read");
        assert_eq!((after.status, after.top), (Status::Continues, 3), "with {moved} keys moved");
    }
}

#[tokio::test]
async fn a_primary_that_does_not_answer_holds_up_no_bounded_tenant_elsewhere() {
    let cluster = Cluster::start().await;
    let (connection, room) = (cluster.connect(), channel(1));
    let open = || {
        let limits = ChannelLimits { kept_bytes: Some(1_000_000), ..ChannelLimits::default() };
        let rules = ChannelRules::default().with_limits(limits);
        RedisLog::new(connection.clone(), Retention::default()).with_rules(Arc::new(rules))
    };
    open().append(&room, &[draft("1")]).await.expect("append");
    let mut silent = None;
    for server in &cluster.redis.servers {
        if keys(server, "*").await.is_empty() {
            silent = Some(server);
        }
    }

    silent.expect("one that has nothing").pause();
    let appended = timeout(Duration::from_secs(5), open().append(&room, &[draft("2")])).await;

    let appended = appended.expect("each of its partitions would be waited for 2 s");
    assert_eq!(appended.expect("append")[0].position.offset, 2);
}

/// It may be refused while the slot moves, but not answered wrongly.
fn is_right(read: &Result<Read, LogError>) -> bool {
    match read {
        Ok(read) => (read.status, read.top) == (Status::Continues, 1),
        Err(error) => !matches!(error, LogError::Corrupt { .. }),
    }
}

pub(crate) struct Cluster {
    pub(crate) redis: RedisCluster,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self { redis: RedisCluster::start().await }
    }

    /// The ids of the connections of whoever uses the functions, by server.
    async fn clients(&self) -> Vec<BTreeSet<String>> {
        let mut clients = Vec::new();
        for server in &self.redis.servers {
            let list = text(command(server, &["CLIENT", "LIST"]).await);
            let of_log = list.lines().filter(|line| !line.contains("cmd=client|list"));
            let id = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
            clients.push(of_log.map(id).collect());
        }
        clients
    }

    fn config(&self) -> RedisConfig {
        RedisConfig::new(Deployment::Cluster { urls: vec![self.redis.url()] })
    }

    pub(crate) fn connect(&self) -> RedisConnection {
        RedisConnection::new(self.config()).expect("a valid configuration")
    }

    /// A connection whose calls are repeated for so long.
    pub(crate) fn connect_for(&self, deadline: Duration) -> RedisConnection {
        let config = RedisConfig { deadline, ..self.config() };
        RedisConnection::new(config).expect("a valid configuration")
    }

    /// A replica of the first primary.
    async fn add_replica(&self) -> RedisServer {
        let primary = &self.redis.servers[0];
        let bus = free_port().to_string();
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        let replica = RedisServer::with_arguments(&arguments).await;
        let port = replica.address().port().to_string();
        command(primary, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        let id = text(command(primary, &["CLUSTER", "MYID"]).await);
        let following = async {
            while !text(command(&replica, &["CLUSTER", "NODES"]).await).contains(&id) {
                sleep(Duration::from_millis(20)).await;
            }
            command(&replica, &["CLUSTER", "REPLICATE", &id]).await;
            while !text(command(primary, &["INFO", "replication"]).await).contains("state=online") {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), following).await.expect("it follows in 30 s");
        replica
    }

    fn log(&self) -> RedisLog {
        RedisLog::new(self.connect(), Retention::default())
    }

    /// Moves everything there is, which is in one slot, to another primary.
    async fn move_the_only_slot(&self) {
        let moving = self.begin_to_move_the_only_slot().await;
        moving.finish().await;
    }

    /// Has the primary of everything there is, which is in one slot, hand it to one that has nothing.
    pub(crate) async fn begin_to_move_the_only_slot(&self) -> Moving<'_> {
        let mut held = Vec::new();
        for server in &self.redis.servers {
            held.push(keys(server, "*").await);
        }
        let from = held.iter().position(|keys| !keys.is_empty()).expect("a holder");
        let to = held.iter().position(Vec::is_empty).expect("one that has nothing");
        let slot = self.redis.slot_of(&held[from][0]).await;
        let slot = self.redis.begin_to_move(slot, from, to).await;
        Moving { keys: slot.keys().await, slot }
    }
}

/// A slot on its way.
pub(crate) struct Moving<'a> {
    slot: MovingSlot<'a>,
    /// Those it had when it set out.
    pub(crate) keys: Vec<String>,
}

impl Moving<'_> {
    /// Moves the first `count` keys.
    pub(crate) async fn carry(&self, count: usize) {
        self.slot.carry(&self.keys[..count]).await;
    }

    pub(crate) async fn finish(self) {
        self.slot.finish().await;
    }
}

fn channel(number: u32) -> TenantChannel {
    TenantChannel::new(
        Tenant::parse("acme").expect("a valid tenant"),
        Channel::parse(&format!("room:{number}")).expect("a valid channel"),
    )
}
