//! First frames that are larger than anybody's may be, of which a worker has so many at once.

use std::time::Duration;

use tidewire_edge::EdgeConfig;
use tidewire_model::{Command, Connect, Epoch, Position, Resume, SessionNonce};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fleet::{Fleet, Running, TENANT, soon, token};
use crate::peer::{Bystander, Peer, channel};

/// As many that are not finished as one worker has room for, and as many again.
const MANY: usize = 300;
const SENT: usize = 100 * 1_024;

#[tokio::test]
async fn who_comes_back_to_many_channels_is_let_in() {
    let fleet = Fleet::one().await;
    let mut peer = Peer::dial(&fleet.nodes[0]).await;

    peer.send(large());

    peer.connected().await;
}

#[tokio::test]
async fn who_needs_more_than_there_is_waits_until_others_have_gone_and_nobody_else_does() {
    let connect_timeout = Duration::from_mins(1);
    let fleet = Fleet::start(1, EdgeConfig { connect_timeout, ..EdgeConfig::default() }).await;
    let mut bystander = Bystander::watch(&fleet).await;
    let unfinished = begin_many(&fleet.nodes[0]).await;
    let mut late = Peer::dial(&fleet.nodes[0]).await;
    late.send(large());
    late.flush().await;

    Peer::connect(&fleet.nodes[0], "ada").await;
    bystander.is_undisturbed().await;
    assert_eq!(late.0.next_ready(), None);
    drop(unfinished);

    late.connected().await;
}

#[tokio::test]
async fn who_finds_what_was_freed_taken_by_others_waits_on() {
    let connect_timeout = Duration::from_mins(1);
    let fleet = Fleet::start(1, EdgeConfig { connect_timeout, ..EdgeConfig::default() }).await;
    let mut witness = Peer::connect(&fleet.nodes[0], "witness").await;
    let unfinished = begin_many(&fleet.nodes[0]).await;
    let mut late = Peer::dial(&fleet.nodes[0]).await;
    late.send(large());
    late.flush().await;
    witness.pinged().await;

    for one in unfinished {
        drop(one);
        // Who comes next has read by then, and fills it again.
        witness.pinged().await;
    }

    late.connected().await;
}

#[tokio::test]
async fn of_those_whose_time_is_over_who_was_not_read_is_asked_to_come_back() {
    // Long enough for all of them to have begun.
    let connect_timeout = Duration::from_secs(15);
    let fleet = Fleet::start(1, EdgeConfig { connect_timeout, ..EdgeConfig::default() }).await;
    let mut codes = Vec::new();

    for mut socket in begin_many(&fleet.nodes[0]).await {
        let mut said = Vec::new();
        // What was not read of what it sent may reset the connection after that.
        drop(soon(socket.read_to_end(&mut said)).await);
        codes.push(close_code(&said));
    }

    let count = |wanted: u16| codes.iter().filter(|code| **code == Some(wanted)).count();
    assert_eq!(count(4410) + count(1013), MANY, "{codes:?}");
    assert!(count(1013) > MANY / 4 && count(4410) > MANY / 4, "{codes:?}");
}

/// A `connect` with the positions of as many channels as there may be.
fn large() -> Command {
    let epoch = Epoch::parse("mfabc12000010002").expect("epoch");
    let name = |number: usize| channel(&format!("room/{number:0>120}"));
    let positions = (0..512).map(|number| (name(number), Position::new(epoch, 7))).collect();
    let resume =
        Resume { token: "gone".into(), nonce: SessionNonce::from_bytes([7; 16]), positions };
    Command::Connect(Connect {
        token: Some(token("ada").into()),
        resume: Some(resume),
        ..Connect::default()
    })
}

/// Sockets that have begun a first frame and do not finish it.
async fn begin_many(node: &Running) -> Vec<TcpStream> {
    let mut unfinished = Vec::new();
    for _ in 0..MANY {
        let mut socket = upgrade(node, TENANT).await;
        begin(&mut socket).await;
        unfinished.push(socket);
    }
    unfinished
}

/// A socket that may say its first frame.
pub(crate) async fn upgrade(node: &Running, tenant: &str) -> TcpStream {
    let mut socket = soon(TcpStream::connect(node.address)).await.expect("connected");
    let request = format!(
        "GET /v1/{tenant}/ws HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    soon(socket.write_all(request.as_bytes())).await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(socket.read_u8()).await.expect("an answer"));
    }
    socket
}

/// Says less than is announced of a masked text of 127 KiB.
pub(crate) async fn begin(socket: &mut TcpStream) {
    let header = [&[0x81, 0xff][..], &(127_u64 << 10).to_be_bytes(), &[0; 4]].concat();
    soon(socket.write_all(&header)).await.expect("written");
    soon(socket.write_all(&vec![b' '; SENT])).await.expect("written");
}

/// Of the close frame at the end of what a server has said, if it is of few words.
fn close_code(said: &[u8]) -> Option<u16> {
    let at = said.iter().rposition(|byte| *byte == 0x88)?;
    let code = said.get(at + 2..at + 4)?;
    Some(u16::from_be_bytes([code[0], code[1]]))
}
