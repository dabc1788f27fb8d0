//! Tenants of all sizes: a few that are huge and very many that are tiny.

use tidewire_model::Tenant;

/// Tenants with their connections, the largest first.
pub(crate) struct Crowd {
    pub(crate) tenants: Vec<Sized>,
}

pub(crate) struct Sized {
    pub(crate) tenant: Tenant,
    pub(crate) connections: f64,
    /// Homes it should have.
    pub(crate) k: usize,
}

/// The size of the tenant of rank `r` is as `r` to the power of minus this.
const ZIPF: f64 = 1.1;
/// Nobody is larger.
const LARGEST: f64 = 2_000_000.0;
/// What a node holds on average.
const CONNECTIONS_PER_NODE: f64 = 250_000.0;
/// As docs/scaling.md counsels operators.
const CONNECTIONS_PER_HOME: f64 = 20_000.0;
/// As `tenants.homes` has it.
const FEWEST: usize = 2;
const MOST: usize = 64;

impl Crowd {
    pub(crate) fn draw(count: usize, nodes: usize, seed: u64) -> Self {
        let shares: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-ZIPF)).collect();
        let all: f64 = shares.iter().sum();
        let connections = CONNECTIONS_PER_NODE * nodes as f64;
        let sized = |(number, share): (usize, f64)| {
            let connections = (connections * share / all).min(LARGEST);
            let name = format!("{seed:x}-{number:x}");
            Sized {
                tenant: Tenant::parse(&name).expect("a valid name"),
                connections,
                k: homes(connections).min(nodes - 1),
            }
        };
        Self { tenants: shares.into_iter().enumerate().map(sized).collect() }
    }

    pub(crate) fn connections(&self) -> f64 {
        self.tenants.iter().map(|one| one.connections).sum()
    }

    pub(crate) fn pairs(&self) -> usize {
        self.tenants.iter().map(|one| one.k).sum()
    }
}

fn homes(connections: f64) -> usize {
    (FEWEST..MOST).find(|k| *k as f64 * CONNECTIONS_PER_HOME >= connections).unwrap_or(MOST)
}
