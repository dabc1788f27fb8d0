//! The registry of tenants, and the listener where it is changed.

use std::net::SocketAddr;

use tidewire_auth::SecretHash;
use tidewire_edge::{TenantRegistry, admin_router};

use super::{Server, listen};

/// How tenants are to be changed while the node runs.
pub(crate) struct Administration {
    pub(crate) registry: TenantRegistry,
    pub(crate) listen: SocketAddr,
    /// What operators have to send, if it is not enough to be on this machine.
    pub(crate) tokens: Vec<SecretHash>,
}

impl Server {
    /// Follows the registry from now on, and serves who changes it. Yields where.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub(crate) fn administer(&self, plan: Administration) -> anyhow::Result<SocketAddr> {
        let Administration { registry, listen, tokens } = plan;
        let listener = listen::on(listen)?;
        let address = listener.local_addr()?;
        let routes = admin_router(self.edge.clone(), registry.clone(), tokens);
        let (edge, stop) = (self.edge.clone(), self.stop.clone());
        self.tracker.spawn(async move { registry.follow(edge, stop).await });
        let (edge, stop) = (self.edge.clone(), self.stop.clone());
        self.tracker.spawn(async move { edge.serve_http(listener, routes, stop).await });
        Ok(address)
    }
}
