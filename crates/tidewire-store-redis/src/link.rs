//! Getting and keeping a connection.

mod established;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::SendError;
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, FromRedisValue, PushInfo, PushKind, RedisResult,
};
use tidewire_model::Random;
use tokio::time::{Instant, timeout};

pub(crate) use self::established::Established;
use self::established::Wire;
use crate::config::{RedisConfig, Servers, Target};
use crate::error;
use crate::metric::Metrics;

/// The one connection of a process to its Redis. It is made at the first call and again at the
/// first call after it was lost, with a back-off between attempts; until that has passed, callers
/// hear at once why the last attempt failed.
pub(crate) struct Link {
    target: Target,
    deadline: Duration,
    random: Random,
    current: Mutex<Option<Established>>,
    /// Whether what is in use may lead to a server that was replaced.
    doubted: AtomicBool,
    /// Held while connecting, so that one caller connects and the others wait for it.
    attempts: tokio::sync::Mutex<Attempts>,
}

#[derive(Default)]
struct Attempts {
    made: u64,
    failed: Option<Failed>,
}

struct Failed {
    reason: String,
    in_a_row: u32,
    retry_at: Instant,
}

impl Link {
    /// A link to `target`, which is what `config` says.
    pub(crate) fn new(target: Target, config: &RedisConfig) -> Self {
        Self {
            target,
            deadline: config.deadline,
            random: config.random.clone(),
            current: Mutex::default(),
            doubted: AtomicBool::new(false),
            attempts: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.target.address
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.target.servers, Servers::Cluster(_))
    }

    /// The connection, made now if there is none, or why there is none.
    pub(crate) async fn established(&self, metrics: &Metrics) -> Result<Established, String> {
        if let Some(established) = self.open_connection() {
            return Ok(self.sure_of(established, metrics).await);
        }
        let mut attempts = self.attempts.lock().await;
        if let Some(established) = self.open_connection() {
            return Ok(established);
        }
        if let Some(failed) = &attempts.failed
            && Instant::now() < failed.retry_at
        {
            return Err(failed.reason.clone());
        }
        let connected = self.connect(attempts.next()).await;
        metrics.set_up(connected.is_ok());
        match connected {
            Ok(established) => {
                tracing::info!(address = self.address(), "connected to redis");
                self.take_up(&mut attempts, &established);
                Ok(established)
            }
            Err(reason) => {
                attempts.fail(self.address(), &reason, &self.random);
                Err(reason)
            }
        }
    }

    /// The connection in use or, if it is doubted, one that was made beside it, which replaces it.
    /// One caller connects, and not for long; the others go on with what there is, and so do all when
    /// no other can be made. Cancel-safe: the doubt is dropped.
    async fn sure_of(&self, in_use: Established, metrics: &Metrics) -> Established {
        if !self.doubted.load(Ordering::Relaxed) {
            return in_use;
        }
        let Ok(mut attempts) = self.attempts.try_lock() else { return in_use };
        if !self.doubted.swap(false, Ordering::Relaxed) {
            return in_use;
        }
        match timeout(ASIDE, self.connect(attempts.next())).await {
            Ok(Ok(established)) => {
                tracing::debug!(address = self.address(), "connected to redis anew, in doubt");
                self.take_up(&mut attempts, &established);
                metrics.set_up(true);
                established
            }
            failed => {
                let reason = failed.map_or_else(
                    |_| format!("not within {ASIDE:?}"),
                    |failed| failed.err().unwrap_or_default(),
                );
                tracing::debug!(address = self.address(), reason, "keeping what is in doubt");
                in_use
            }
        }
    }

    fn take_up(&self, attempts: &mut Attempts, established: &Established) {
        attempts.failed = None;
        self.doubted.store(false, Ordering::Relaxed);
        *self.current.lock() = Some(established.clone());
    }

    /// Has the next call ask anew where the primary is, without letting go of what is in use.
    pub(crate) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    fn open_connection(&self) -> Option<Established> {
        let current = self.current.lock();
        current.as_ref().filter(|current| !current.is_closed()).cloned()
    }

