use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tidewire_testkit::services::{NatsServer, RedisServer, SentinelServer, Watch, free_port};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_redis_server_answers_until_it_is_killed() {
    let mut redis = RedisServer::start().await;
    assert_eq!(ask(redis.address(), "PING").await.as_deref(), Some("+PONG"));

    redis.kill();

    assert_eq!(ask(redis.address(), "PING").await, None);
}

#[tokio::test]
async fn a_restarted_redis_server_with_an_appendonly_file_remembers() {
    let mut redis = RedisServer::with_appendonly().await;
    assert_eq!(ask(redis.address(), "SET a 1").await.as_deref(), Some("+OK"));
    let address = redis.address();

    redis.restart().await;

    assert_eq!(redis.address(), address);
    assert_eq!(ask(redis.address(), "INCR a").await.as_deref(), Some(":2"));
}

#[tokio::test]
async fn a_restarted_redis_server_without_persistence_has_forgotten() {
    let mut redis = RedisServer::start().await;
    assert_eq!(ask(redis.address(), "SET a 1").await.as_deref(), Some("+OK"));

    redis.restart().await;

    assert_eq!(ask(redis.address(), "INCR a").await.as_deref(), Some(":1"));
}

#[tokio::test]
async fn a_paused_server_answers_only_when_resumed() {
    let redis = RedisServer::start().await;

    redis.pause();
    let question = ask(redis.address(), "PING");
    tokio::pin!(question);

    assert!(timeout(Duration::from_millis(200), &mut question).await.is_err());
    redis.resume();
    assert_eq!(question.await.as_deref(), Some("+PONG"));
}

#[tokio::test]
async fn a_nats_server_comes_back_on_the_same_port() {
    let mut nats = NatsServer::start().await;
    let address = nats.address();
    assert!(greeting(address).await.is_some());

    nats.kill();
    assert!(greeting(address).await.is_none());

    nats.restart().await;
    assert!(greeting(address).await.is_some_and(|line| line.starts_with("INFO ")));
}

#[tokio::test]
async fn a_server_can_be_started_later_on_a_port_chosen_before() {
    let port = free_port();

    let redis = RedisServer::on_port(port).await;

    assert_eq!(redis.address().port(), port);
    assert_eq!(ask(redis.address(), "PING").await.as_deref(), Some("+PONG"));
}

#[tokio::test]
async fn dropping_a_server_ends_its_process() {
    let nats = NatsServer::start().await;
    let address = nats.address();

    drop(nats);

    assert!(greeting(address).await.is_none());
}

#[tokio::test]
#[should_panic(expected = "its last words")]
async fn a_server_that_cannot_start_panics_with_its_own_words() {
    RedisServer::with_arguments(&["--no-such-option", "1"]).await;
}

#[test]
fn a_free_port_can_be_bound_and_is_below_the_range_of_outgoing_connections() {
    let port = free_port();

    assert!(port < 32_768);
    TcpListener::bind(("127.0.0.1", port)).unwrap();
}

/// The first line of the reply to a Redis command; `None` if nobody answers.
async fn ask(address: SocketAddr, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
    first_line(stream).await
}

async fn greeting(address: SocketAddr) -> Option<String> {
    first_line(TcpStream::connect(address).await.ok()?).await
}

async fn first_line(stream: TcpStream) -> Option<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.ok()?;
    Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())
}

#[tokio::test]
async fn a_sentinel_knows_the_primary_it_watches() {
    let redis = RedisServer::start().await;
    let watch = Watch { primary: redis.address(), quorum: 1, down_after_ms: 500 };

    let sentinel = SentinelServer::start(watch).await;

    let told = sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]).await;
    let address = redis.address();
    assert_eq!(told.expect("an answer"), format!("{}\n{}", address.ip(), address.port()));
    assert_eq!(redis.command(&["SET", "a", "1"]).await.expect("an answer"), "OK");
}
