//! Messages that have begun and are not complete, of which a worker holds so much at once.

use tidewire_edge::EdgeConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Duration;

use crate::first_frames::{begin, upgrade};
use crate::fleet::{Fleet, OTHER_TENANT, Running, TENANT, claims, sign, soon};
use crate::peer::{Bystander, Peer};

/// More than there is room for, of one tenant or of all.
const MANY: usize = 700;

#[tokio::test]
async fn who_never_finishes_messages_leaves_other_tenants_room_for_theirs() {
    let message_timeout = Duration::from_mins(5);
    let fleet = Fleet::start(1, EdgeConfig { message_timeout, ..EdgeConfig::default() }).await;
    let mut witness = Peer::connect(&fleet.nodes[0], "witness").await;
    let mut other = connect(&fleet.nodes[0], OTHER_TENANT).await;
    let mut unfinished = Vec::new();
    for _ in 0..MANY {
        let mut socket = connect(&fleet.nodes[0], TENANT).await;
        begin(&mut socket).await;
        unfinished.push(socket);
        // What it has sent has been read by then.
        witness.pinged().await;
    }

    let ping = text(&format!("{}{}", " ".repeat(60 << 10), r#"{"id":2,"ping":{}}"#));
    let (first, rest) = ping.split_at(40 << 10);
    soon(other.write_all(first)).await.expect("written");
    witness.pinged().await;
    soon(other.write_all(rest)).await.expect("written");

    hear(&mut other, r#""id":2"#).await;
}

#[tokio::test]
async fn a_message_that_is_not_finished_in_time_ends_its_connection_and_no_other() {
    let message_timeout = Duration::from_secs(1);
    let fleet = Fleet::start(1, EdgeConfig { message_timeout, ..EdgeConfig::default() }).await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut socket = connect(&fleet.nodes[0], TENANT).await;

    let ping = text(&format!("{}{}", " ".repeat(200), r#"{"id":2,"ping":{}}"#));
    soon(socket.write_all(&ping[..ping.len() - 1])).await.expect("written");

    hear(&mut socket, r#""code":4412"#).await;
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn pings_are_charged_for_and_too_many_are_counted() {
    const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];
    let fleet = Fleet::one().await;
    let mut bystander = Bystander::watch(&fleet).await;
    let mut socket = connect(&fleet.nodes[0], TENANT).await;

    soon(socket.write_all(&PING.repeat(500))).await.expect("written");

    let is_paused = async || {
        let metrics = fleet.nodes[0].get("/metrics").await.body;
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        metrics.lines().any(|line| line.starts_with("tidewire_excess_controls_total "))
    };
    soon(async { while !is_paused().await {} }).await;
    bystander.is_undisturbed().await;
}

/// A masked frame of neither few bytes nor many.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("not so many");
    let header = [&[0x81, 0xfe][..], &length.to_be_bytes(), &[0; 4]];
    [&header.concat(), text.as_bytes()].concat()
}

async fn connect(node: &Running, tenant: &str) -> TcpStream {
    let mut socket = upgrade(node, tenant).await;
    let token = sign(tenant, &claims(tenant, "ada"));
    let connect = text(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    soon(socket.write_all(&connect)).await.expect("written");
    hear(&mut socket, r#""connected""#).await;
    socket
}

/// Reads until it was told so.
async fn hear(socket: &mut TcpStream, wanted: &str) {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(wanted) {
        let read = soon(socket.read_buf(&mut heard)).await.expect("an answer");
        assert!(read > 0, "ended after {}", String::from_utf8_lossy(&heard));
    }
}
