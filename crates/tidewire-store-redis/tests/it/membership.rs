//! Leases, and a server whose clock is set.

use std::time::Duration;

use tidewire_model::NodeId;
use tidewire_store::{Membership, NodeLease, NodeLoad, NodeState};
use tidewire_store_redis::RedisMembership;
use tidewire_testkit::services::RedisServer;

use crate::redis::{command, connect, unix_ms};

const TTL: Duration = Duration::from_secs(2);
const HOUR_MS: u64 = 60 * 60 * 1_000;

fn lease(name: &str) -> NodeLease {
    NodeLease {
        node: NodeId::parse(name).expect("a valid name"),
        slot: None,
        state: NodeState::Ready,
        weight: 100,
        connections: 0,
        started_at_ms: 0,
        beats: true,
        load: NodeLoad::default(),
        url: None,
    }
}

/// What a server's clock leaves behind that is set back by an hour: leases that run out in an hour.
async fn set_back(server: &RedisServer, names: &[&str]) {
    let later = (unix_ms() + HOUR_MS).to_string();
    for name in names {
        command(server, &["ZADD", "tw:{nodes}:x", "XX", &later, name]).await;
    }
}

#[tokio::test]
async fn a_dead_node_runs_out_and_a_live_one_stays_though_the_clock_is_set_back() {
    let server = RedisServer::start().await;
    let [dead, live] = [(); 2].map(|()| RedisMembership::new(connect(&server)));
    dead.renew(&lease("dead"), TTL).await.expect("renew");
    live.renew(&lease("live"), TTL).await.expect("renew");
    set_back(&server, &["dead", "live"]).await;

    let at_once = live.members().await.expect("members");
    let running_out = async {
        loop {
            live.renew(&lease("live"), TTL).await.expect("renew");
            let members = live.members().await.expect("members");
            assert!(members.contains(&lease("live")), "{members:?}");
            if members.len() == 1 {
                break;
            }
            tokio::time::sleep(TTL / 100).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), running_out).await.expect("it runs out");

    assert_eq!(at_once, ["dead", "live"].map(lease), "nobody goes for the clock's sake");
}

#[tokio::test]
async fn whoever_has_given_no_lease_leaves_those_of_others_alone() {
    let server = RedisServer::start().await;
    let long = Duration::from_mins(1);
    RedisMembership::new(connect(&server)).renew(&lease("a"), long).await.expect("renew");
    let key = ["ZSCORE", "tw:{nodes}:x", "a"];
    let before: String = redis::from_redis_value(command(&server, &key).await).expect("a score");

    let members = RedisMembership::new(connect(&server)).members().await.expect("members");

    let after: String = redis::from_redis_value(command(&server, &key).await).expect("a score");
    assert_eq!((members, after), (vec![lease("a")], before));
}
