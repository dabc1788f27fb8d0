//! Node processes, the services they need, and keys for their tenants.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tempfile::TempDir;
use tidewire_auth::{ChannelClaims, Claims, KeyId, SigningKey};
use tidewire_client::Options;
use tidewire_model::{Action, Channel, Permissions, Tenant, UserId};
use tidewire_testkit::services::{NatsServer, RedisServer, free_port};
use tokio::time::Instant;

pub(crate) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// One whose sessions are not kept, so that its clients need no Redis to connect.
pub(crate) const UNKEPT: &str = "hooli";
pub(crate) const API_KEY: &str = "backend.0123456789abcdef0123456789abcdef";
const ANY_PORT: &str = "listen = \"127.0.0.1:0\"\n";
/// A node that is not up by then is not coming up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What nodes share.
pub(crate) struct Cluster {
    pub(crate) nats: NatsServer,
    pub(crate) redis: RedisServer,
    redis_url: String,
    directory: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::on(NatsServer::start().await).await
    }

    pub(crate) async fn on(nats: NatsServer) -> Self {
        Self::with(nats, RedisServer::start().await)
    }

    /// As [`Cluster::start`], with further command line arguments for Redis.
    pub(crate) async fn with_redis(arguments: &[&str]) -> Self {
        Self::with(NatsServer::start().await, RedisServer::with_arguments(arguments).await)
    }

    fn with(nats: NatsServer, redis: RedisServer) -> Self {
        let redis_url = redis.url();
        Self::over(nats, redis, redis_url)
    }

    /// One whose nodes reach `redis` at another address.
    pub(crate) fn over(nats: NatsServer, redis: RedisServer, redis_url: String) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { nats, redis, redis_url, directory }
    }

    /// `server` is what stands in the section of that name.
    fn config(&self, nats: &NatsServer, server: &str) -> String {
        let tenants: String =
            TENANTS.iter().chain([&UNKEPT]).map(|tenant| tenant_config(tenant)).collect();
        format!(
            "[server]\nworkers = 3\nconnect_timeout = \"1m\"\n{server}\
             [ops]\nlisten = \"127.0.0.1:0\"\n\
             [nats]\nservers = [\"{}\"]\n\
             [redis]\naddresses = [\"{}\"]\n\
             [limits]\nconnection_publish_rate = 1000000\nconnection_publish_burst = 1000000\n\
             connection_publish_bytes = 1000000000\nconnection_command_rate = 1000000\n\
             connection_command_burst = 1000000\ntenant_connect_rate = 1000000\nchannel_publish_rate = 1000000\n\
             [history]\nsize = 5000\n\
             [session]\nresume_keys = [\"a resume key that all nodes of this test share\"]\n\
             [drain]\nannounce = \"100ms\"\nwindow = \"5s\"\ndeadline = \"60s\"\n\
             [log]\nformat = \"json\"\n{tenants}",
            nats.url(),
            self.redis_url,
        )
    }

    /// A node that reaches Redis at another address than the others, with further settings of its own.
    pub(crate) fn node_by(&self, redis_url: &str, settings: &str) -> NodeProcess {
        let config = self.config(&self.nats, &format!("{ANY_PORT}{settings}"));
        let config = config.replace(&self.redis_url, redis_url);
        let file = self.directory.path().join("elsewhere.toml");
        std::fs::write(&file, config).expect("the file is written");
        NodeProcess::start(&file)
    }

    pub(crate) fn node(&self) -> NodeProcess {
        self.node_on(&self.nats)
    }

    /// A node on another NATS server than the others.
    pub(crate) fn node_on(&self, nats: &NatsServer) -> NodeProcess {
        NodeProcess::start(&self.config_file(nats, ANY_PORT))
    }

    /// A node that clients find where one that has gone was, if that was made here too.
    pub(crate) fn node_at(&self, port: u16) -> NodeProcess {
        let server = format!("listen = \"127.0.0.1:{port}\"\n");
        NodeProcess::start(&self.config_file(&self.nats, &server))
    }

    /// A node that says where it is.
    pub(crate) fn advertised_node(&self) -> NodeProcess {
        self.advertised_node_with("")
    }

    /// The same, with further settings of its listener.
    pub(crate) fn advertised_node_with(&self, settings: &str) -> NodeProcess {
        let address = format!("127.0.0.1:{}", free_port());
        let server = format!("listen = \"{address}\"\nadvertise = \"ws://{address}\"\n{settings}");
        NodeProcess::start(&self.config_file(&self.nats, &server))
    }

    /// A node with further settings of its listener.
    pub(crate) fn node_with(&self, settings: &str) -> NodeProcess {
        let server = format!("{ANY_PORT}{settings}");
        NodeProcess::start(&self.config_file(&self.nats, &server))
    }

    /// A node whose tenants can be changed, and where.
    pub(crate) fn administered_node(&self) -> (NodeProcess, String) {
        self.node_administered_with("")
    }

    /// The same, with further settings in `[admin]`.
    pub(crate) fn node_administered_with(&self, settings: &str) -> (NodeProcess, String) {
        let more = format!(
            "{ANY_PORT}[registry]\nkeys = [\"a registry key that all nodes of this test share\"]\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n{settings}"
        );
        let node = NodeProcess::start(&self.config_file(&self.nats, &more));
        let admin = field(&node.line_with("tenants can be changed"), "admin");
        (node, format!("http://{admin}"))
    }

    /// What a node says that will not start.
    pub(crate) fn refused_node(&self) -> Output {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_tidewire"));
        serve.args(["serve", "--config"]).arg(self.config_file(&self.nats, ANY_PORT));
        serve.output().expect("the program starts")
    }

    /// Nodes have read theirs when they are up, so that the next may have the same name.
    fn config_file(&self, nats: &NatsServer, server: &str) -> PathBuf {
        let file = self.directory.path().join(format!("{}.toml", nats.address().port()));
        std::fs::write(&file, self.config(nats, server)).expect("the file is written");
        file
    }
}

