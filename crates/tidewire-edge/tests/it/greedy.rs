//! Clients that ask for more at once than is done for them at once.

use std::thread;

use futures_util::FutureExt as _;
use tidewire_broker::Partition;
use tidewire_client::{Codec, ServerEvent};
use tidewire_model::{Command, Connect, Tenant, TenantChannel};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{unconstrained, yield_now};
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, OTHER_TENANT, TENANT, claims, settle, sign, soon, token, until};
use crate::peer::{Bystander, Peer, channel, text};

fn frame(commands: impl Iterator<Item = String>) -> String {
    format!("[{}]", commands.collect::<Vec<_>>().join(","))
}

fn publish(id: u32) -> String {
    format!(r#"{{"id":{id},"publish":{{"channel":"room/1","data":{id}}}}}"#)
}

#[tokio::test]
async fn a_few_pages_are_read_at_once_and_in_the_end_all() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.published("room/1", text("one")).await;
    fleet.log.hold(true);
    let ask = |id: u32| format!(r#"{{"id":{id},"history":{{"channel":"room/1","limit":10}}}}"#);
    peer.send_text(frame((1..=64).map(ask)));
    peer.flush().await;
    until(|| fleet.log.waiting() == 4).await;
    settle().await;
    let most_waiting = fleet.log.most_waiting();

    fleet.log.hold(false);

    assert_eq!(most_waiting, 4);
    let mut answered = Vec::new();
    while answered.len() < 64 {
        let ServerEvent::History { request, .. } = peer.next().await else {
            unreachable!("no page")
        };
        answered.push(request.0);
    }
    answered.sort_unstable();
    assert!(answered.into_iter().eq(1..=64));
    assert_eq!(fleet.log.most_waiting(), 4);
}

#[tokio::test]
async fn a_command_waits_for_its_turn_even_in_the_middle_of_a_frame() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    fleet.log.hold(true);
    peer.send_text(frame((1..=63).map(publish)));
    peer.send_text(frame([publish(64), r#"{"id":65,"ping":{}}"#.to_owned()].into_iter()));
    peer.flush().await;
    until(|| fleet.log.waiting() > 0).await;
    settle().await;

    fleet.log.hold(false);

    let mut heard = Vec::new();
    while heard.len() < 65 {
        heard.push(peer.next().await);
    }
    assert!(matches!(heard[0], ServerEvent::Published { .. }), "{:?}", heard[0]);
    let pongs = heard.iter().filter(|event| matches!(event, ServerEvent::Pong { .. }));
    assert_eq!(pongs.count(), 1);
}

#[tokio::test]
async fn a_client_that_never_pauses_keeps_nobody_else_waiting() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut talker = Peer::connect(&fleet.nodes[0], "ada").await;
    // Without an id, nobody answers it.
    let endless = frame((0..500).map(|_| r#"{"ping":{}}"#.to_owned()));

    let talk = async {
        loop {
            talker.send_text(endless.clone());
            talker.flush().await;
        }
    };
    let others = async {
        for _ in 0..20 {
            bystander.is_undisturbed().await;
        }
    };

    tokio::select! {
        () = talk => unreachable!("it never stops"),
        () = others => {}
    }
}

/// A runtime that does nothing before it is told to.
struct Stalled {
    runtime: Option<Runtime>,
    stop: CancellationToken,
}

impl Stalled {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime: Some(runtime), stop: CancellationToken::new() }
    }

    fn go_on(&mut self) {
        let runtime = self.runtime.take().expect("it is stalled");
        let stop = self.stop.clone();
        thread::spawn(move || runtime.block_on(stop.cancelled()));
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A name of which a tenant's channel is the `shard`th's, of two.
fn name_in(tenant: &str, shard: u8) -> String {
    let tenant = Tenant::parse(tenant).expect("tenant");
    let names = (0..).map(|number| format!("name-{number}"));
    let is_there = |name: &String| {
        Partition::of(&TenantChannel::new(tenant.clone(), channel(name))).index % 2 == shard
    };
    names.into_iter().find(is_there).expect("half of them are")
}

async fn connect_as(fleet: &Fleet, tenant: &str) -> Peer {
    let mut peer = Peer::dial_as(&fleet.nodes[0], Some(tenant), Codec::Json).await;
    peer.introduce(sign(tenant, &claims(tenant, "ada"))).await;
    peer
}

#[tokio::test]
async fn a_tenant_that_fills_a_shard_keeps_nobody_else_from_being_served() {
    let mut stalled = Stalled::new();
    let runtime = stalled.runtime.as_ref().expect("stalled").handle().clone();
    let fleet = Fleet::with_first_shard_on(runtime).await;
    let mut other = connect_as(&fleet, OTHER_TENANT).await;
    let free = name_in(OTHER_TENANT, 1);
    let mut greedy = connect_as(&fleet, TENANT).await;
    let full = name_in(TENANT, 0);
    let come_and_go = (0..31).flat_map(|_| {
        let subscribe = format!(r#"{{"subscribe":{{"channel":"{full}"}}}}"#);
        [subscribe, format!(r#"{{"unsubscribe":{{"channel":"{full}"}}}}"#)]
    });
    let asked = frame(come_and_go.chain([r#"{"id":7,"ping":{}}"#.to_owned()]));

    let mut pongs = 0;
    loop {
        greedy.send_text(asked.clone());
        greedy.flush().await;
        other.published(&free, text("still served")).await;
        settle().await;
        let heard = std::iter::from_fn(|| greedy.next().now_or_never());
        let answered = heard.filter(|event| matches!(event, ServerEvent::Pong { .. })).count();
        if answered == 0 {
            break;
        }
        pongs += answered;
    }

    assert!(pongs > 50, "the shard was not full after {pongs} frames");
    let mut late = connect_as(&fleet, OTHER_TENANT).await;
    for _ in 0..20 {
        other.published(&free, text("still served")).await;
        late.published(&free, text("and so are others")).await;
    }
    late.publish(&name_in(OTHER_TENANT, 0), text("waits"));
    late.flush().await;
    stalled.go_on();
    while !matches!(late.next().await, ServerEvent::Published { .. }) {}
    while !matches!(greedy.next().await, ServerEvent::Pong { .. }) {}
}

#[tokio::test]
async fn a_tenant_with_many_busy_connections_costs_the_others_a_turn_and_not_all_of_theirs() {
    const MANY: u32 = 100;
    let fleet = Fleet::one().await;
    let mut other = connect_as(&fleet, OTHER_TENANT).await;
    let mut busy = Vec::new();
    for _ in 0..MANY {
        busy.push(connect_as(&fleet, TENANT).await);
    }

    // The node has no turn before all of it is there.
    unconstrained(async {
        for (number, peer) in (0..).zip(&mut busy) {
            let publish = |id: u32| {
                format!(r#"{{"id":{id},"publish":{{"channel":"busy-{number}","data":{id}}}}}"#)
            };
            peer.send_text(frame((1..=60).map(publish)));
            peer.flush().await;
        }
        other.publish("lone", text("one"));
        other.flush().await;
    })
    .await;
    while !matches!(other.next().await, ServerEvent::Published { .. }) {}

    let appended = fleet.log.appended();
    let before = appended.iter().take_while(|(channel, _)| channel.tenant.as_str() == TENANT);
    let before: usize = before.map(|(_, drafts)| drafts).sum();
    assert!(before < 2_000, "{before} publications before that of the other tenant");
    for peer in &mut busy {
        let mut answered = 0;
        while answered < 60 {
            answered += usize::from(matches!(peer.next().await, ServerEvent::Published { .. }));
        }
    }
}

#[tokio::test]
async fn of_a_crowd_that_connects_at_once_some_are_let_in_each_turn() {
    const MANY: usize = 300;
    let fleet = Fleet::one().await;
    let mut crowd = Vec::new();
    for _ in 0..MANY {
        crowd.push(Peer::dial(&fleet.nodes[0]).await);
    }
    unconstrained(async {
        for peer in &mut crowd {
            let token = Some(token("ada").into());
            peer.send(Command::Connect(Connect { token, ..Connect::default() }));
            peer.flush().await;
        }
    })
    .await;

    let (mut before, mut most) = (0, 0);
    soon(async {
        while before < MANY {
            yield_now().await;
            let now = fleet.nodes[0].edge.connections();
            most = most.max(now - before);
            before = now;
        }
    })
    .await;

    assert!(most < 64, "{most} were let in between two turns of the test");
    for peer in &mut crowd {
        peer.connected().await;
    }
}
