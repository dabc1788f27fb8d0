//! A connection that is there, whatever it leads to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr,
};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, Value};
use tokio::time::Instant;

use crate::library;
use crate::simulated::{self, Server};

/// A connection, shared by all callers: commands go out in the order they are sent, without waiting
/// for replies.
#[derive(Clone)]
pub(crate) struct Established {
    pub(super) id: u64,
    pub(super) made: Instant,
    /// Set when the server has closed it: what is sent from then on is known not to arrive.
    pub(super) closed: Arc<AtomicBool>,
    /// Which server it leads to; `None` for all of a cluster.
    pub(super) address: Option<String>,
    pub(super) wire: Wire,
}

#[derive(Clone)]
pub(super) enum Wire {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
    Simulated(Arc<dyn Server>),
}

impl Established {
    pub(crate) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match &mut self.wire {
            Wire::Node(connection) => command.query_async(connection).await,
            Wire::Cluster(connection) => send_in_cluster(connection, command).await,
            Wire::Simulated(server) => simulated::send(&**server, command).await,
        }
    }

    /// Sends two commands with nothing between them: to the server that has `slot` of a cluster, or
    /// to the one that there is.
    pub(crate) async fn send_both(
        &mut self,
        [first, second]: [&Cmd; 2],
        slot: u16,
    ) -> RedisResult<[Value; 2]> {
        let mut both = redis::pipe();
        both.add_command(first.clone()).add_command(second.clone());
        let answers = match &mut self.wire {
            Wire::Node(connection) => connection.send_packed_commands(&both, 0, 2).await?,
            Wire::Cluster(connection) => {
                let primary = Route::new(slot, SlotAddr::Master);
                let server = SingleNodeRoutingInfo::SpecificNode(primary);
                connection.route_pipeline(both, 0, 2, server).await?
            }
            Wire::Simulated(server) => {
                let first = simulated::send(&**server, first).await?;
                return Ok([first, simulated::send(&**server, second).await?]);
            }
        };
        let [first, second] = <[Value; 2]>::try_from(answers)
            .map_err(|_| (ErrorKind::UnexpectedReturnType, "not two answers"))?;
        Ok([first.extract_error()?, second.extract_error()?])
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.wire {
            Wire::Simulated(server) => server.is_closed(),
            Wire::Node(_) | Wire::Cluster(_) => self.closed.load(Ordering::Relaxed),
        }
    }

    pub(crate) async fn send_to_primaries(
        &mut self,
        command: &Cmd,
    ) -> RedisResult<Vec<(String, Value)>> {
        let server = self.address.clone().unwrap_or_default();
        match &mut self.wire {
            Wire::Node(connection) => {
                let answer = command.query_async(connection).await?;
                Ok(vec![(server, answer)])
            }
            Wire::Cluster(connection) => {
                let primaries = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let answers = connection.route_command(command.clone(), primaries).await?;
                Ok(BTreeMap::from_redis_value(answers)?.into_iter().collect())
            }
            Wire::Simulated(simulated) => {
                Ok(vec![(server, simulated::send(&**simulated, command).await?)])
            }
        }
    }

    /// On every primary, if it is not there already.
    pub(crate) async fn load_functions(&mut self) -> RedisResult<()> {
        match self.send(&library::load()).await {
            Err(error) if !library::is_loaded_already(&error) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Follows a slot that has moved, once. The client only asks any server where all slots are now, and
/// that one may hear of a move seconds later. Who is told to ask elsewhere is not followed: see
/// `functions.lua`.
async fn send_in_cluster(connection: &mut ClusterConnection, command: &Cmd) -> RedisResult<Value> {
    let moved = match command.query_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) => error,
        answer => return answer,
    };
    let Some((host, port)) = moved.redirect_node().and_then(|(node, _)| node.rsplit_once(':'))
    else {
        return Err(moved);
    };
    let (host, Ok(port)) = (host.to_owned(), port.parse()) else { return Err(moved) };
    let server = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
    match connection.route_command(command.clone(), server).await {
        // Not a server that there is a connection to: it was not sent.
        Err(error) if is_unsent(error.kind()) => Err(moved),
        answer => answer?.extract_error(),
    }
}

fn is_unsent(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Client | ErrorKind::ClusterConnectionNotFound)
}
