use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewire_broker::{Appended, Draft, Log as _, Retention};
use tidewire_model::{
    Channel, ChannelRule, ChannelRules, DeliveryClass, Filter, NodeId, Payload, PublicationId,
    Quotas, Random, Rates, Since, Tenant, TenantChannel, UserId,
};
use tidewire_store::{QuotaClaim, QuotaStore as _};
use tidewire_store_redis::{RedisConnection, RedisLog, RedisQuotaStore, simulated};
use tokio::time::advance;

use super::{Deployment, Way};
use crate::dice::Dice;
use crate::gate::Gate;

/// A log without distance to its Redis.
fn log(deployment: &Arc<Deployment>) -> RedisLog {
    log_of(deployment, 0)
}

fn log_of(deployment: &Arc<Deployment>, node: usize) -> RedisLog {
    RedisLog::new(connection_of(deployment, node), Retention::default())
}

fn connection_of(deployment: &Arc<Deployment>, node: usize) -> RedisConnection {
    let way = Way::new(Arc::clone(deployment), node, Gate::default(), Dice::new(1), 0);
    let dice = Mutex::new(Dice::new(2 + node as u64));
    let random = Random::new(move || dice.lock().draw());
    simulated::connection(Arc::new(way), random)
}

fn channel() -> TenantChannel {
    TenantChannel::new(Tenant::parse("acme").expect("valid"), Channel::parse("c").expect("valid"))
}

async fn append(log: &RedisLog, id: &str) -> Appended {
    let draft = Draft {
        id: Some(PublicationId::parse(id).expect("valid")),
        publisher: Some(UserId::parse("ann").expect("valid")),
        payload: Payload::binary(Bytes::from(id.to_owned())),
    };
    log.append(&channel(), &[draft]).await.expect("it is there")[0]
}

#[tokio::test(start_paused = true)]
async fn the_functions_that_ship_number_store_and_know_an_id_again() {
    let log = log(&Arc::new(Deployment::new(Arc::default())));

    let (one, two, again) =
        (append(&log, "a").await, append(&log, "b").await, append(&log, "a").await);
    let read = log.read(&channel(), Since::Last(9), 10).await.expect("it is there");

    assert_eq!([one.position.offset, two.position.offset], [1, 2]);
    assert!(again.duplicate && again.position == one.position);
    assert_eq!(read.publications.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_id_is_known_again_when_the_clock_was_set_back_meanwhile() {
    let deployment = Arc::new(Deployment::new(Arc::default()));
    let log = log(&deployment);

    // Into the next bucket of ids, and back again.
    advance(Duration::from_secs(10)).await;
    let one = append(&log, "a").await;
    deployment.skew(-20_000);
    let again = append(&log, "a").await;

    assert!(again.duplicate, "{one:?}, then {again:?}");
}

#[tokio::test(start_paused = true)]
async fn an_id_in_a_durable_channel_is_known_for_an_hour_though_only_one_before_it_is_repeated() {
    let everything = Filter::parse("**").expect("valid");
    let rule = ChannelRule { class: DeliveryClass::Durable, ..ChannelRule::new(everything) };
    let rules = ChannelRules::new([(channel().tenant, vec![rule])].into());
    let log = log(&Arc::new(Deployment::new(Arc::default()))).with_rules(rules);
    append(&log, "a").await;
    let behind = append(&log, "b").await;

    for _ in 0..59 {
        advance(Duration::from_mins(1)).await;
        append(&log, "a").await;
    }
    let again = append(&log, "b").await;

    assert!(again.duplicate && again.position == behind.position, "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_promoted_replica_begins_an_epoch_and_lacks_what_it_had_not_heard_of() {
    let deployment = Arc::new(Deployment::new(Arc::default()));
    let log = log(&deployment);

    let kept = append(&log, "a").await;
    advance(Duration::from_millis(500)).await;
    let lost = append(&log, "b").await;
    deployment.replace(Duration::from_millis(300), Duration::ZERO, false);
    let next = append(&log, "c").await;

    assert!(next.position.epoch.incarnation() > kept.position.epoch.incarnation());
    assert_eq!(next.position.offset, lost.position.offset);
}

#[tokio::test(start_paused = true)]
async fn two_primaries_that_begin_in_the_same_millisecond_share_no_epoch() {
    let deployment = Arc::new(Deployment::new(Arc::default()));
    deployment.split(Duration::ZERO, &[0].into());

    let [deposed, current] = [0, 1].map(|node| log_of(&deployment, node));
    let (one, other) = (append(&deposed, "one").await, append(&current, "other").await);

    assert_eq!((one.position.offset, one.time_ms), (other.position.offset, other.time_ms));
    assert_ne!(one.position.epoch.incarnation(), other.position.epoch.incarnation());
}

#[tokio::test(start_paused = true)]
async fn what_is_leased_is_leased_again_when_the_clock_of_redis_jumps() {
    const TTL: Duration = Duration::from_secs(15);
    let deployment = Arc::new(Deployment::new(Arc::default()));
    let store = RedisQuotaStore::new(connection_of(&deployment, 0));
    let settle = async |node: &str, held| {
        let claim = QuotaClaim {
            tenant: channel().tenant,
            quotas: Quotas { connections: Some(100), ..Quotas::default() },
            held,
            wanted: held + 50,
            demand: Rates::default(),
        };
        let node = NodeId::parse(node).expect("valid");
        let grant = store.settle(&node, &claim, TTL).await.expect("it is there");
        grant.connections.expect("there is a quota")
    };
    assert_eq!([settle("a", 40).await, settle("b", 0).await], [90, 10]);

    for jump in [3_600_000, 0, -3_600_000] {
        deployment.skew(jump);
        // The first to ask may get what another holds; when that has asked too, all is as it was.
        let first = settle("b", 10).await;
        assert!((10..=60).contains(&first), "{first}");
        assert!(settle("a", 40).await >= 40);
        assert_eq!(settle("b", 10).await + settle("a", 40).await, 100, "after {jump}");
    }

    // A node that died before the clock was set back is not waited for until the clock is there again.
    deployment.skew(0);
    settle("dead", 0).await;
    deployment.skew(-3_600_000);
    assert_eq!(settle("a", 40).await, 90);
}
