//! What others may send on our subjects.

use async_nats::Client;
use bytes::Bytes;
use tidewire_broker::{Broker, BrokerEvent, News, Notice};
use tidewire_model::{Generation, SessionId, Tenant};
use tokio::sync::mpsc::error::TryRecvError;

use crate::cluster::{Cluster, channel, node, publication, room};

#[tokio::test]
async fn rubbish_is_dropped_and_what_follows_is_heard() {
    let cluster = Cluster::start().await;
    let mut b = cluster.join("b").await;
    b.subscribe(&room()).await;
    let foreign = client(&cluster).await;

    for subject in [subject_of_room(), "tw.c.n.b".into()] {
        for rubbish in [&b""[..], b"\x01", b"\x02garbage", b"\x01\x63\0\0\0\0\0\0", &[0xff; 4_096]]
        {
            send(&foreign, &subject, rubbish.to_vec()).await;
        }
        send(&foreign, &subject, envelope("acme", "room", 9, |bytes| bytes[2] = 0x80)).await;
    }
    send(&foreign, &subject_of_room(), envelope("acme", "room", 2, |_| ())).await;

    assert_eq!(b.next().await.position.offset, 2);
    assert_eq!(b.events.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test]
async fn a_publication_on_the_subject_of_another_tenant_or_partition_is_dropped() {
    let cluster = Cluster::start().await;
    let mut b = cluster.join("b").await;
    b.subscribe(&room()).await;
    let foreign = client(&cluster).await;

    send(&foreign, &subject_of_room(), envelope("globex", "room", 1, |_| ())).await;
    send(&foreign, &subject_of_room(), envelope("acme", "other", 1, |_| ())).await;
    send(&foreign, "tw.c.n.b", envelope("acme", "room", 1, |_| ())).await;
    send(&foreign, &subject_of_room(), envelope("acme", "room", 2, |_| ())).await;

    assert_eq!(b.next().await.position.offset, 2);
    assert_eq!(b.events.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test]
async fn what_is_told_to_all_nodes_asks_none_of_them_to_leave() {
    let cluster = Cluster::start().await;
    let mut b = cluster.join("b").await;
    b.subscribe(&room()).await;
    let foreign = client(&cluster).await;

    send(&foreign, "tw.c.all", vec![1, 6, 0, 0, 0, 0, 0, 0]).await;
    send(&foreign, "tw.c.all", vec![1, 7, 0, 0, 0, 0, 0, 0, 2]).await;

    assert_eq!(b.next_event().await, BrokerEvent::Notice(Notice::News(News::Revocations)));
}

#[tokio::test]
async fn a_probe_nobody_sent_confirms_nothing() {
    let cluster = Cluster::start().await;
    let a = cluster.join("a").await;
    let mut b = cluster.join("b").await;
    let foreign = client(&cluster).await;

    let mut probe = vec![1, 4, 0, 0, 0, 0, 0, 0];
    probe.extend(u64::MAX.to_be_bytes());
    send(&foreign, "tw.c.n.b", probe).await;
    // The notice comes after the probe, so the probe has been looked at.
    a.broker.notify(&node("b"), &notice());
    assert_eq!(b.next_event().await, BrokerEvent::Notice(notice()));

    b.subscribe(&room()).await;
    a.broker.publish(&publication(1));
    assert_eq!(b.next().await, publication(1));
}

async fn client(cluster: &Cluster) -> Client {
    async_nats::connect(cluster.server.url()).await.expect("the server runs")
}

async fn send(client: &Client, subject: &str, bytes: Vec<u8>) {
    client.publish(subject.to_owned(), bytes.into()).await.expect("connected");
    client.flush().await.expect("connected");
}

/// As `subject.rs` and `envelope.rs` document them, written out so that a change breaks a test.
fn subject_of_room() -> String {
    let partition = tidewire_broker::Partition::of(&channel("acme", "room"));
    format!("tw.m.acme.{:02x}", partition.index)
}

fn envelope(tenant: &str, channel: &str, offset: u8, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let lengths = [tenant, channel].map(|name| u8::try_from(name.len()).expect("short"));
    let mut bytes = vec![1, 1, 0, lengths[0], lengths[1], 0, 0, 0];
    bytes.extend(b"0000000000000000");
    bytes.extend([0, 0, 0, 0, 0, 0, 0, offset]);
    bytes.extend([0; 8]);
    bytes.extend(tenant.bytes());
    bytes.extend(channel.bytes());
    bytes.extend(Bytes::from_static(b"payload"));
    change(&mut bytes);
    bytes
}

fn notice() -> Notice {
    Notice::SessionMoved {
        tenant: Tenant::parse("acme").expect("valid"),
        session: SessionId::from_bytes([7; 16]),
        generation: Generation(3),
    }
}
