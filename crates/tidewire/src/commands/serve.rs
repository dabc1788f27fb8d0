use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use tidewire_auth::Vault;
use tidewire_edge::{DrainConfig, EdgeConfig, RegistryParts, TenantRegistry};
use tidewire_model::NodeId;
use tidewire_node::NodeConfig;
use tidewire_store_redis::{
    RedisConnection, RedisQuotaStore, RedisRevocationStore, RedisTenantStore, RedisTicketStore,
};
use tidewire_tenant::Tenants;

use crate::cli::Serve;
use crate::config::{Config, generated_node_id, slot_of};
use crate::server::administration::Administration;
use crate::server::inspection::Inspection;
use crate::server::{
    Bound, Place, Plan, Server, adapters, certificates, descriptors, issuers, listen, telemetry,
    threads,
};

pub(crate) fn run(serve: &Serve) -> anyhow::Result<ExitCode> {
    let config = super::config::load(serve.config.path.as_deref())?.config;
    config.ready_to_serve()?;
    telemetry::start_logging(&config.log.level, config.log.format)?;
    super::runtime()?.block_on(run_node(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn run_node(config: Config) -> anyhow::Result<()> {
    let (handle, render) = telemetry::start_metrics()?;
    let certificates = certificates::keep_up(config.tls.clone())?;
    telemetry::set_state("starting");
    provide_descriptors(config.server.max_connections);
    let node = config.node_id.clone().unwrap_or_else(|| generated_node_id(&hostname()));
    let redis = adapters::redis(&config)?;
    let inspection = Inspection::begin(redis.clone()).await?;
    let tenants = config.tenants();
    let administration = administration(&config, &redis, &tenants)?;
    let revocations = Arc::new(RedisRevocationStore::new(redis.clone()));
    let tickets = Arc::new(RedisTicketStore::new(redis.clone()));
    let vault = Vault::new(&config.session.resume_keys)?;
    let plan = Plan {
        node: node_config(&config, node.clone()),
        edge: edge_config(&config),
        quotas: Arc::new(RedisQuotaStore::new(redis.clone())),
        ports: adapters::cluster(&config, redis, (&node, &tenants)).await?,
        verifier: config.verifier(tenants.ring().clone()),
        tenants,
        sealer: config.sealer().expect("a configuration that is ready to serve has a key"),
        revocations,
        tickets: (tickets, vault),
        render,
        fetch: issuers::fetch(&config.issuers.roots, config.issuers.guard.clone()),
        memory_limit: config.server.memory_limit,
        place: Place {
            slot: config.slot.clone().unwrap_or_else(|| slot_of(&hostname())),
            weight: config.weight,
            advertise: config.server.advertise.clone(),
        },
    };
    let workers = config.server.workers.unwrap_or_else(threads::one_per_core);
    let bound = Bound::to(config.listen.clients, Some(config.listen.ops), workers)?;
    let server = Server::start(bound, plan, Router::new())?;
    let admin = administration.map(|plan| server.administer(plan)).transpose()?;
    tracing::info!(
        node = %server.node_id(),
        clients = %server.address,
        ops = %server.ops_address,
        workers = server.workers(),
        tenants = config.auth.ring.tenants().count(),
        version = env!("CARGO_PKG_VERSION"),
        "node is up"
    );
    if let Some(admin) = admin {
        tracing::info!(%admin, "tenants can be changed");
    }
    let housekeeping = async {
        tokio::join!(inspection.finish(), telemetry::keep_up(handle), certificates);
    };
    tokio::select! {
        outcome = server.run() => outcome,
        () = housekeeping => Ok(()),
    }
}

/// Nothing if the tenants of the file are all there are.
fn administration(
    config: &Config,
    redis: &RedisConnection,
    tenants: &Tenants,
) -> anyhow::Result<Option<Administration>> {
    let Some(registry) = &config.registry else { return Ok(None) };
    let parts = RegistryParts {
        store: Arc::new(RedisTenantStore::new(redis.clone())),
        vault: Vault::new(&registry.keys)?,
        tenants: tenants.clone(),
        history: config.history,
        most: registry.max_tenants,
    };
    let (listener, tokens) = (listen::on(registry.listen)?, registry.tokens.clone());
    let registry = TenantRegistry::new(parts);
    Ok(Some(Administration { registry, listener, tokens }))
}

/// What is missing is no reason not to serve those who fit.
fn provide_descriptors(max_connections: usize) {
    match descriptors::raise() {
        Ok(descriptors) => {
            if let Some(shortage) = descriptors::shortage(max_connections, descriptors) {
                tracing::warn!("{shortage}");
            }
        }
        Err(error) => tracing::warn!(%error, "cannot raise the limit on file descriptors"),
    }
}

fn node_config(config: &Config, node: NodeId) -> NodeConfig {
    NodeConfig { resume_window: config.session.resume_window, ..NodeConfig::new(node) }
}

fn edge_config(config: &Config) -> EdgeConfig {
    let (server, drain) = (&config.server, &config.drain);
    EdgeConfig {
        max_connections: server.max_connections,
        connect_timeout: server.connect_timeout,
        message_timeout: server.message_timeout,
        ping_interval: server.ping_interval,
        slow_after: server.slow_after,
        write_timeout: server.write_timeout,
        placement: config.placement,
        expiry_notice: config.auth.notice,
        expiry_grace: config.auth.grace,
        when_cut_off: config.auth.when_cut_off,
        allowed_origins: server.allowed_origins.clone(),
        tenant_metrics: config.tenant_metrics,
        drain: DrainConfig {
            announce: drain.announce,
            rate: drain.rate,
            window: drain.window,
            deadline: drain.deadline,
        },
        max_message_bytes: server.max_message_bytes,
        compression: server.compression,
        door: server.door.clone(),
        tls: config.tls.as_ref().map(|tls| Arc::clone(&tls.server)),
        limits: config.limits,
        ..EdgeConfig::default()
    }
}

/// The machine's name, which a container's orchestrator chooses.
fn hostname() -> String {
    std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .unwrap_or_else(|_| "node".into())
}
