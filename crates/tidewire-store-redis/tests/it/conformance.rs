//! The suites of the ports.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use tidewire_broker::Retention;
use tidewire_broker::conformance::log::LogFactory;
use tidewire_model::ChannelRules;
use tidewire_store::conformance::{
    MembershipFactory, PresenceFactory, QuotaStoreFactory, RevocationStoreFactory,
    SessionStoreFactory, TenantStoreFactory, TicketStoreFactory,
};
use tidewire_store_redis::{
    Deployment, RedisConfig, RedisConnection, RedisLog, RedisMembership, RedisPresence,
    RedisQuotaStore, RedisRevocationStore, RedisSessionStore, RedisTenantStore, RedisTicketStore,
};
use tidewire_testkit::services::{RedisCluster, RedisServer};
use tokio::sync::Mutex;

/// A server, or a cluster; each store in it has a prefix of its own.
struct InRedis {
    deployment: Deployment,
    opened: AtomicU32,
    /// They end with the last who uses them.
    _servers: Servers,
}

enum Servers {
    Alone { _server: RedisServer },
    Shared { _cluster: Arc<RedisCluster> },
}

impl InRedis {
    /// In a server of its own.
    async fn start() -> Self {
        let server = RedisServer::start().await;
        let deployment = Deployment::Single { url: server.url() };
        Self { deployment, opened: AtomicU32::new(0), _servers: Servers::Alone { _server: server } }
    }

    /// In a cluster that those share who test at the same time: it is seconds until one is whole.
    async fn join() -> Self {
        static SHARED: Mutex<Weak<RedisCluster>> = Mutex::const_new(Weak::new());
        static JOINED: AtomicU32 = AtomicU32::new(1);
        let mut shared = SHARED.lock().await;
        let cluster = match shared.upgrade() {
            Some(cluster) => cluster,
            None => Arc::new(RedisCluster::start().await),
        };
        *shared = Arc::downgrade(&cluster);
        let deployment = Deployment::Cluster { urls: vec![cluster.url()] };
        let opened = AtomicU32::new(JOINED.fetch_add(1, Ordering::Relaxed) * MOST_STORES);
        Self { deployment, opened, _servers: Servers::Shared { _cluster: cluster } }
    }

    fn connect(&self) -> RedisConnection {
        let [connection] = self.connect_often();
        connection
    }

    /// So many connections to one and the same store.
    fn connect_often<const N: usize>(&self) -> [RedisConnection; N] {
        let prefix = format!("tw{}", self.opened.fetch_add(1, Ordering::Relaxed));
        let config = RedisConfig { prefix, ..RedisConfig::new(self.deployment.clone()) };
        [(); N].map(|()| RedisConnection::new(config.clone()).expect("a valid configuration"))
    }
}

/// More than a test opens.
const MOST_STORES: u32 = 1_000;

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
impl TicketStoreFactory for InRedis {
    type Store = RedisTicketStore;

    async fn open(&self) -> [Arc<RedisTicketStore>; 2] {
        self.connect_often().map(|connection| Arc::new(RedisTicketStore::new(connection)))
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
tidewire_store::ticket_store_conformance!(InRedis::start().await);

mod in_a_cluster {
    use super::InRedis;

    tidewire_broker::log_conformance!(InRedis::join().await);
    tidewire_store::session_store_conformance!(InRedis::join().await);
    tidewire_store::membership_conformance!(InRedis::join().await);
    tidewire_store::presence_conformance!(InRedis::join().await);
    tidewire_store::quota_store_conformance!(InRedis::join().await);
    tidewire_store::revocation_store_conformance!(InRedis::join().await);
    tidewire_store::tenant_store_conformance!(InRedis::join().await);
    tidewire_store::ticket_store_conformance!(InRedis::join().await);
}