    /// Lets go of a connection, so that the next call makes a new one and asks again where the
    /// primary is. Calls under way keep theirs.
    pub(crate) fn discard(&self, lost: &Established, metrics: &Metrics) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|current| current.id == lost.id) {
            *current = None;
            metrics.set_up(false);
        }
    }

    /// As [`Link::discard`], unless the connection is newer than that.
    pub(crate) fn discard_made_before(&self, moment: Instant, metrics: &Metrics) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|current| current.made < moment) {
            *current = None;
            metrics.set_up(false);
        }
    }

    /// Whether those who decide agree that the server in use is the primary: a majority of the
    /// sentinels that are configured, or the cluster.
    pub(crate) async fn is_agreed_primary(&self) -> bool {
        let Some(mut current) = self.current.lock().clone() else { return false };
        match &self.target.servers {
            Servers::Single(_) => true,
            Servers::Simulated(servers) => servers.primary().await == current.address,
            Servers::Sentinel { sentinels, master, .. } => {
                let mut votes = 0;
                for sentinel in sentinels {
                    let primary = ask_for_primary(sentinel, master, self.deadline / 4).await;
                    votes += usize::from(primary.is_some() && primary == current.address);
                }
                votes > sentinels.len() / 2
            }
            Servers::Cluster(_) => {
                let info = current.send(redis::cmd("CLUSTER").arg("INFO")).await;
                let info = info.and_then(|info| Ok(String::from_redis_value(info)?));
                info.is_ok_and(|info| info.lines().any(|line| line == "cluster_state:ok"))
            }
        }
    }

    async fn connect(&self, id: u64) -> Result<Established, String> {
        let connecting = async {
            let made = Instant::now();
            let closed = Arc::new(AtomicBool::new(false));
            let (address, wire) = self.open(&closed).await?;
            let mut established = Established { id, made, closed, address, wire };
            established.load_functions().await?;
            Ok(established)
        };
        match timeout(self.deadline, connecting).await {
            Ok(connected) => connected.map_err(|error| error::reason(&error)),
            Err(_) => Err(format!("no connection within {:?}", self.deadline)),
        }
    }

    async fn open(&self, closed: &Arc<AtomicBool>) -> RedisResult<(Option<String>, Wire)> {
        match &self.target.servers {
            Servers::Single(server) => open_node(&Client::open(server.clone())?, closed).await,
            Servers::Sentinel { sentinels, master, node, tls } => {
                let mut node =
                    SentinelNodeConnectionInfo::default().set_redis_connection_info(node.clone());
                if *tls {
                    node = node.set_tls_mode(redis::TlsMode::Secure);
                }
                let mut sentinel = Sentinel::build(sentinels.clone())?;
                open_node(&sentinel.async_master_for(master, Some(&node)).await?, closed).await
            }
            Servers::Cluster(seeds) => {
                // The client must not repeat a call whose reply was lost: an append would be stored
                // twice. It does follow the cluster's changes.
                let client = redis::cluster::ClusterClientBuilder::new(seeds.clone())
                    .retries(0)
                    .connection_timeout(self.deadline)
                    .response_timeout(self.deadline)
                    .overall_response_timeout(None)
                    .build()?;
                Ok((None, Wire::Cluster(client.get_async_connection().await?)))
            }
            Servers::Simulated(servers) => {
                let server = servers.connect().await.map_err(std::io::Error::other)?;
                Ok((Some(server.address()), Wire::Simulated(server)))
            }
        }
    }
}

async fn open_node(
    client: &Client,
    closed: &Arc<AtomicBool>,
) -> RedisResult<(Option<String>, Wire)> {
    let closed = Arc::clone(closed);
    let note_end = move |push: PushInfo| {
        if push.kind == PushKind::Disconnection {
            closed.store(true, Ordering::Relaxed);
        }
        Ok::<(), SendError>(())
    };
    // Whoever calls has a deadline of their own.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_push_sender(note_end);
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let address = client.get_connection_info().addr().to_string();
    Ok((Some(address), Wire::Node(connection)))
}

/// Which server a sentinel takes for the primary, as `host:port`.
async fn ask_for_primary(
    sentinel: &ConnectionInfo,
    master: &str,
    patience: Duration,
) -> Option<String> {
    let asking = async {
        let mut connection =
            Client::open(sentinel.clone())?.get_multiplexed_async_connection().await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        question.query_async::<Option<(String, u16)>>(&mut connection).await
    };
    let (host, port) = timeout(patience, asking).await.ok()?.ok()??;
    Some(format!("{host}:{port}"))
}

impl Attempts {
    /// The id of the connection that is tried next.
    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn fail(&mut self, address: &str, reason: &str, random: &Random) {
        let in_a_row = self.failed.as_ref().map_or(1, |failed| failed.in_a_row + 1);
        if in_a_row == 1 {
            tracing::warn!(address, reason, "cannot connect to redis, trying on");
        } else {
            tracing::debug!(address, reason, in_a_row, "still cannot connect to redis");
        }
        let retry_at = Instant::now() + back_off(in_a_row, random);
        self.failed = Some(Failed { reason: reason.into(), in_a_row, retry_at });
    }
}

/// Doubles from 50 ms to 2 s, minus up to a quarter, so that the nodes of a cluster do not all come
/// back at once.
fn back_off(failures: u32, random: &Random) -> Duration {
    let full = FIRST_BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let full = full.min(LONGEST_BACK_OFF);
    let percent = u32::try_from(random.draw() % 25).expect("below 25");
    full * (100 - percent) / 100
}

/// How long a call may wait for a connection beside one that works.
const ASIDE: Duration = Duration::from_millis(500);
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tidewire_testkit::services::RedisServer;

    use super::*;
    use crate::Deployment;

    #[tokio::test]
    async fn the_end_of_an_idle_connection_is_noticed_before_anything_is_sent() {
        let mut server = RedisServer::start().await;
        let config = RedisConfig::new(Deployment::Single { url: server.url() });
        let link = Link::new(Target::check(&config).expect("valid"), &config);
        let metrics = Metrics::new();
        link.established(&metrics).await.expect("the server is there");

        server.kill();
        let noticed = async {
            while link.open_connection().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), noticed).await.expect("it is noticed");

        let refused = link.established(&metrics).await.err();
        assert_eq!(refused.as_deref(), Some("connection refused"));
    }

    #[test]
    fn the_back_off_doubles_up_to_two_seconds() {
        for (failures, full) in [(1, 50), (2, 100), (5, 800), (7, 2_000), (u32::MAX, 2_000)] {
            let full = Duration::from_millis(full);

            let back_off = back_off(failures, &Random::new(|| 24));

            assert!(back_off > full / 4 * 3 && back_off <= full, "{failures}: {back_off:?}");
        }
    }
}
