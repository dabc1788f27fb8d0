//! Three nodes on three NATS servers and a watched Redis, with a proxy on every link.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tidewire_client::Options;
use tidewire_model::Tenant;
use tidewire_testkit::services::{NatsServer, RedisCluster, RedisServer, SentinelServer};

use crate::clock::{Clock, Clocks};
use crate::node::NodeProcess;
use crate::proxy::Proxy;
use crate::wait::until;

pub(crate) use parts::api_key;

mod parts;

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `tidewire` to run.
    pub program: PathBuf,
    /// How long the primary must be silent for the Sentinels to promote the replica.
    pub down_after: Duration,
    /// Publications that a channel keeps.
    pub history: u32,
    /// How long it keeps them, as a configuration says it.
    pub history_ttl: &'static str,
    pub redis: RedisLayout,
    /// Whether clocks of nodes and Redis can be set.
    pub has_clocks: bool,
    /// Each node knows one NATS server only, that of its number.
    pub is_nats_pinned: bool,
    /// What the configuration of the NATS servers has beside their addresses.
    pub nats_config: &'static str,
    /// A tenant beside the others, with these limits of its own.
    pub noisy_limits: Option<&'static str>,
}

/// What Redis is, and how nodes reach it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RedisLayout {
    /// A primary with a replica, and Sentinels that say which is which; all over one proxy for each.
    Watched,
    /// The same, but each node reaches the first server over a link of its own, and no other.
    Private,
    /// A cluster of three primaries, without proxies.
    Sharded,
}

impl Setup {
    /// Sentinels that fail over to nobody, channels that keep all there is, and nodes that may go to any
    /// NATS server.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            down_after: NO_FAILOVER,
            history: 100_000,
            history_ttl: "1h",
            redis: RedisLayout::Watched,
            has_clocks: false,
            is_nats_pinned: false,
            nats_config: "",
            noisy_limits: None,
        }
    }
}

/// The processes, and the links between them. Dropping it kills them.
pub struct Cluster {
    /// First, so that nodes end before what they need.
    pub nodes: Vec<Option<NodeProcess>>,
    /// Between clients and the node of that number.
    pub client_links: Vec<Proxy>,
    /// By node, then by NATS server.
    pub nats_links: Vec<Vec<Proxy>>,
    /// Between NATS servers.
    pub routes: Vec<Proxy>,
    pub nats: Vec<NatsServer>,
    /// Between everybody and the Redis server of that number; replication passes there too.
    pub redis_links: Vec<Proxy>,
    /// Between the node of that number and the first Redis server, where it is the only way there.
    pub own_redis_links: Vec<Proxy>,
    pub redis: Vec<RedisServer>,
    pub sentinels: Vec<SentinelServer>,
    sharded: Option<RedisCluster>,
    clocks: Option<Clocks>,
    setup: Setup,
    directory: TempDir,
}

/// Sentinels that wait this long promote nobody in a row: on a machine that is busy a primary that is well may
/// not answer for a second.
const NO_FAILOVER: Duration = Duration::from_mins(1);
/// For rows in which somebody is to be promoted.
pub(crate) const FAILOVER: Duration = Duration::from_secs(2);
pub(crate) const NODES: usize = 3;
pub(crate) const TENANTS: [&str; 2] = ["acme", "globex"];
/// Is there in some setups.
pub(crate) const NOISY: &str = "noisy";
const PATIENCE: Duration = Duration::from_secs(30);
/// Of what a token may be good for, so that a clock may be wrong.
const HALF_A_DAY: i64 = 12 * 3_600;

