//! The registry of tenants, and the listener where it is changed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tidewire_auth::{SealKey, SecretHash, Vault, random_secret};
use tidewire_edge::{RegistryParts, TenantRegistry, admin_router};
use tidewire_model::Retention;
use tidewire_store::MemoryTenantStore;
use tidewire_tenant::Tenants;
use tokio::net::TcpListener;

use super::{Server, listen};

/// How tenants are to be changed while the node runs.
pub(crate) struct Administration {
    pub(crate) registry: TenantRegistry,
    pub(crate) listener: TcpListener,
    /// What operators have to send, if it is not enough to be on this machine.
    pub(crate) tokens: Vec<SecretHash>,
}

/// Where a node in memory is administered, if nobody is there already.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8002);
/// More than anybody tries out.
const MOST_IN_MEMORY: usize = 1_000;

impl Administration {
    /// Tenants that come beside those of a node in memory, and go with it; changed at the usual port of
    /// this machine, or at any that is free.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub(crate) fn in_memory(tenants: &Tenants) -> anyhow::Result<Self> {
        let registry = TenantRegistry::new(RegistryParts {
            store: Arc::new(MemoryTenantStore::default()),
            vault: Vault::new(&[SealKey::parse(&random_secret())?])?,
            tenants: tenants.clone(),
            history: Retention::default(),
            most: MOST_IN_MEMORY,
        });
        let any_port = SocketAddr::new(USUAL.ip(), 0);
        let listener = listen::on(USUAL).or_else(|_| listen::on(any_port))?;
        Ok(Self { registry, listener, tokens: Vec::new() })
    }
}

impl Server {
    /// Follows the registry from now on, and serves who changes it. Yields where.
    ///
    /// # Errors
    ///
    /// When the listener does not say where it is.
    pub(crate) fn administer(&self, plan: Administration) -> anyhow::Result<SocketAddr> {
        let Administration { registry, listener, tokens } = plan;
        let address = listener.local_addr()?;
        let routes = admin_router(self.edge.clone(), registry.clone(), tokens);
        let (edge, stop) = (self.edge.clone(), self.stop.clone());
        self.tracker.spawn(async move { registry.follow(edge, stop).await });
        let (edge, stop) = (self.edge.clone(), self.stop.clone());
        self.tracker.spawn(async move { edge.serve_http(listener, routes, stop).await });
        Ok(address)
    }
}
