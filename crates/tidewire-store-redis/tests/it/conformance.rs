//! The suites of the ports.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use tidewire_broker::Retention;
use tidewire_broker::conformance::log::LogFactory;
use tidewire_model::ChannelRules;
use tidewire_store::conformance::{
    MembershipFactory, PresenceFactory, QuotaStoreFactory, RevocationStoreFactory,
    SessionStoreFactory, TenantStoreFactory,
};
use tidewire_store_redis::{
    RedisConfig, RedisConnection, RedisLog, RedisMembership, RedisPresence, RedisQuotaStore,
    RedisRevocationStore, RedisSessionStore, RedisTenantStore,
};
use tidewire_testkit::services::RedisServer;

use crate::redis::config;

/// A server of its own; each store in it has a prefix of its own.
struct InRedis {
    server: RedisServer,
    opened: AtomicU32,
}

impl InRedis {
    async fn start() -> Self {
        Self { server: RedisServer::start().await, opened: AtomicU32::new(0) }
    }

    fn connect(&self) -> RedisConnection {
        let prefix = format!("tw{}", self.opened.fetch_add(1, Ordering::Relaxed));
        let config = RedisConfig { prefix, ..config(&self.server.url()) };
        RedisConnection::new(config).expect("a valid configuration")
    }
}

#[async_trait]
impl LogFactory for InRedis {
    type Log = RedisLog;

    async fn open_with(&self, retention: Retention, rules: Arc<ChannelRules>) -> RedisLog {
        RedisLog::new(self.connect(), retention).with_rules(rules)
    }
}

#[async_trait]
impl SessionStoreFactory for InRedis {
    type Store = RedisSessionStore;

    async fn open(&self) -> RedisSessionStore {
        RedisSessionStore::new(self.connect())
    }
}

#[async_trait]
impl MembershipFactory for InRedis {
    type Membership = RedisMembership;

    async fn open(&self) -> RedisMembership {
        RedisMembership::new(self.connect())
    }
}

#[async_trait]
impl TenantStoreFactory for InRedis {
    type Store = RedisTenantStore;

    async fn open(&self) -> RedisTenantStore {
        RedisTenantStore::new(self.connect())
    }
}

#[async_trait]
impl PresenceFactory for InRedis {
    type Presence = RedisPresence;

    async fn open(&self) -> RedisPresence {
        RedisPresence::new(self.connect())
    }
}

#[async_trait]
impl RevocationStoreFactory for InRedis {
    type Store = RedisRevocationStore;

    async fn open(&self) -> RedisRevocationStore {
        RedisRevocationStore::new(self.connect())
    }
}

#[async_trait]
impl QuotaStoreFactory for InRedis {
    type Store = RedisQuotaStore;

    async fn open(&self) -> RedisQuotaStore {
        RedisQuotaStore::new(self.connect())
    }
}

tidewire_broker::log_conformance!(InRedis::start().await);
tidewire_store::session_store_conformance!(InRedis::start().await);
tidewire_store::membership_conformance!(InRedis::start().await);
tidewire_store::presence_conformance!(InRedis::start().await);
tidewire_store::quota_store_conformance!(InRedis::start().await);
tidewire_store::revocation_store_conformance!(InRedis::start().await);
tidewire_store::tenant_store_conformance!(InRedis::start().await);