fn tenant_config(tenant: &str) -> String {
    let secret = secret(tenant);
    let (key, api_secret) = API_KEY.split_once('.').expect("id and secret");
    let sessions = if tenant == UNKEPT { "none" } else { "lazy" };
    format!(
        "[[tenants]]\nname = \"{tenant}\"\nsessions = \"{sessions}\"\n\
         [[tenants.keys]]\nid = \"test\"\nalgorithm = \"HS256\"\nsecret = \"{secret}\"\n\
         [[tenants.api_keys]]\nid = \"{key}\"\nsecret = \"{api_secret}-{tenant}\"\n\
         scopes = [\"publish\", \"history\", \"presence\", \"revoke\"]\n\
         [[tenants.rules]]\npattern = \"ticker/*\"\nclass = \"ephemeral\"\n\
         [[tenants.rules]]\npattern = \"present/*\"\npresence = \"members\"\n\
         [[tenants.rules]]\npattern = \"orders/*\"\nclass = \"durable\"\n"
    )
}

pub(crate) fn secret(tenant: &str) -> String {
    format!("the secret of {tenant}, long enough to be one")
}

/// A token that lets `user` do everything in `tenant`.
pub(crate) fn token(tenant: &str, user: &str) -> String {
    sign(tenant, &claims(tenant, user))
}

/// What such a token says, from now on and for an hour.
pub(crate) fn claims(tenant: &str, user: &str) -> Claims {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    Claims {
        tenant: Some(Tenant::parse(tenant).expect("tenant")),
        user: UserId::parse(user).expect("user"),
        audience: vec!["tidewire".into()],
        expires_at: now + 3_600,
        not_before: None,
        issued_at: None,
        token_id: None,
        permissions: Permissions::all(),
    }
}

pub(crate) fn sign(tenant: &str, claims: &Claims) -> String {
    signing_key(tenant).sign(claims)
}

/// A token that lets `user` do everything in one channel.
pub(crate) fn channel_token(tenant: &str, user: &str, channel: &str) -> String {
    let claims = Claims { permissions: Permissions::default(), ..claims(tenant, user) };
    let channel = Channel::parse(channel).expect("channel");
    let actions = Action::ALL.into_iter().collect();
    signing_key(tenant).sign_for_channel(&ChannelClaims { claims, channel, actions })
}

fn signing_key(tenant: &str) -> SigningKey {
    let id = KeyId::parse("test").expect("key id");
    let key = SigningKey::from_secret(Some(id), secret(tenant).as_bytes());
    key.expect("long enough")
}

/// A client's options, with the nodes it may go to, the first first.
pub(crate) fn options<'a>(
    tenant: &str,
    user: &str,
    nodes: impl AsRef<[&'a NodeProcess]>,
) -> Options {
    let mut options = Options::new("", token(tenant, user));
    options.urls = nodes.as_ref().iter().map(|node| node.url()).collect();
    options.tenant = Some(Tenant::parse(tenant).expect("tenant"));
    options
}

/// A `tidewire serve` of its own. Dropping it kills the process.
pub(crate) struct NodeProcess {
    child: Child,
    pub(crate) name: String,
    clients: String,
    ops: String,
    lines: Receiver<String>,
    /// Lines that were read while another was waited for.
    seen: Mutex<Vec<String>>,
}

impl NodeProcess {
    pub(crate) fn start(config: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidewire"))
            .args(["serve", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let (name, clients, ops) = (String::new(), String::new(), String::new());
        let seen = Mutex::default();
        let mut node = Self { child, name, clients, ops, lines, seen };
        let up = node.line_with("node is up");
        node.name = field(&up, "node");
        node.clients = field(&up, "clients");
        node.ops = field(&up, "ops");
        node
    }

    /// Waits for a line of its log.
    pub(crate) fn line_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.lock().push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => unreachable!("no {text:?} ({error}) among:\n{}", self.log()),
            }
        }
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        let mut seen = self.seen.lock();
        seen.extend(self.lines.try_iter());
        seen.join("\n")
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.clients)
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.clients)
    }

    pub(crate) fn ops(&self, path: &str) -> String {
        format!("http://{}{path}", self.ops)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process is there");
        self.child.wait().expect("it can be waited for");
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// The signal of this name, without its `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let (signal, pid) = (format!("-{name}"), self.child.id().to_string());
        let sent = Command::new("kill").args([signal, pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "the node does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A field of a JSON log line.
pub(crate) fn field(line: &str, name: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
    value[name].as_str().expect("a text").to_owned()
}
