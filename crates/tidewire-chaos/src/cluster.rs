//! Three nodes on three NATS servers and a watched Redis, with a proxy on every link.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tidewire_auth::{Claims, KeyId, SigningKey};
use tidewire_client::Options;
use tidewire_model::{Permissions, Tenant, UserId};
use tidewire_testkit::services::{NatsServer, RedisServer, SentinelServer, Watch, free_port};

use crate::clock::{Clock, Clocks};
use crate::node::NodeProcess;
use crate::proxy::Proxy;
use crate::wait::until;

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
    /// Whether clocks of nodes and Redis can be set.
    pub has_clocks: bool,
    /// Each node reaches the first Redis server over a link of its own, and no other.
    pub is_redis_private: bool,
    /// Each node knows one NATS server only, that of its number.
    pub is_nats_pinned: bool,
    /// What the configuration of the NATS servers has beside their addresses.
    pub nats_config: &'static str,
    /// A tenant beside the others, with these limits of its own.
    pub noisy_limits: Option<&'static str>,
}

impl Setup {
    /// Sentinels that fail over within a second, channels that keep all there is, and nodes that may
    /// go to any NATS server.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            down_after: Duration::from_millis(500),
            history: 100_000,
            history_ttl: "1h",
            has_clocks: false,
            is_redis_private: false,
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
    clocks: Option<Clocks>,
    setup: Setup,
    directory: TempDir,
}

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
        let (routes, nats) = start_nats(&directory, setup.nats_config).await?;
        let clocks = setup.has_clocks.then(|| Clocks::new(directory.path())).transpose()?;
        let (redis_links, redis) = start_redis(clocks.as_ref()).await?;
        let watch = Watch {
            primary: redis_links[0].address(),
            quorum: 2,
            down_after_ms: u32::try_from(setup.down_after.as_millis())?,
        };
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(SentinelServer::start(watch).await);
        }
        let mut cluster = Self {
            nodes: Vec::new(),
            client_links: Vec::new(),
            nats_links: Vec::new(),
            routes,
            nats,
            redis_links,
            own_redis_links: Vec::new(),
            redis,
            sentinels,
            clocks,
            setup,
            directory,
        };
        cluster.until_watched().await?;
        for number in 0..NODES {
            let mut links = Vec::new();
            for server in &cluster.nats {
                links.push(Proxy::start(server.address()).await?);
            }
            cluster.nats_links.push(links);
            if cluster.setup.is_redis_private {
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
        let mut options = Options::new(String::new(), token(tenant, user, HALF_A_DAY));
        options.urls =
            self.client_links.iter().map(|link| format!("ws://{}", link.address())).collect();
        options.urls.rotate_left(first % NODES);
        options.tenant = Some(Tenant::parse(tenant).expect("a valid name"));
        options
    }

    /// The same, with a token that runs out in so many seconds.
    pub fn options_for(&self, tenant: &str, user: &str, first: usize, seconds: i64) -> Options {
        let token = token(tenant, user, seconds).into();
        Options { token, ..self.options(tenant, user, first) }
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
        let redis = if let Some(own) = self.own_redis_links.get(number) {
            format!("mode = \"single\"\naddresses = [\"redis://{}\"]", own.address())
        } else {
            let sentinels = list(self.sentinels.iter().map(SentinelServer::url).collect());
            format!("mode = \"sentinel\"\nmaster_name = \"main\"\naddresses = [\"{sentinels}\"]")
        };
        let (history, ttl) = (self.setup.history, self.setup.history_ttl);
        let noisy = self.setup.noisy_limits.map(|limits| (NOISY, limits));
        let tenants = TENANTS.iter().map(|tenant| (*tenant, "")).chain(noisy);
        let tenants: String = tenants.map(|(name, limits)| tenant_config(name, limits)).collect();
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\nping_interval = \"2s\"\n\
             write_timeout = \"5s\"\n\
             [ops]\nlisten = \"127.0.0.1:0\"\n\
             [nats]\nservers = [\"{servers}\"]\n\
             [redis]\n{redis}\n\
             [limits]\nconnection_publish_rate = 1000000\nconnection_publish_burst = 1000000\n\
             connection_publish_bytes = 1000000000\nconnection_command_rate = 1000000\n\
             connection_command_burst = 1000000\ntenant_connect_rate = 1000000\n\
             [history]\nsize = {history}\nttl = \"{ttl}\"\n\
             [session]\nresume_keys = [\"a resume key that all nodes of this test share\"]\n\
             [drain]\nannounce = \"500ms\"\nwindow = \"5s\"\ndeadline = \"30s\"\n\
             [log]\nformat = \"json\"\n{tenants}"
        )
    }
}

