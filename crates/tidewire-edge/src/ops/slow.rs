//! Who reads too slowly, for operators.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tidewire_model::{ConnectionId, SessionId, Tenant};

use crate::Edge;

/// Clients of a node, or of a worker, that are behind with reading: how many, and those with the most
/// unsent.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Slowest {
    behind: usize,
    /// The one with the most first.
    clients: Vec<SlowClient>,
}

/// A client that is behind. Neither its user nor names of channels are told: those are the tenant's.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct SlowClient {
    #[serde(serialize_with = "in_hex")]
    pub(crate) connection: ConnectionId,
    pub(crate) tenant: Tenant,
    pub(crate) session: SessionId,
    pub(crate) unsent_bytes: usize,
    /// Since when it is behind, in milliseconds before now.
    pub(crate) behind_ms: u64,
    /// It has been for `server.slow_after`.
    pub(crate) is_slow: bool,
    /// The patterns of the rules whose channels it cannot be handed all of; null where there is none.
    pub(crate) rules: Vec<Option<String>>,
}

/// Clients that are named.
const MOST: usize = 20;

impl Slowest {
    pub(crate) fn add(&mut self, client: SlowClient) {
        self.behind += 1;
        let at = self.clients.partition_point(|one| one.unsent_bytes >= client.unsent_bytes);
        if at < MOST {
            self.clients.truncate(MOST - 1);
            self.clients.insert(at, client);
        }
    }

    pub(crate) fn join(&mut self, other: Self) {
        let unnamed = other.behind - other.clients.len();
        other.clients.into_iter().for_each(|client| self.add(client));
        self.behind += unnamed;
    }
}

pub(super) async fn slowest(State(edge): State<Edge>) -> Json<Slowest> {
    Json(edge.0.registry.slowest().await)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn in_hex<S: serde::Serializer>(id: &ConnectionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:016x}", id.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(unsent_bytes: usize) -> SlowClient {
        SlowClient {
            connection: ConnectionId(unsent_bytes as u64),
            tenant: Tenant::parse("acme").expect("tenant"),
            session: SessionId::from_bytes([1; 16]),
            unsent_bytes,
            behind_ms: 1,
            is_slow: false,
            rules: vec![None],
        }
    }

    #[test]
    fn those_with_the_most_unsent_are_named_and_all_are_counted() {
        let mut workers = [Slowest::default(), Slowest::default()];
        for number in 0..100 {
            workers[number % 2].add(client(number * 7 % 100));
        }

        let [mut all, other] = workers;
        all.join(other);

        let named: Vec<_> = all.clients.iter().map(|one| one.unsent_bytes).collect();
        assert_eq!(named, (80..100).rev().collect::<Vec<_>>());
        assert_eq!(all.behind, 100);
    }
}
