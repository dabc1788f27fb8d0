use serde_json::Value;
use tidewire_client::{Full, Happening, Payload};

use crate::peer::{Peer, await_happening, channel, meanwhile};

#[tokio::test]
async fn a_publication_that_is_refused_for_now_keeps_its_place() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    let ids: Vec<_> = ["first", "second"].map(|_| publish(&mut client)).into();

    let serve = async {
        let (first, second) = (served.command().await, served.command().await);
        served.refuse_for_now(&first).await;
        served.refuse_for_now(&second).await;
        let alone = served.command().await;
        served.store(&alone, 1).await;
        let behind = served.command().await;
        served.store(&behind, 2).await;
        [first, second, alone, behind].map(|command| id(&command))
    };
    let (sent, _) = meanwhile(&mut client, serve).await;

    let (first, second) = (ids[0].as_str(), ids[1].as_str());
    assert_eq!(sent, [first, second, first, second]);
}

#[tokio::test]
async fn what_is_not_acknowledged_is_published_again_before_anything_new() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    let old = publish(&mut client);
    meanwhile(&mut client, served.command()).await;
    client.cut();
    let new = publish(&mut client);

    let serve = async {
        let mut served = peer.accept().await;
        served.connect(true).await;
        [served.command().await, served.command().await].map(|command| id(&command))
    };
    let (sent, _) = meanwhile(&mut client, serve).await;

    assert_eq!(sent, [old.as_str(), new.as_str()]);
}

#[tokio::test]
async fn a_client_takes_4096_publications_without_an_acknowledgement() {
    let peer = Peer::listen().await;
    let (mut client, mut served) = peer.welcome().await;
    for _ in 0..4_096 {
        publish(&mut client);
    }
    assert_eq!(client.publish(channel("room/1"), payload()), Err(Full));

    let serve = async {
        let command = served.command().await;
        served.store(&command, 1).await;
    };
    let ((), happenings) = meanwhile(&mut client, serve).await;
    let is_published = |happening: &Happening| matches!(happening, Happening::Published { .. });
    await_happening(&mut client, happenings, is_published).await;

    assert_eq!(client.unacknowledged(), 4_095);
    publish(&mut client);
}

fn publish(client: &mut tidewire_client::Client) -> String {
    let id = client.publish(channel("room/1"), payload()).expect("there is room");
    id.as_str().to_owned()
}

fn payload() -> Payload {
    Payload::json("1".into()).expect("valid")
}

fn id(command: &Value) -> String {
    command["publish"]["id"].as_str().expect("each has one").to_owned()
}
