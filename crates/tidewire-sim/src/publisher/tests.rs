//! What a publisher has to expect of a call that its node does not live to see answered: seeds 8390
//! and 11069, whose publisher went on as if there were no such call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewire_broker::{Draft, MemoryNetwork};
use tidewire_model::{Channel, Payload, PublicationId, Tenant, TenantChannel, UserId};
use tidewire_node::Node;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::plan::{Knobs, Plan};
use crate::redis::{Deployment, Pause};
use crate::truth::Truth;

#[tokio::test(start_paused = true)]
async fn a_call_that_redis_holds_is_stored_after_its_node_was_killed_and_after_what_came_later() {
    let fleet = fleet();

    hold_and_kill(&fleet, draft("first", false)).await;
    publish(&survivor(&fleet), draft("second", false)).await;
    tokio::time::sleep(2 * HELD).await;

    assert_eq!(stored(&fleet), ["second", "first"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_published_again_under_its_id_before_anything_new_keeps_its_place() {
    let fleet = fleet();

    hold_and_kill(&fleet, draft("first", true)).await;
    let survivor = survivor(&fleet);
    publish(&survivor, draft("first", true)).await;
    publish(&survivor, draft("second", true)).await;
    tokio::time::sleep(2 * HELD).await;

    assert_eq!(stored(&fleet), ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_what_is_refused_is_refused_with_it() {
    let fleet = fleet();
    let node = survivor(&fleet);
    publish(&node, draft("before", false)).await;
    let moment = Duration::from_millis(100);
    let now = Instant::now();
    fleet.deployment.fill(true);
    fleet.deployment.pause(Pause { until: now + moment, acts_first: false });
    let first = node.publish(channel(), draft("first", true)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    // What would follow at once would find room.
    fleet.deployment.pause(Pause { until: now + 3 * moment, acts_first: false });
    let second = node.publish(channel(), draft("second", true)).await;
    tokio::time::sleep(2 * moment).await;
    fleet.deployment.fill(false);

    assert!(first.finish().await.is_err());
    assert!(second.finish().await.is_err());

    tokio::time::sleep(2 * moment).await;
    assert_eq!(stored(&fleet), Vec::<String>::new());
}

/// Less than a call may take.
const HELD: Duration = Duration::from_millis(800);

fn fleet() -> Fleet {
    let knobs = Knobs { nodes: 2, log_distance: 0, ..Plan::draw(1).knobs };
    let truth = Arc::<Mutex<Truth>>::default();
    let fleet = Fleet {
        knobs,
        seed: 1,
        network: MemoryNetwork::default(),
        deployment: Arc::new(Deployment::new(Arc::clone(&truth))),
        truth,
        weather: Arc::default(),
        tracker: TaskTracker::new(),
        stop: CancellationToken::new(),
        living: Mutex::default(),
    };
    fleet.start_all();
    fleet
}

/// Redis holds the call of a node that is killed meanwhile, and nobody else's.
async fn hold_and_kill(fleet: &Fleet, draft: Draft) {
    let mut dice = Dice::new(1);
    let (index, node) = fleet.node(&mut dice);
    // A connection takes longer than the call that is to be held.
    publish(&node, self::draft("before", false)).await;
    fleet.deployment.pause(Pause { until: Instant::now() + HELD, acts_first: false });
    let publishing = node.publish(channel(), draft).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    fleet.deployment.pause(Pause { until: Instant::now(), acts_first: false });
    fleet.kill(index).await;
    drop(publishing);
}

fn survivor(fleet: &Fleet) -> Node {
    fleet.node(&mut Dice::new(1)).1
}

async fn publish(node: &Node, draft: Draft) {
    node.publish(channel(), draft).await.finish().await.expect("redis is there");
}

/// What the log has after the first.
fn stored(fleet: &Fleet) -> Vec<String> {
    let kept = fleet.deployment.kept(&channel());
    let names = kept.into_iter().map(|(_, name)| String::from_utf8(name.to_vec()).expect("text"));
    names.skip(1).collect()
}

fn channel() -> TenantChannel {
    TenantChannel::new(Tenant::parse("acme").expect("valid"), Channel::parse("c").expect("valid"))
}

fn draft(name: &str, has_id: bool) -> Draft {
    let id = has_id.then(|| PublicationId::parse(name).expect("valid"));
    let publisher = Some(UserId::parse("p1").expect("valid"));
    Draft { id, publisher, payload: Payload::binary(Bytes::from(name.to_owned())) }
}
