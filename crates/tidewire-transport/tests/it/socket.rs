use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tidewire_model::Disconnect;
use tidewire_transport::{
    CloseCode, Limits, Role, Transport, TransportError, Violation, WebSocket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, advance};

use crate::wire::{self, CLOSE, PING, PONG, TEXT, Wire, binary, text};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn frames_of_every_length_class_go_both_ways() {
    let (mut server, mut client) = pair(1 << 20);
    let limits = [0, 1, 125, 126, 127, 1024, 1025, 65_535, 65_536];
    let frames: Vec<_> = limits.iter().map(|length| binary(&vec![b'x'; *length])).collect();

    client.send(&frames).await.unwrap();
    for frame in &frames {
        assert_eq!(server.receive().await.unwrap().as_ref(), Some(frame));
    }
    server.send(&frames).await.unwrap();
    for frame in &frames {
        assert_eq!(client.receive().await.unwrap().as_ref(), Some(frame));
    }
}

#[tokio::test]
async fn two_ends_that_queue_and_receive_cannot_stall_each_other() {
    let (mut server, mut client) = pair(64);
    let frames: Vec<_> = (0..20_u8).map(|n| binary(&vec![n; 5000])).collect();
    server.queue(&frames).unwrap();
    client.queue(&frames).unwrap();

    let (at_server, at_client) = tokio::join!(take(&mut server, 20), take(&mut client, 20));

    assert_eq!(at_server, frames);
    assert_eq!(at_client, frames);
}

#[tokio::test]
async fn a_burst_of_tiny_frames_is_received_whole_and_in_order() {
    let (mut server, mut far) = raw(1 << 20);
    let burst: Vec<_> = (0..1000).map(|n| Wire::masked(TEXT, n.to_string())).collect();
    far.write_all(&wire::join(&burst)).await.unwrap();

    let received = take(&mut server, 1000).await;

    let expected: Vec<_> = (0..1000).map(|n| text(&n.to_string())).collect();
    assert_eq!(received, expected);
}

#[tokio::test]
async fn bytes_that_came_with_the_handshake_come_first() {
    let (near, mut far) = duplex(1024);
    let early = Wire::masked(TEXT, "early").bytes();
    let (early, late) = early.split_at(5);
    far.write_all(late).await.unwrap();

    let early = Bytes::copy_from_slice(early);
    let mut server = WebSocket::new(near, early, Role::Server, Limits::default());

    assert_eq!(server.receive().await.unwrap(), Some(text("early")));
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let (mut server, mut far) = raw(1024);
    far.write_all(&Wire::masked(PING, "abc").bytes()).await.unwrap();

    assert!(server.receive().now_or_never().is_none());

    assert_eq!(read(&mut far, 5).await, Wire::plain(PONG, "abc").bytes());
}

#[tokio::test]
async fn a_peer_that_pings_and_never_reads_gets_few_pongs() {
    let (mut server, mut far) = raw(256);
    let ping = Wire::masked(PING, [1; 100]).bytes();

    for _ in 0..1000 {
        far.write_all(&ping).await.unwrap();
        assert!(server.receive().now_or_never().is_none());
    }

    assert!(server.unsent() <= 4096 + 102, "{} bytes", server.unsent());
}

#[tokio::test]
async fn pings_that_come_together_are_all_answered_in_order() {
    let (mut server, mut far) = raw(1024);
    let pings: Vec<_> = (0..10_u8).map(|n| Wire::masked(PING, [n; 10])).collect();
    far.write_all(&wire::join(&pings)).await.unwrap();

    assert!(server.receive().now_or_never().is_none());

    let answers: Vec<_> = (0..10_u8).map(|n| Wire::plain(PONG, [n; 10])).collect();
    assert_eq!(read(&mut far, 120).await, wire::join(&answers));
}

