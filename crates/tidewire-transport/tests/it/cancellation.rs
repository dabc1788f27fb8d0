use bytes::Bytes;
use futures_util::FutureExt;
use tidewire_transport::{Limits, Role, Transport, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::wire::{self, BINARY, CLOSE, CONTINUATION, PING, TEXT, Wire, binary, text};

#[tokio::test]
async fn dropping_receive_at_every_byte_loses_nothing() {
    let (near, mut far) = duplex(1 << 16);
    let mut socket = WebSocket::new(near, Bytes::new(), Role::Server, Limits::default());
    let input = wire::join(&[
        Wire::masked(TEXT, "one"),
        Wire::masked(BINARY, [7; 300]),
        Wire::masked(TEXT, "t").unfinished(),
        Wire::masked(PING, "still there?"),
        Wire::masked(CONTINUATION, "wo"),
        Wire::masked(CLOSE, 1000_u16.to_be_bytes()),
    ]);

    let mut received = Vec::new();
    for byte in input {
        far.write_u8(byte).await.unwrap();
        // Polled once, and dropped whenever that was not enough.
        while let Some(frame) = socket.receive().now_or_never() {
            match frame.unwrap() {
                Some(frame) => received.push(frame),
                None => break,
            }
        }
    }

    assert_eq!(received, [text("one"), binary(&[7; 300]), text("two")]);
    assert!(socket.is_closed_by_peer());
}

#[tokio::test]
async fn a_pong_that_a_dropped_receive_was_writing_is_finished_by_the_next() {
    let (near, mut far) = duplex(20);
    let mut socket = WebSocket::new(near, Bytes::new(), Role::Server, Limits::default());
    let asked = Wire::masked(PING, [9; 100]).bytes();
    let mut unsent = &asked[..];

    let mut pong = Vec::new();
    while pong.len() < 102 {
        let taken = far.write(unsent).now_or_never().map_or(0, Result::unwrap);
        unsent = &unsent[taken..];
        assert!(socket.receive().now_or_never().is_none());
        let mut piece = [0; 3];
        let read = far.read(&mut piece).now_or_never().map_or(0, Result::unwrap);
        pong.extend_from_slice(&piece[..read]);
    }

    assert_eq!(pong, Wire::plain(wire::PONG, [9; 100]).bytes());
}

#[tokio::test]
async fn a_cancelled_send_leaves_its_frames_queued_and_none_of_them_torn() {
    let (near, mut far) = duplex(16);
    let mut socket = WebSocket::new(near, Bytes::new(), Role::Server, Limits::default());
    let frames = [text(&"a".repeat(100)), binary(&[5; 5000])];
    let expected =
        wire::join(&[Wire::plain(TEXT, "a".repeat(100)), Wire::plain(BINARY, [5; 5000])]);

    assert!(socket.send(&frames).now_or_never().is_none());
    assert_eq!(socket.unsent(), expected.len() - 16);
    let mut written = vec![0; expected.len()];
    let (flushed, read) = tokio::join!(socket.flush(), far.read_exact(&mut written));

    flushed.unwrap();
    read.unwrap();
    assert_eq!(written, expected);
    assert_eq!(socket.unsent(), 0);
}