/// Servers that know each other only through proxies, whose connections go from the later to the
/// earlier or, by gossip, to what each of them advertises.
async fn start_nats(directory: &TempDir, config: &str) -> Result<(Vec<Proxy>, Vec<NatsServer>)> {
    let file = directory.path().join("nats.conf");
    std::fs::write(&file, config)?;
    let file = file.display().to_string();
    let (mut routes, mut servers) = (Vec::new(), Vec::new());
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    for (number, port) in ports.iter().enumerate() {
        let listen = format!("nats://127.0.0.1:{port}");
        let gossip = Proxy::start(SocketAddr::from(([127, 0, 0, 1], *port))).await?;
        let advertised = gossip.address().to_string();
        routes.push(gossip);
        let mut known = Vec::new();
        for earlier in &ports[..number] {
            let route = Proxy::start(SocketAddr::from(([127, 0, 0, 1], *earlier))).await?;
            known.push(format!("nats://{}", route.address()));
            routes.push(route);
        }
        let known = known.join(",");
        let mut arguments = vec!["--config", &file, "--no_advertise"];
        arguments.extend(["--cluster", &listen, "--cluster_name", "chaos"]);
        arguments.extend(["--cluster_advertise", &advertised]);
        if !known.is_empty() {
            arguments.extend(["--routes", &known]);
        }
        servers.push(NatsServer::with_arguments(&arguments).await);
    }
    Ok((routes, servers))
}

/// A primary and its replica, which give out the addresses of their proxies.
async fn start_redis(clocks: Option<&Clocks>) -> Result<(Vec<Proxy>, Vec<RedisServer>)> {
    let (mut links, mut servers): (Vec<Proxy>, Vec<RedisServer>) = (Vec::new(), Vec::new());
    for number in 0..2 {
        let port = free_port();
        let link = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        let announced = link.address().port().to_string();
        let mut arguments = vec!["--appendonly", "yes", "--appendfsync", "everysec"];
        arguments.extend(["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]);
        arguments.extend(["--replica-announce-ip", "127.0.0.1"]);
        arguments.extend(["--replica-announce-port", &announced]);
        let primary = links.first().map(|link| link.address().port().to_string());
        if let Some(primary) = &primary {
            arguments.extend(["--replicaof", "127.0.0.1", primary]);
        }
        let environment = clocks.map_or(&[][..], |clocks| clocks.redis[number].environment());
        let server = RedisServer::on_port_with(port, &arguments, environment).await;
        debug_assert_eq!(servers.len(), number, "they are started in order");
        servers.push(server);
        links.push(link);
    }
    Ok((links, servers))
}

fn tenant_config(tenant: &str, limits: &str) -> String {
    let (secret, key) = (secret(tenant), api_key(tenant));
    let (id, api_secret) = key.split_once('.').expect("id and secret");
    format!(
        "[[tenants]]\nname = \"{tenant}\"\nlimits = {{ {limits} }}\n\
         [[tenants.keys]]\nid = \"chaos\"\nalgorithm = \"HS256\"\nsecret = \"{secret}\"\n\
         [[tenants.api_keys]]\nid = \"{id}\"\nsecret = \"{api_secret}\"\n\
         [[tenants.rules]]\npattern = \"present/**\"\npresence = \"members\"\n\
         presence_debounce = \"2s\"\n\
         [[tenants.rules]]\npattern = \"fleeting/**\"\nclass = \"ephemeral\"\n"
    )
}

fn secret(tenant: &str) -> String {
    format!("the secret of {tenant}, long enough to be one")
}

pub(crate) fn api_key(tenant: &str) -> String {
    format!("backend.0123456789abcdef0123456789abcdef-{tenant}")
}

/// A token that lets `user` do everything in `tenant`, for so many seconds from now on.
fn token(tenant: &str, user: &str, seconds: i64) -> String {
    let id = KeyId::parse("chaos").expect("a key id");
    let key = SigningKey::from_secret(Some(id), secret(tenant).as_bytes()).expect("long enough");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    key.sign(&Claims {
        tenant: Some(Tenant::parse(tenant).expect("a tenant")),
        user: UserId::parse(user).expect("a user"),
        audience: vec!["tidewire".into()],
        expires_at: now.saturating_add_signed(seconds),
        not_before: None,
        issued_at: None,
        token_id: None,
        permissions: Permissions::all(),
    })
}