#[tokio::test]
async fn a_ping_before_a_close_is_answered_before_it() {
    let (mut server, mut far) = raw(1024);
    far.write_all(&wire::join(&[Wire::masked(PING, "p"), Wire::masked(CLOSE, "")])).await.unwrap();

    assert_eq!(server.receive().await.unwrap(), None);

    let expected = wire::join(&[Wire::plain(PONG, "p"), Wire::plain(CLOSE, "")]);
    assert_eq!(read(&mut far, expected.len()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_pong_moves_the_time_a_peer_was_last_heard() {
    let (mut server, mut client) = pair(1024);
    advance(SECOND).await;
    server.ping();
    server.ping();
    assert!(server.receive().now_or_never().is_none());
    assert!(client.receive().now_or_never().is_none());
    assert_ne!(server.last_heard(), Instant::now());

    assert!(server.receive().now_or_never().is_none());

    assert_eq!(server.last_heard(), Instant::now());
}

#[tokio::test]
async fn two_pings_before_a_write_are_one() {
    let (mut server, mut far) = raw(1024);
    server.ping();
    server.ping();

    server.flush().await.unwrap();
    drop(server);

    assert_eq!(read_to_end(&mut far).await, Wire::plain(PING, "").bytes());
}

#[tokio::test]
async fn closing_waits_until_the_peer_has_closed_too() {
    let (mut server, mut client) = pair(1024);
    client.send(&[text("dropped")]).await.unwrap();

    let (closed, received) = tokio::join!(
        server.close(Disconnect::Draining.into(), "draining", SECOND),
        client.receive(),
    );

    closed.unwrap();
    assert_eq!(received.unwrap(), None);
    let said = client.peer_close().unwrap();
    assert_eq!((said.code.value(), said.reason.as_str()), (1012, "draining"));
    assert_eq!(server.peer_close().unwrap().code.value(), 1012);
}

#[tokio::test]
async fn what_is_queued_goes_out_before_the_close() {
    let (mut server, mut client) = pair(16);
    server.queue(&[text(&"last words".repeat(10))]).unwrap();

    let closing = server.close(CloseCode::NORMAL, "", SECOND);
    let (closed, received) = tokio::join!(closing, async {
        (client.receive().await.unwrap(), client.receive().await.unwrap())
    });

    closed.unwrap();
    assert_eq!(received, (Some(text(&"last words".repeat(10))), None));
}

#[tokio::test(start_paused = true)]
async fn closing_gives_up_on_a_peer_that_does_not_answer() {
    let (mut server, _far) = raw(1024);
    let began = Instant::now();

    let closed = server.close(CloseCode::NORMAL, "", 3 * SECOND).await;

    assert!(matches!(closed, Err(TransportError::Unanswered)));
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn a_close_is_answered_with_its_own_code_at_once() {
    let (mut server, mut far) = raw(1024);
    far.write_all(&Wire::masked(CLOSE, b"\x0F\xA0so long").bytes()).await.unwrap();

    assert_eq!(server.receive().await.unwrap(), None);

    assert_eq!(server.peer_close().unwrap().reason, "so long");
    assert_eq!(read(&mut far, 4).await, Wire::plain(CLOSE, [0x0F, 0xA0]).bytes());
}

#[tokio::test]
async fn a_close_without_a_code_is_answered_without_one() {
    let (mut server, mut far) = raw(1024);
    far.write_all(&Wire::masked(CLOSE, "").bytes()).await.unwrap();

    assert_eq!(server.receive().await.unwrap(), None);
    server.close(CloseCode::NORMAL, "too late", SECOND).await.unwrap();

    assert!(server.is_closed_by_peer());
    assert_eq!(read_to_end(&mut far).await, Wire::plain(CLOSE, "").bytes());
}

#[tokio::test]
async fn a_peer_that_vanishes_did_not_say_goodbye() {
    let (mut server, far) = raw(1024);
    drop(far);

    assert_eq!(server.receive().await.unwrap(), None);

    assert!(!server.is_closed_by_peer());
}

#[tokio::test]
async fn nothing_can_be_queued_behind_a_close() {
    let (mut server, mut far) = raw(1024);
    far.write_all(&Wire::masked(CLOSE, "").bytes()).await.unwrap();
    server.receive().await.unwrap();

    let sent = server.send(&[text("late")]).await;

    assert!(matches!(sent, Err(TransportError::Closed)));
}

#[tokio::test]
async fn a_peer_that_broke_the_protocol_can_still_be_told_why() {
    let (mut server, mut far) = raw(1024);
    far.write_all(&Wire::plain(TEXT, "unmasked").bytes()).await.unwrap();
    far.shutdown().await.unwrap();
    server.receive().await.unwrap_err();

    server.send(&[text("why")]).await.unwrap();
    server.close(Disconnect::ProtocolError.into(), "", SECOND).await.unwrap();

    let told = [Wire::plain(TEXT, "why"), Wire::plain(CLOSE, 1002_u16.to_be_bytes())];
    assert_eq!(read_to_end(&mut far).await, wire::join(&told));
}

#[tokio::test]
async fn frames_before_a_violation_are_received_and_the_peer_learns_the_code() {
    let (mut server, mut far) = raw(1024);
    let input = [Wire::masked(TEXT, "good"), Wire::masked(TEXT, [0xFF]), Wire::masked(TEXT, "x")];
    far.write_all(&wire::join(&input)).await.unwrap();

    assert_eq!(server.receive().await.unwrap(), Some(text("good")));
    let error = server.receive().await.unwrap_err();
    let disconnect = error.disconnect().unwrap();
    let closing = server.close(disconnect.into(), disconnect.as_str(), SECOND);
    let (closed, told) = tokio::join!(closing, async {
        let told = read_to_end(&mut far).await;
        drop(far);
        told
    });

    closed.unwrap();
    assert!(matches!(error, TransportError::Violation(Violation::InvalidUtf8)));
    assert_eq!(told, Wire::plain(CLOSE, b"\x03\xEFinvalid_utf8").bytes());
}

#[tokio::test]
async fn what_a_violating_peer_still_sends_is_drained_so_that_it_can_read_the_close() {
    let (mut server, mut far) = raw(64);
    let huge = Wire::masked(wire::BINARY, vec![0; 1 << 20]).bytes();

    let violating = async {
        far.write_all(&huge).await.unwrap();
        far.shutdown().await.unwrap();
        read_to_end(&mut far).await
    };
    let serving = async {
        let error = server.receive().await.unwrap_err();
        let disconnect = error.disconnect().unwrap();
        server.close(disconnect.into(), "", 10 * SECOND).await.unwrap();
    };
    let (told, ()) = tokio::join!(violating, serving);

    assert_eq!(told, Wire::plain(CLOSE, 1009_u16.to_be_bytes()).bytes());
}

#[test]
fn an_idle_socket_is_small() {
    assert!(size_of::<WebSocket<tokio::net::TcpStream>>() <= 512);
}

fn pair(capacity: usize) -> (WebSocket<DuplexStream>, WebSocket<DuplexStream>) {
    let (near, far) = duplex(capacity);
    let limits = Limits { message_bytes: 1 << 17, ..Limits::default() };
    let server = WebSocket::new(near, Bytes::new(), Role::Server, limits);
    (server, WebSocket::new(far, Bytes::new(), Role::Client, limits))
}

/// A server, and its peer's end of the stream.
fn raw(capacity: usize) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(capacity);
    (WebSocket::new(near, Bytes::new(), Role::Server, Limits::default()), far)
}

async fn take(socket: &mut WebSocket<DuplexStream>, count: usize) -> Vec<tidewire_protocol::Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        frames.push(socket.receive().await.unwrap().expect("the peer stays"));
    }
    // The peer may still be waiting for what we have not written.
    socket.flush().await.unwrap();
    frames
}

async fn read(stream: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn read_to_end(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}
