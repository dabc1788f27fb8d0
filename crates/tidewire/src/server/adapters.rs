//! Choosing what a node is built on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tidewire_broker::{LogError, MemoryBroker, MemoryLog, MemoryNetwork, Retention, SavedLog};
use tidewire_broker_nats::{NatsAuth, NatsBroker, NatsConfig};
use tidewire_model::{DeliveryClass, NodeId};
use tidewire_node::Ports;
use tidewire_store::{MemoryMembership, MemoryPresence, MemorySessionStore, SavedSession};
use tidewire_store_redis::{
    Deployment, RedisConfig, RedisConnection, RedisLog, RedisMembership, RedisPresence,
    RedisSessionStore,
};
use tidewire_tenant::Tenants;

use crate::config::{Config, Nats, NatsLogin, RedisTopology};

/// What one node by itself keeps.
pub(crate) struct Memory {
    log: Arc<MemoryLog>,
    sessions: Arc<MemorySessionStore>,
}

impl Default for Memory {
    /// Nothing yet.
    fn default() -> Self {
        Self { log: Arc::new(MemoryLog::new(Retention::default())), sessions: Arc::default() }
    }
}

impl Memory {
    /// What another node kept, `away` later.
    ///
    /// # Errors
    ///
    /// [`LogError::Corrupt`] if none can have kept that.
    pub(crate) fn restored(
        log: SavedLog,
        sessions: Vec<SavedSession>,
        away: Duration,
    ) -> Result<Self, LogError> {
        let log = MemoryLog::restored(Retention::default(), log, away)?;
        let sessions = MemorySessionStore::restored(sessions, away);
        Ok(Self { log: Arc::new(log), sessions: Arc::new(sessions) })
    }

    /// All of it, as it is now.
    pub(crate) fn saved(&self) -> (SavedLog, Vec<SavedSession>) {
        (self.log.saved(), self.sessions.saved())
    }

    pub(crate) fn ports(&self, node: &NodeId) -> Ports {
        Ports {
            log: self.log.clone(),
            broker: Arc::new(MemoryBroker::new(MemoryNetwork::default(), node.clone())),
            sessions: self.sessions.clone(),
            membership: Arc::new(MemoryMembership::default()),
            presence: Arc::new(MemoryPresence::default()),
        }
    }
}

/// The way to the Redis of a cluster, which does not have to be there yet.
pub(crate) fn redis(config: &Config) -> anyhow::Result<RedisConnection> {
    Ok(RedisConnection::new(redis_config(config))?)
}

/// A node of a cluster. Neither NATS nor Redis has to be there yet.
pub(crate) async fn cluster(
    config: &Config,
    redis: RedisConnection,
    (node, tenants): (&NodeId, &Tenants),
) -> anyhow::Result<Ports> {
    let log = RedisLog::new(redis.clone(), config.history);
    let broker = NatsBroker::connect(nats_config(&config.nats)?, node.clone()).await?;
    Ok(Ports {
        log: Arc::new(log.with_rules(tenants.rules().clone())),
        broker: Arc::new(broker),
        sessions: Arc::new(RedisSessionStore::new(redis.clone())),
        membership: Arc::new(RedisMembership::new(redis.clone())),
        presence: Arc::new(RedisPresence::new(redis)),
    })
}

fn redis_config(config: &Config) -> RedisConfig {
    let redis = &config.redis;
    let deployment = match &redis.topology {
        RedisTopology::Single { address } => Deployment::Single { url: address.clone() },
        RedisTopology::Sentinel { addresses, master_name } => Deployment::Sentinel {
            urls: addresses.clone(),
            master: master_name.clone(),
            database: 0,
            tls: addresses.iter().any(|address| address.starts_with("rediss:")),
        },
        RedisTopology::Cluster { addresses } => Deployment::Cluster { urls: addresses.clone() },
    };
    let mut prepared = RedisConfig::new(deployment);
    prepared.prefix.clone_from(&redis.prefix);
    prepared.durable_copies = redis.durable_copies;
    prepared.expects_copies = config.channel_rules.has(DeliveryClass::Durable);
    if let Some(login) = &redis.login {
        prepared.username.clone_from(&login.username);
        prepared.password = Some(login.password.expose().to_owned());
    }
    prepared
}

fn nats_config(nats: &Nats) -> anyhow::Result<NatsConfig> {
    let auth = match &nats.login {
        NatsLogin::Anonymous => NatsAuth::None,
        NatsLogin::User { user, password } => {
            NatsAuth::UserPassword { user: user.clone(), password: password.expose().to_owned() }
        }
        NatsLogin::Token(token) => NatsAuth::Token(token.expose().to_owned()),
        NatsLogin::Credentials(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read nats.credentials_file {}", file.display()))?;
            NatsAuth::Credentials(text)
        }
    };
    let (servers, prefix) = (nats.servers.clone(), nats.prefix.clone());
    Ok(NatsConfig { servers, prefix, auth, ..NatsConfig::default() })
}
