//! Where a tenant is at home, as far as those of its clients are concerned who come here.

use std::sync::Arc;

use parking_lot::Mutex;
use tidewire_model::Tenant;
use tidewire_node::{AtHome, Node, placement};
use tidewire_store::NodeLease;
use tokio::time::Duration;

use crate::drain::{is_hot, some_of};

/// A tenant's homes, as they were found lately: who asks again pays for no hash, and no lease is read.
#[derive(Debug)]
pub(crate) struct Homes {
    tenant: Tenant,
    /// How many it should have.
    k: usize,
    at_home: AtHome,
    urls: Mutex<Urls>,
}

/// Where homes are reached, and when that was looked up, counted from when the edge began.
#[derive(Debug, Default)]
struct Urls {
    known: Arc<[String]>,
    looked_at: Option<Duration>,
}

/// What leases say is a second old anyway.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Homes {
    pub(super) fn new(tenant: Tenant, k: usize) -> Self {
        Self { tenant, k, at_home: AtHome::default(), urls: Mutex::default() }
    }

    /// Whether the tenant is at home on this node.
    pub(crate) fn are_here(&self, node: &Node) -> bool {
        node.is_home(&self.tenant, self.k, &self.at_home)
    }

    /// Where some of its homes are reached, other than this node, that have said where and keep up with
    /// who comes. In an order of their own for everybody who asks, so that clients spread.
    pub(crate) fn endpoints(&self, node: &Node, now: Duration) -> Vec<String> {
        let known = self.known(node, now);
        let draw = getrandom::u64().unwrap_or_default();
        some_of(known.iter().map(String::as_str).collect(), draw)
    }

    fn known(&self, node: &Node, now: Duration) -> Arc<[String]> {
        let mut urls = self.urls.lock();
        if urls.looked_at.is_none_or(|at| now.saturating_sub(at) >= LOOK_EVERY) {
            let homes = placement(&self.tenant, &node.members(), self.k).homes;
            let is_open = |lease: &NodeLease| lease.node != *node.id() && !is_hot(&lease.load);
            let homes = homes.into_iter().filter(is_open);
            urls.known = homes.filter_map(|lease| lease.url).collect();
            urls.looked_at = Some(now);
        }
        Arc::clone(&urls.known)
    }
}
