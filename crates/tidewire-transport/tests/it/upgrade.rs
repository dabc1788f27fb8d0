use hyper::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use hyper::{Method, Request, StatusCode, Version};
use tidewire_transport::{Compression, Transport, UpgradeError, upgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::server;
use crate::wire::{TEXT, Wire, text};

const OFFERED: [&str; 2] = ["v1.json", "v1.protobuf"];

#[test]
fn the_answer_is_the_one_rfc_6455_gives_as_its_example() {
    let mut request = request();

    let upgrade = upgrade(&mut request, &OFFERED, Compression::Off).unwrap();

    assert_eq!(upgrade.response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let headers = upgrade.response.headers();
    assert_eq!(headers["upgrade"], "websocket");
    assert_eq!(headers["connection"], "upgrade");
    assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn the_first_requested_subprotocol_on_offer_is_chosen() {
    let cases: [(&[&str], &str); 4] = [
        (&["v1.protobuf"], "v1.protobuf"),
        (&["v1.protobuf, v1.json"], "v1.protobuf"),
        (&["v9", "v1.json,v1.protobuf"], "v1.json"),
        (&["v9 , v1.protobuf"], "v1.protobuf"),
    ];
    for (lines, chosen) in cases {
        let mut request = request();
        for line in lines {
            request.headers_mut().append(SEC_WEBSOCKET_PROTOCOL, line.parse().unwrap());
        }

        let upgrade = upgrade(&mut request, &OFFERED, Compression::Off).unwrap();

        assert_eq!(upgrade.subprotocol, chosen);
        assert_eq!(upgrade.response.headers()[SEC_WEBSOCKET_PROTOCOL], chosen);
    }
}

#[test]
fn a_client_that_requests_no_subprotocol_gets_the_first_without_being_told() {
    let mut request = request();

    let upgrade = upgrade(&mut request, &OFFERED, Compression::Off).unwrap();

    assert_eq!(upgrade.subprotocol, "v1.json");
    assert!(!upgrade.response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
}

#[test]
fn a_request_that_is_no_upgrade_is_refused_with_a_fitting_status() {
    type Change = fn(&mut Request<()>);
    let cases: [(Change, UpgradeError, u16); 12] = [
        (|it| *it.method_mut() = Method::POST, UpgradeError::Request, 400),
        (|it| *it.version_mut() = Version::HTTP_10, UpgradeError::Request, 400),
        (|it| remove(it, "upgrade"), UpgradeError::NotAsked, 426),
        (|it| remove(it, "connection"), UpgradeError::NotAsked, 426),
        (|it| set(it, "upgrade", "h2c"), UpgradeError::NotAsked, 426),
        (|it| remove(it, "sec-websocket-version"), UpgradeError::Version, 426),
        (|it| set(it, "sec-websocket-version", "8"), UpgradeError::Version, 426),
        (|it| remove(it, "sec-websocket-key"), UpgradeError::Key, 400),
        (|it| set(it, "sec-websocket-key", "short"), UpgradeError::Key, 400),
        (|it| set(it, "sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ!="), UpgradeError::Key, 400),
        (|it| add(it, "sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="), UpgradeError::Key, 400),
        (|it| set(it, "sec-websocket-protocol", "v9"), UpgradeError::Subprotocol, 400),
    ];
    for (change, expected, status) in cases {
        let mut request = request();
        change(&mut request);

        let error = upgrade(&mut request, &OFFERED, Compression::Off).unwrap_err();

        assert_eq!((error, error.response().status().as_u16()), (expected, status));
    }
}

#[test]
fn a_client_of_another_version_is_told_ours() {
    let response = UpgradeError::Version.response();

    assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
}

#[test]
fn connection_and_upgrade_may_list_more_than_one_token_in_any_case() {
    let mut request = request();
    set(&mut request, "connection", "keep-alive, UPGRADE");
    set(&mut request, "upgrade", "WebSocket");

    assert!(upgrade(&mut request, &OFFERED, Compression::Off).is_ok());
}

#[tokio::test]
async fn a_request_that_did_not_come_over_a_connection_is_never_a_stream() {
    let mut request = request();
    let upgrading = upgrade(&mut request, &OFFERED, Compression::Off).unwrap().upgrading;

    let stream = upgrading.parts::<TcpStream>().await;

    assert_eq!(stream.unwrap_err(), UpgradeError::Lost);
}

#[tokio::test]
async fn a_client_we_did_not_write_connects_over_tcp() {
    let (listener, url) = server::listen().await;
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, "v1.protobuf".parse().unwrap());

    let connecting = tokio_tungstenite::connect_async(request);
    let (served, connected) = tokio::join!(server::accept(&listener, &OFFERED), connecting);
    let ((mut socket, subprotocol), (mut client, _)) = (served, connected.unwrap());
    futures_util::SinkExt::send(&mut client, Message::text("hello")).await.unwrap();

    assert_eq!(subprotocol, "v1.protobuf");
    assert_eq!(socket.receive().await.unwrap(), Some(text("hello")));
}

#[tokio::test]
async fn a_frame_sent_with_the_request_is_not_lost() {
    let (listener, _) = server::listen().await;
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let early = Wire::masked(TEXT, "early").bytes();
    client.write_all(&[head.as_bytes(), &early].concat()).await.unwrap();

    let (mut socket, _) = server::accept(&listener, &OFFERED).await;

    assert_eq!(socket.receive().await.unwrap(), Some(text("early")));
    let mut status = [0; 12];
    client.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
}

fn request() -> Request<()> {
    Request::get("/v1/acme/ws")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap()
}

fn set(request: &mut Request<()>, name: &'static str, value: &str) {
    request.headers_mut().insert(name, value.parse().unwrap());
}

fn add(request: &mut Request<()>, name: &'static str, value: &str) {
    request.headers_mut().append(name, value.parse().unwrap());
}

fn remove(request: &mut Request<()>, name: &'static str) {
    request.headers_mut().remove(name);
}
