//! Tenants that come and go while nodes run: their documents in a store, followed by every node.
//!
//! Start from [`TenantRegistry`]. Every node has them all in memory, so that nobody who connects waits
//! for the store, and goes on with what it has when the store is away. What is not in the store says
//! nothing: one that was emptied removes nobody, and gets back what a node knows.

mod follow;
mod known;
mod write;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tidewire_auth::Vault;
use tidewire_model::{Retention, Tenant};
use tidewire_store::{StoreError, TenantStore};
use tidewire_tenant::{EditError, Incarnation, Problems, Tenants};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use self::known::Known;
pub(crate) use self::write::Condition;
use crate::Edge;

/// The tenants that are kept in a store: a cheap handle on what this node knows of them.
#[derive(Clone)]
pub struct TenantRegistry(Arc<Inner>);

/// What a registry is built from.
pub struct RegistryParts {
    pub store: Arc<dyn TenantStore>,
    /// What documents are sealed with: the same on every node.
    pub vault: Vault,
    /// Where what is read takes effect.
    pub tenants: Tenants,
    /// How much is kept of channels of which no rule says something else.
    pub history: Retention,
    /// How many tenants there may be in the store.
    pub most: usize,
}

struct Inner {
    parts: RegistryParts,
    known: Mutex<Known>,
    /// Held by who reads, so that changes take effect in the order of their versions.
    reading: tokio::sync::Mutex<()>,
    /// Something was written here, and the others are to be told again.
    written: Notify,
    /// Whose clients are disconnected when their tenant ends.
    edge: OnceLock<Edge>,
}

/// What is known of a tenant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Listed {
    pub(crate) name: Tenant,
    /// Nothing of one that is only in the node's file.
    pub(crate) revision: Option<u64>,
    pub(crate) origin: Origin,
}

/// Where a tenant comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// The node's file.
    File,
    Registry,
    /// It is in the registry too, where it has no effect on this node.
    Shadowed,
    /// The registry has it, and this node cannot read what it has.
    Unreadable,
}

/// How the registry is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    pub(crate) version: u64,
    /// Since the store was last read to its end.
    pub(crate) age: Option<Duration>,
    pub(crate) tenants: usize,
    pub(crate) unreadable: usize,
    /// Sealed with a key that is not the first any more, as long as which it has to stay.
    pub(crate) to_reseal: usize,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error("the tenant is in the node's file, which is where it can be changed")]
    Static,
    #[error("there is no tenant of that name")]
    Missing,
    #[error("the document is not one")]
    Bad(Problems),
    #[error("another change came first: the tenant is at revision {revision}")]
    Conflict { revision: u64 },
    #[error("tenant `{by}` has one of these keys, or this issuer")]
    KeyInUse { by: Tenant },
    #[error("tenant `{by}` has this issuer")]
    IssuerInUse { by: Tenant },
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("there are as many tenants as `registry.max_tenants` allows")]
    Full,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TenantRegistry {
    /// Nothing is known until [`follow`](Self::follow) has read the store once; until then tokens of
    /// tenants that are not known yet are not judged.
    pub fn new(parts: RegistryParts) -> Self {
        parts.tenants.expect_more();
        Self(Arc::new(Inner {
            parts,
            known: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            written: Notify::new(),
            edge: OnceLock::new(),
        }))
    }

    /// All tenants this node knows, by name.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let tenants = &self.0.parts.tenants;
        let known = self.0.known.lock();
        let mut list: Vec<_> = known
            .there()
            .map(|(name, revision)| Listed {
                name: name.clone(),
                revision: Some(revision),
                origin: match tenants.is_fixed(name) {
                    true => Origin::Shadowed,
                    false if known.is_unreadable(name) => Origin::Unreadable,
                    false => Origin::Registry,
                },
            })
            .collect();
        let in_store: HashSet<_> = list.iter().map(|listed| listed.name.clone()).collect();
        let of_file = tenants.fixed().filter(|name| !in_store.contains(name));
        list.extend(of_file.map(|name| Listed {
            name: name.clone(),
            revision: None,
            origin: Origin::File,
        }));
        list.sort_by(|one, other| one.name.cmp(&other.name));
        list
    }

    /// A tenant's document and its revision, if the store has one that can be read. It holds secrets.
    pub(crate) fn document(&self, tenant: &Tenant) -> Option<(u64, Vec<u8>)> {
        let (revision, _, text) = self.opened(tenant)?;
        Some((revision, text))
    }

    fn opened(&self, tenant: &Tenant) -> Option<(u64, Incarnation, Vec<u8>)> {
        let (revision, sealed) = self.0.known.lock().sealed(tenant)?;
        let opened = tidewire_tenant::open(&self.0.parts.vault, tenant, revision, &sealed);
        let (incarnation, text) = opened.ok()?;
        Some((revision, incarnation, text))
    }

    /// Whether the tenant is the node's file's.
    pub(crate) fn is_fixed(&self, tenant: &Tenant) -> bool {
        self.0.parts.tenants.is_fixed(tenant)
    }

    pub(crate) fn standing(&self) -> Standing {
        let known = self.0.known.lock();
        Standing {
            version: known.seen.version,
            age: known.read_at.map(|at| Instant::now() - at),
            tenants: known.there().count(),
            unreadable: known.unreadable.len(),
            to_reseal: known.sealed_otherwise(&self.0.parts.vault).count(),
        }
    }
}
