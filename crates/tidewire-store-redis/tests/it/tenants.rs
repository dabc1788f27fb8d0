//! What becomes of tenants when Redis is emptied or starts again.

use tidewire_model::Tenant;
use tidewire_store::{Changes, Expects, Seen, TenantStore as _, TenantWrite, Written};
use tidewire_store_redis::{RedisConfig, RedisConnection, RedisTenantStore};
use tidewire_testkit::services::RedisServer;

use crate::redis::{command, config, connect};

async fn put(store: &RedisTenantStore, name: &str) {
    let tenant = Tenant::parse(name).expect("tenant");
    let write = TenantWrite {
        tenant: &tenant,
        expects: Expects::Revision(0),
        revision: 1,
        sealed: Some(b"sealed"),
        marks: &[[1; 16]],
        nonce: [3; 16],
        most: 10,
    };
    assert_eq!(store.write(write).await.expect("an answer"), Written::Done);
}

async fn changes(store: &RedisTenantStore, since: &Seen) -> Changes {
    store.changes(since).await.expect("changes")
}

#[tokio::test]
async fn of_a_redis_that_was_emptied_everything_is_read_anew() {
    let server = RedisServer::start().await;
    let store = RedisTenantStore::new(connect(&server));
    put(&store, "acme").await;
    let seen = changes(&store, &Seen::default()).await.seen;

    command(&server, &["FLUSHALL"]).await;
    let emptied = changes(&store, &seen).await;
    put(&store, "umbrella").await;
    let after = changes(&store, &emptied.seen).await;

    assert!(emptied.is_reset && emptied.entries.is_empty());
    assert!(!after.is_reset);
    assert_eq!(after.entries[0].tenant.as_str(), "umbrella");
}

#[tokio::test]
async fn functions_that_were_flushed_are_loaded_again() {
    let server = RedisServer::start().await;
    let store = RedisTenantStore::new(connect(&server));
    put(&store, "acme").await;

    command(&server, &["FUNCTION", "FLUSH"]).await;

    assert_eq!(changes(&store, &Seen::default()).await.entries.len(), 1);
}

#[tokio::test]
async fn two_prefixes_share_neither_tenants_nor_marks() {
    let server = RedisServer::start().await;
    let other = RedisConfig { prefix: "other".into(), ..config(&server.url()) };
    let other = RedisTenantStore::new(RedisConnection::new(other).expect("a configuration"));
    let store = RedisTenantStore::new(connect(&server));

    put(&store, "acme").await;
    put(&other, "umbrella").await;

    assert_eq!(changes(&store, &Seen::default()).await.entries.len(), 1);
    assert_eq!(changes(&other, &Seen::default()).await.entries.len(), 1);
}