impl Cluster {
    /// Starts everything, and waits until the nodes are ready and the replica is in step.
    pub async fn start(setup: Setup) -> Result<Self> {
        let directory = TempDir::with_prefix("tidewire-chaos-")?;
        let (routes, nats) = parts::start_nats(&directory, setup.nats_config).await?;
        let clocks = setup.has_clocks.then(|| Clocks::new(directory.path())).transpose()?;
        let mut cluster = Self {
            nodes: Vec::new(),
            client_links: Vec::new(),
            nats_links: Vec::new(),
            routes,
            nats,
            redis_links: Vec::new(),
            own_redis_links: Vec::new(),
            redis: Vec::new(),
            sentinels: Vec::new(),
            sharded: None,
            clocks,
            setup,
            directory,
        };
        if cluster.setup.redis == RedisLayout::Sharded {
            cluster.sharded = Some(RedisCluster::start().await);
        } else {
            cluster.start_watched_redis().await?;
        }
        for number in 0..NODES {
            let mut links = Vec::new();
            for server in &cluster.nats {
                links.push(Proxy::start(server.address()).await?);
            }
            cluster.nats_links.push(links);
            if cluster.setup.redis == RedisLayout::Private {
                let own = Proxy::start(cluster.redis[0].address()).await?;
                cluster.own_redis_links.push(own);
            }
            let node = cluster.start_node(number).await?;
            cluster.client_links.push(Proxy::start(node.clients()).await?);
            cluster.nodes.push(Some(node));
        }
        cluster.until_ready().await?;
        Ok(cluster)
    }

    /// Starts node `number` again, behind the same proxy, and waits until all are ready.
    pub async fn restart_node(&mut self, number: usize) -> Result<()> {
        self.begin_node(number).await?;
        self.until_ready().await
    }

    /// Starts node `number` again, behind the same proxy; it may have to wait for its services.
    pub async fn begin_node(&mut self, number: usize) -> Result<()> {
        self.nodes[number] = None;
        let node = self.start_node(number).await?;
        self.client_links[number].lead_to(node.clients());
        self.nodes[number] = Some(node);
        Ok(())
    }

    pub fn node(&self, number: usize) -> Result<&NodeProcess> {
        self.nodes[number].as_ref().with_context(|| format!("node {number} is not there"))
    }

    /// Kills it.
    pub fn kill_node(&mut self, number: usize) -> Result<()> {
        let mut node = self.nodes[number].take().context("it is there")?;
        node.kill()
    }

    /// The clocks of its processes, of a setup that has them.
    pub fn clocks(&self) -> Result<&Clocks> {
        self.clocks.as_ref().context("a setup with clocks")
    }

