//! What a client makes of publications that come as what changed.

use serde_json::{Value, json};
use tidewire_client::{Client, Happening, Payload, Since};
use tidewire_protocol_native::fossil;

use crate::peer::{EPOCH, Peer, Served, channel, meanwhile, next};

#[tokio::test]
async fn what_changed_is_passed_on_whole() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe_by_delta(channel("room/1"), Since::Now);
    let (asked, _) = meanwhile(&mut client, confirm(&mut served, 7)).await;
    assert_eq!(asked["delta"], "fossil");

    say(&mut served, vec![in_full(8), what_changed(9)]).await;
    say(&mut served, vec![what_changed(10)]).await;
    say(&mut served, vec![in_full(11), what_changed(12)]).await;

    assert_eq!(states(&mut client, 5).await, [8, 9, 10, 11, 12].map(|of| (of, state(of))));
}

#[tokio::test]
async fn a_client_that_did_not_ask_says_nothing_of_deltas() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe(channel("room/1"), Since::Now);

    let (asked, _) = meanwhile(&mut client, served.subscribe(7)).await;

    assert_eq!(asked, json!({ "channel": "room/1" }));
}

#[tokio::test]
async fn after_a_delta_that_cannot_be_applied_nothing_is_missing() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe_by_delta(channel("room/1"), Since::Now);
    meanwhile(&mut client, confirm(&mut served, 7)).await;
    say(&mut served, vec![in_full(8), wrong(9), what_changed(10)]).await;
    // It was on its way when the client gave up the subscription.
    say(&mut served, vec![in_full(11)]).await;

    let serve = async {
        let given_up = served.command().await;
        say(&mut served, vec![in_full(12)]).await;
        let again = served.subscribe(8).await;
        (given_up["unsubscribe"].clone(), again)
    };
    let ((given_up, again), happenings) = meanwhile(&mut client, serve).await;
    assert_eq!(given_up["channel"], "room/1");
    assert_eq!(again, json!({ "channel": "room/1", "since": { "epoch": EPOCH, "offset": 8 } }));

    say(&mut served, (9..=12).map(in_full).collect()).await;
    let before = happenings.into_iter().filter_map(state_of);
    let heard = before.chain(states(&mut client, 4).await);
    assert!(heard.map(|(offset, _)| offset).eq(8..=12));
}

#[tokio::test]
async fn what_a_lost_connection_sent_is_no_base() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    client.subscribe_by_delta(channel("room/1"), Since::Now);
    meanwhile(&mut client, confirm(&mut served, 7)).await;
    say(&mut served, vec![in_full(8)]).await;
    assert_eq!(states(&mut client, 1).await, [(8, state(8))]);
    client.cut();

    let serve = async {
        let mut served = peer.accept().await;
        served.connect(true).await;
        served.say(json!({ "subscribed": confirmation(8) })).await;
        say(&mut served, vec![what_changed(9)]).await;
        served.command().await;
        served.subscribe(8).await
    };
    let (again, _) = meanwhile(&mut client, serve).await;

    assert_eq!(again["since"]["offset"], 8);
}

/// A state of more than the 256 bytes below which nothing is a delta.
fn state(offset: u64) -> Payload {
    let text = format!(r#"{{"round":{offset},"board":"{}"}}"#, "ü".repeat(150));
    Payload::json(text.into()).expect("valid")
}

fn text(payload: &[u8]) -> &str {
    std::str::from_utf8(payload).expect("JSON")
}

fn in_full(offset: u64) -> Value {
    json!({ "offset": offset, "time": 1, "text": text(state(offset).bytes()) })
}

fn what_changed(offset: u64) -> Value {
    let delta = fossil::delta(&state(offset - 1), &state(offset)).expect("worth it");
    json!({ "offset": offset, "time": 1, "delta": text(&delta) })
}

/// A delta of something that the client does not hold.
fn wrong(offset: u64) -> Value {
    let mut item = what_changed(offset + 1);
    item["offset"] = offset.into();
    item["delta"] = item["delta"].as_str().expect("text").replacen(';', "0;", 1).into();
    item
}

async fn say(served: &mut Served, items: Vec<Value>) {
    let batch = json!({ "channel": "room/1", "epoch": EPOCH, "items": items });
    served.say(json!({ "publications": batch })).await;
}

fn confirmation(offset: u64) -> Value {
    json!({ "channel": "room/1", "epoch": EPOCH, "offset": offset, "delta": "fossil" })
}

/// Takes a `subscribe`, and grants its deltas.
async fn confirm(served: &mut Served, offset: u64) -> Value {
    let command = served.command().await;
    served.say(json!({ "id": command["id"], "subscribed": confirmation(offset) })).await;
    command["subscribe"].clone()
}

fn state_of(happening: Happening) -> Option<(u64, Payload)> {
    match happening {
        Happening::Publication { publication, .. } => {
            Some((publication.position.offset, publication.payload))
        }
        _ => None,
    }
}

/// The next `count` publications.
async fn states(client: &mut Client, count: usize) -> Vec<(u64, Payload)> {
    let mut states = Vec::new();
    while states.len() < count {
        states.extend(state_of(next(client).await.expect("goes on")));
    }
    states
}
