//! What clients should not send. It never concerns anybody else.

use bytes::Bytes;
use tidewire_client::{Codec, ServerEvent};
use tidewire_edge::EdgeConfig;
use tidewire_model::{Command, Payload, RequestId};
use tidewire_protocol::Frame;
use tokio::time::Duration;

use crate::fleet::{Fleet, TENANT, token};
use crate::peer::{Bystander, Peer, text};

/// `frame` ends the connection of a client that is connected and of one that is not.
async fn assert_ends_connection(frame: &Frame, code: u16) {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;

    let mut stranger = Peer::dial(&fleet.nodes[0]).await;
    stranger.0.send_raw(frame.clone()).expect("connected");
    stranger.closes_with(code).await;

    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    peer.0.send_raw(frame.clone()).expect("connected");
    peer.closes_with(code).await;

    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_frame_that_is_no_json_ends_its_connection() {
    assert_ends_connection(&Frame::Text(r#"{"id":1,"#.into()), 4400).await;
}

#[tokio::test]
async fn a_frame_of_the_wrong_kind_ends_its_connection() {
    assert_ends_connection(&Frame::Binary(r#"{"ping":{}}"#.into()), 4400).await;
}

#[tokio::test]
async fn a_text_frame_that_is_not_utf_8_ends_its_connection() {
    assert_ends_connection(&Frame::Text(Bytes::from_static(b"{\"ping\":{\"\xff\":1}}")), 1007)
        .await;
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_its_connection() {
    let most = EdgeConfig::default().max_message_bytes;
    assert_ends_connection(&Frame::Text(" ".repeat(most + 1).into()), 1009).await;
}

#[tokio::test]
async fn a_payload_that_is_too_large_is_refused_and_one_that_just_fits_is_not() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let most = EdgeConfig::default().max_message_bytes / 2;
    for codec in [Codec::Json, Codec::Protobuf] {
        let mut peer = Peer::dial_as(&fleet.nodes[0], Some(TENANT), codec).await;
        peer.introduce(token("ada")).await;
        for payload in [Payload::binary(vec![7; most].into()), text(&"x".repeat(most - 2))] {
            peer.published("room/1", payload).await;
        }
        for payload in [Payload::binary(vec![7; most + 1].into()), text(&"x".repeat(most - 1))] {
            let request = peer.publish("room/1", payload);
            let (refused, refusal) = peer.refused().await;
            assert_eq!((refused, refusal.code), (Some(request), 1006));
        }
        peer.published("room/1", text("fine")).await;
    }

    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_command_that_makes_no_sense_is_refused_and_the_connection_goes_on() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ada").await;
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    let cases = [
        (r#"{"id":7,"shout":{}}"#.to_owned(), 1001),
        (r#"{"id":7,"subscribe":{"channel":"$sys"}}"#.to_owned(), 1002),
        (r#"{"id":7,"subscribe":{"channel":"a//b"}}"#.to_owned(), 1002),
        (r#"{"id":7,"subscribe":{"channel":5}}"#.to_owned(), 1000),
        (r#"{"id":7,"publish":{"channel":"a","binary":"?"}}"#.to_owned(), 1005),
        (format!(r#"{{"id":7,"publish":{{"channel":"a","data":{deep}}}}}"#), 1005),
        (format!(r#"{{"id":7,"connect":{{"token":"{}"}}}}"#, token("ada")), 1202),
    ];
    for (frame, code) in cases {
        peer.send_text(frame.clone());

        let (request, refusal) = peer.refused().await;

        assert_eq!((request, refusal.code), (Some(RequestId(7)), code), "{frame}");
        assert!(!refusal.retryable && !refusal.message.is_empty(), "{refusal}");
    }

    let ping = peer.send(Command::Ping);
    assert_eq!(peer.next().await, ServerEvent::Pong { request: ping });
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_command_before_connect_ends_the_connection() {
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut peer = Peer::dial(&fleet.nodes[0]).await;

    peer.send(Command::Ping);

    let heard = peer.closes_with(4404).await;
    assert!(matches!(&heard[0], ServerEvent::Failed { refusal, .. } if refusal.code == 1000));
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_client_that_does_not_connect_in_time_is_disconnected() {
    let connect_timeout = Duration::from_secs(1);
    let fleet = Fleet::start(1, EdgeConfig { connect_timeout, ..EdgeConfig::default() }).await;
    let mut bystander = Bystander::watch(&fleet).await;

    let peer = Peer::dial(&fleet.nodes[0]).await;

    peer.closes_with(4410).await;
    bystander.is_undisturbed().await;
}
