use std::time::Duration;

use tidewire_transport::client::{InvalidUrl, Settings, connect, connect_over};
use tidewire_transport::{ClientSocket, CloseCode, ConnectError, Limits, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::server;
use crate::wire::{TEXT, Wire, text};

#[tokio::test]
async fn client_and_server_talk_and_part_over_tcp() {
    let (listener, url) = server::listen().await;
    let connecting = connect(&url, "v1.json", Limits::default());
    let ((mut server, _), client) =
        tokio::join!(server::accept(&listener, &["v1.json"]), connecting);
    let mut client = client.unwrap();

    client.send(&[text("question")]).await.unwrap();
    assert_eq!(server.receive().await.unwrap(), Some(text("question")));
    server.send(&[text("answer")]).await.unwrap();
    assert_eq!(client.receive().await.unwrap(), Some(text("answer")));
    let second = Duration::from_secs(1);
    let (closed, left) =
        tokio::join!(client.close(CloseCode::NORMAL, "", second), server.receive());

    assert_eq!(left.unwrap(), None);
    assert_eq!(server.peer_close().unwrap().code, CloseCode::NORMAL);
    closed.unwrap();
}

#[tokio::test]
async fn the_stream_sends_small_writes_at_once() {
    let (listener, url) = server::listen().await;
    let connecting = connect(&url, "v1.json", Limits::default());
    let (_, client) = tokio::join!(server::accept(&listener, &["v1.json"]), connecting);

    assert!(client.unwrap().stream().nodelay().unwrap());
}

#[tokio::test]
async fn a_stream_connected_by_the_caller_will_do() {
    let (listener, url) = server::listen().await;
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();

    let connecting = connect_over(stream, &url, "v1.json", Limits::default());
    let (_, client) = tokio::join!(server::accept(&listener, &["v1.json"]), connecting);

    assert!(client.is_ok());
}

#[tokio::test]
async fn a_frame_that_comes_with_the_answer_is_not_lost() {
    let early = Wire::plain(TEXT, "early").bytes();

    let client = connect_to(|key| [agreeing(key).as_bytes(), &early].concat()).await;

    assert_eq!(client.unwrap().receive().await.unwrap(), Some(text("early")));
}

#[tokio::test]
async fn an_address_nobody_listens_at_is_unreachable() {
    let (listener, url) = server::listen().await;
    drop(listener);

    let error = connect(&url, "v1.json", Limits::default()).await.unwrap_err();

    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refusal_tells_its_status_its_text_and_when_to_come_back() {
    let answer = "HTTP/1.1 503 Unavailable\r\nRetry-After: 7\r\nContent-Length: 8\r\n\r\ndraining";

    let error = connect_to(|_| answer.into()).await.unwrap_err();

    let ConnectError::Refused { status, retry_after, body } = error else { panic!("{error:?}") };
    assert_eq!((status.as_u16(), body.as_str()), (503, "draining"));
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn of_a_long_refusal_only_the_beginning_is_kept() {
    let text = "x".repeat(3000);
    let answer = format!("HTTP/1.1 404 No\r\nContent-Length: 3000\r\n\r\n{text}");

    let error = connect_to(|_| answer.into_bytes()).await.unwrap_err();

    let ConnectError::Refused { body, retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!((body.as_str(), retry_after), (&text[..1024], None));
}

#[tokio::test]
async fn a_server_that_agrees_wrongly_is_not_believed() {
    let changes: [fn(&str) -> String; 5] = [
        |key| agreeing(key).replace("Sec-WebSocket-Protocol: v1.json\r\n", ""),
        |key| agreeing(key).replace("v1.json", "v2.json"),
        |key| agreeing(key).replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n"),
        |key| agreeing(key).replace("websocket", "h2c"),
        |_| agreeing("AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    for change in changes {
        let error = connect_to(|key| change(key).into_bytes()).await.unwrap_err();

        assert!(matches!(error, ConnectError::Handshake(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_breaks_the_handshake() {
    let error = connect_to(|_| Vec::new()).await.unwrap_err();

    assert!(matches!(error, ConnectError::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn only_ws_urls_are_understood() {
    let cases = [
        ("wss://localhost/", InvalidUrl::Scheme { expected: "ws" }),
        ("http://localhost/", InvalidUrl::Scheme { expected: "ws" }),
        ("localhost:80", InvalidUrl::Scheme { expected: "ws" }),
        ("ws://user:password@localhost/", InvalidUrl::Malformed),
        ("ws://", InvalidUrl::Malformed),
        ("", InvalidUrl::Malformed),
    ];
    for (url, expected) in cases {
        let error = connect(url, "v1.json", Limits::default()).await.unwrap_err();

        assert!(matches!(error, ConnectError::Url(ref it) if *it == expected), "{url}: {error:?}");
    }
}

/// Connects to a server that answers with whatever `answer` makes of the client's key.
async fn connect_to(answer: impl FnOnce(&str) -> Vec<u8>) -> Result<ClientSocket, ConnectError> {
    connect_to_with(Settings::default(), answer).await
}

pub(crate) async fn connect_to_with(
    settings: Settings,
    answer: impl FnOnce(&str) -> Vec<u8>,
) -> Result<ClientSocket, ConnectError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        stream.write_all(&answer(key.unwrap())).await.unwrap();
    };
    tokio::join!(answering, connect(&url, "v1.json", settings)).1
}

/// A right answer to `key`.
pub(crate) fn agreeing(key: &str) -> String {
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: v1.json\r\n\r\n"
    )
}
