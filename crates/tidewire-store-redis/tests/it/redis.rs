//! A server for a test, and ways in past the adapters.

use std::time::{SystemTime, UNIX_EPOCH};

use tidewire_broker::{Appended, Draft, Log, Read, Retention};
use tidewire_model::{Channel, Payload, Position, PublicationId, Since, Tenant, TenantChannel};
use tidewire_store_redis::{Deployment, RedisConfig, RedisConnection, RedisLog};
use tidewire_testkit::services::RedisServer;

pub(crate) fn config(url: &str) -> RedisConfig {
    RedisConfig::new(Deployment::Single { url: url.into() })
}

pub(crate) fn connect(server: &RedisServer) -> RedisConnection {
    RedisConnection::new(config(&server.url())).expect("a valid configuration")
}

pub(crate) fn log(server: &RedisServer) -> RedisLog {
    RedisLog::new(connect(server), Retention::default())
}

/// Sends a command as an operator would.
pub(crate) async fn command(server: &RedisServer, words: &[&str]) -> redis::Value {
    let client = redis::Client::open(server.url()).expect("a valid url");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let (name, arguments) = words.split_first().expect("a command has a name");
    redis::cmd(name).arg(arguments).query_async(&mut connection).await.expect("it is done")
}

pub(crate) async fn append(log: &RedisLog, ids: &[&str]) -> Vec<Appended> {
    let drafts: Vec<_> = ids.iter().map(|id| draft(id)).collect();
    log.append(&room(), &drafts).await.expect("append")
}

pub(crate) async fn read_since(log: &RedisLog, position: Position) -> Read {
    log.read(&room(), Since::Position(position), 1_000).await.expect("read")
}

pub(crate) fn draft(id: &str) -> Draft {
    Draft { id: Some(PublicationId::parse(id).expect("a valid id")), ..without_id(id) }
}

pub(crate) fn without_id(content: &str) -> Draft {
    let payload = Payload::binary(content.as_bytes().to_vec().into());
    Draft { id: None, publisher: None, payload }
}

pub(crate) fn room() -> TenantChannel {
    TenantChannel::new(
        Tenant::parse("acme").expect("a valid tenant"),
        Channel::parse("room:42").expect("a valid channel"),
    )
}

/// The key of a kind that the only channel has.
pub(crate) async fn key_of(server: &RedisServer, kind: char) -> String {
    let keys = keys(server, &format!("tw:*:{kind}:acme:room:42")).await;
    let [key] = keys.try_into().expect("one key");
    key
}

pub(crate) async fn keys(server: &RedisServer, pattern: &str) -> Vec<String> {
    redis::from_redis_value(command(server, &["KEYS", pattern]).await).expect("keys")
}

/// By this machine's clock, which the servers share.
pub(crate) fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since_epoch.as_millis()).expect("some milliseconds")
}

pub(crate) fn text(value: redis::Value) -> String {
    redis::from_redis_value(value).expect("a text")
}
