use std::net::SocketAddr;

use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn what_goes_in_comes_out_both_ways() {
    let (_echo, proxy) = echo().await;
    let mut client = dial(&proxy).await;

    assert_eq!(exchange(&mut client, b"hello").await.as_deref(), Some(&b"hello"[..]));
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_delay_is_that_of_its_direction_and_keeps_the_order() {
    let (_echo, proxy) = echo().await;
    let mut client = dial(&proxy).await;
    proxy.set(Rules { delay: [Duration::from_millis(80), Duration::ZERO], ..Rules::default() });

    let begun = Instant::now();
    client.write_all(b"one").await.expect("it is open");
    assert_eq!(exchange(&mut client, b"two").await.expect("an answer").first(), Some(&b'o'));

    assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_black_hole_holds_everything_back_until_it_is_healed() {
    let (_echo, proxy) = echo().await;
    let mut client = dial(&proxy).await;
    proxy.set(Rules { is_black_hole: [true, false], ..Rules::default() });

    client.write_all(b"hello").await.expect("it is open");
    let mut answer = [0; 5];
    let silent = timeout(Duration::from_millis(100), client.read_exact(&mut answer)).await;
    assert!(silent.is_err());
    proxy.heal();

    client.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn a_reset_ends_every_connection() {
    let (_echo, proxy) = echo().await;
    let mut client = dial(&proxy).await;
    assert!(exchange(&mut client, b"hello").await.is_some());

    proxy.reset();

    assert!(exchange(&mut client, b"hello").await.is_none());
    assert!(exchange(&mut dial(&proxy).await, b"hello").await.is_some());
}

#[tokio::test]
async fn whoever_is_refused_gets_nowhere() {
    let (_echo, proxy) = echo().await;
    proxy.set(Rules { is_refusing: true, ..Rules::default() });

    assert!(exchange(&mut dial(&proxy).await, b"hello").await.is_none());
}

#[tokio::test]
async fn one_of_so_many_answers_does_not_arrive_and_ends_its_connection() {
    let (_echo, proxy) = echo().await;
    let mut client = dial(&proxy).await;
    proxy.set(Rules { cut_reply_every: Some(3), ..Rules::default() });

    assert!(exchange(&mut client, b"1").await.is_some());
    assert!(exchange(&mut client, b"2").await.is_some());
    assert!(exchange(&mut client, b"3").await.is_none());

    assert_eq!(*proxy.replies_cut().borrow(), 1);
    assert!(exchange(&mut dial(&proxy).await, b"4").await.is_some());
}

#[tokio::test]
async fn rules_for_replication_are_for_whoever_says_that_it_replicates() {
    let (_echo, proxy) = echo().await;
    let (mut caller, mut replica) = (dial(&proxy).await, dial(&proxy).await);
    assert!(exchange(&mut replica, b"REPLCONF port 1").await.is_some());
    proxy.set(Rules { is_black_hole: [true, true], scope: Scope::Replication, ..Rules::default() });

    assert!(exchange(&mut caller, b"GET 1").await.is_some());
    replica.write_all(b"REPLCONF ACK 1").await.expect("it is open");
    let silent = timeout(Duration::from_millis(100), replica.read_u8()).await;
    assert!(silent.is_err());
}

#[tokio::test]
async fn a_slow_link_passes_so_many_bytes_a_second() {
    let (_echo, proxy) = echo().await;
    let mut client = dial(&proxy).await;
    proxy.set(Rules { bytes_per_second: [Some(1_000), None], ..Rules::default() });

    let begun = Instant::now();
    client.write_all(&[7; 150]).await.expect("it is open");
    client.read_exact(&mut [0; 150]).await.expect("an answer");

    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
}

/// A server that says what it hears.
async fn echo() -> (TaskTracker, Proxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let tracker = TaskTracker::new();
    let connections = tracker.clone();
    tracker.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut reads, mut writes) = stream.split();
                drop(tokio::io::copy(&mut reads, &mut writes).await);
            });
        }
    });
    (tracker, Proxy::start(address).await.expect("a proxy"))
}

async fn dial(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("the proxy listens")
}

/// Says something, and what comes back; nothing if the connection is over.
async fn exchange(client: &mut TcpStream, bytes: &[u8]) -> Option<Vec<u8>> {
    client.write_all(bytes).await.ok()?;
    let mut answer = vec![0; bytes.len()];
    let read = timeout(Duration::from_secs(20), client.read_exact(&mut answer)).await;
    read.expect("an answer or an end").ok()?;
    Some(answer)
}