    /// The primaries that share what there is, of a setup that has them.
    pub fn sharded(&self) -> Result<&RedisCluster> {
        self.sharded.as_ref().context("a setup with a cluster of Redis")
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = &NodeProcess> {
        self.nodes.iter().flatten()
    }

    /// Waits until every node that runs is ready.
    pub async fn until_ready(&self) -> Result<()> {
        for node in self.running() {
            until("a ready node", PATIENCE, async || node.is_ready().await).await?;
        }
        Ok(())
    }

    /// Which of the Redis servers most Sentinels hold for the primary.
    pub async fn primary(&self) -> Option<usize> {
        let mut votes = vec![0; self.redis.len()];
        for sentinel in &self.sentinels {
            let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"];
            let answer = sentinel.command(&question).await.unwrap_or_default();
            let port = answer.lines().nth(1)?.parse::<u16>().ok()?;
            let is_it = |link: &Proxy| link.address().port() == port;
            votes[self.redis_links.iter().position(is_it)?] += 1;
        }
        votes.iter().position(|votes| votes * 2 > self.sentinels.len())
    }

    /// Waits until the server of this number is the primary to most Sentinels and to itself.
    pub async fn until_primary(&self, number: usize) -> Result<Duration> {
        until("a promoted replica", PATIENCE, async || {
            self.primary().await == Some(number) && self.replication(number, "role:master").await
        })
        .await
    }

    /// Waits until the other server follows the primary `number`, in step.
    pub async fn until_followed(&self, number: usize) -> Result<Duration> {
        until("a replica in step", PATIENCE, async || {
            self.replication(1 - number, "master_link_status:up").await
                && self.replication(number, "state=online").await
        })
        .await
    }

    /// Whether a server's `INFO replication` has this in it.
    pub async fn replication(&self, number: usize, what: &str) -> bool {
        let told = self.redis[number].command(&["INFO", "replication"]).await;
        told.is_ok_and(|told| told.contains(what))
    }

    /// How a client of `tenant` connects: to node `first`, and to the others in turn when it is lost.
    pub fn options(&self, tenant: &str, user: &str, first: usize) -> Options {
        let mut options = Options::new(String::new(), parts::token(tenant, user, HALF_A_DAY));
        options.urls =
            self.client_links.iter().map(|link| format!("ws://{}", link.address())).collect();
        options.urls.rotate_left(first % NODES);
        options.tenant = Some(Tenant::parse(tenant).expect("a valid name"));
        options
    }

    /// The same, with a token that runs out in so many seconds.
    pub fn options_for(&self, tenant: &str, user: &str, first: usize, seconds: i64) -> Options {
        let token = parts::token(tenant, user, seconds).into();
        Options { token, ..self.options(tenant, user, first) }
    }

    async fn start_watched_redis(&mut self) -> Result<()> {
        (self.redis_links, self.redis) = parts::start_redis(self.clocks.as_ref()).await?;
        let (primary, patience) = (self.redis_links[0].address(), self.setup.down_after);
        self.sentinels = parts::start_sentinels(primary, patience).await?;
        self.until_watched().await
    }

    async fn until_watched(&self) -> Result<()> {
        self.until_followed(0).await?;
        until("Sentinels that know each other and the replica", PATIENCE, async || {
            for sentinel in &self.sentinels {
                let told = sentinel.command(&["SENTINEL", "MASTER", "main"]).await;
                let told = told.unwrap_or_default();
                let knows = |field: &str, count: &str| {
                    let mut lines = told.lines().skip_while(|line| *line != field);
                    lines.nth(1) == Some(count)
                };
                if !knows("num-slaves", "1") || !knows("num-other-sentinels", "2") {
                    return false;
                }
            }
            true
        })
        .await?;
        Ok(())
    }

    async fn start_node(&self, number: usize) -> Result<NodeProcess> {
        let file = self.directory.path().join(format!("node-{number}.toml"));
        std::fs::write(&file, self.config(number))?;
        let clock = self.clocks.as_ref().map(|clocks| &clocks.nodes[number]);
        let environment = clock.map_or(&[][..], Clock::environment);
        NodeProcess::start(&self.setup.program, &file, environment).await
    }

    fn config(&self, number: usize) -> String {
        let links = &self.nats_links[number];
        let known = if self.setup.is_nats_pinned { number..number + 1 } else { 0..links.len() };
        let list = |addresses: Vec<String>| addresses.join("\", \"");
        let servers =
            list(links[known].iter().map(|link| format!("nats://{}", link.address())).collect());
        let redis = if let Some(sharded) = &self.sharded {
            format!("mode = \"cluster\"\naddresses = [\"{}\"]", sharded.url())
        } else if let Some(own) = self.own_redis_links.get(number) {
            format!("mode = \"single\"\naddresses = [\"redis://{}\"]", own.address())
        } else {
            let sentinels = list(self.sentinels.iter().map(SentinelServer::url).collect());
            format!("mode = \"sentinel\"\nmaster_name = \"main\"\naddresses = [\"{sentinels}\"]")
        };
        let (history, ttl) = (self.setup.history, self.setup.history_ttl);
        let noisy = self.setup.noisy_limits.map(|limits| (NOISY, limits));
        let tenants = TENANTS.iter().map(|tenant| (*tenant, "")).chain(noisy);
        let tenants: String =
            tenants.map(|(name, limits)| parts::tenant_config(name, limits)).collect();
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\nping_interval = \"2s\"\n\
             write_timeout = \"5s\"\n\
             [ops]\nlisten = \"127.0.0.1:0\"\n\
             [nats]\nservers = [\"{servers}\"]\n\
             [redis]\n{redis}\n\
             [limits]\nconnection_publish_rate = 1000000\nconnection_publish_burst = 1000000\n\
             connection_publish_bytes = 1000000000\nconnection_command_rate = 1000000\n\
             connection_command_burst = 1000000\ntenant_connect_rate = 1000000\nchannel_publish_rate = 1000000\n\
             [history]\nsize = {history}\nttl = \"{ttl}\"\n\
             [session]\nresume_keys = [\"a resume key that all nodes of this test share\"]\n\
             [drain]\nannounce = \"500ms\"\nwindow = \"5s\"\ndeadline = \"30s\"\n\
             [log]\nformat = \"json\"\n{tenants}"
        )
    }
}
