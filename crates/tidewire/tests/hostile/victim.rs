//! The node that is attacked, with the limits that it has by default, and what is measured of it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use tempfile::TempDir;
use tidewire_testkit::services::{NatsServer, RedisServer};
use tidewire_transport::http::request;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::bystander::Bystander;

/// What is not there by then is not coming.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const SECRET: &str = "the secret of acme, long enough to be one";
/// Room for what the process does beside: its allocator keeps what was freed for seconds.
const SLACK: u64 = 24 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A `tidewire serve` with services of its own. Dropping it kills the process.
pub(crate) struct Victim {
    child: Child,
    pub(crate) clients: SocketAddr,
    ops: SocketAddr,
    log: Arc<Mutex<String>>,
    config: TempDir,
    _nats: NatsServer,
    _redis: RedisServer,
}

impl Victim {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// One with further settings in `[server]`.
    pub(crate) async fn with(server: &str) -> Self {
        let (nats, redis) = tokio::join!(NatsServer::start(), RedisServer::start());
        let config = tempfile::tempdir().expect("a directory");
        std::fs::write(config.path().join("tidewire.toml"), text(&nats, &redis, server))
            .expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidewire"))
            .args(["serve", "--config"])
            .arg(config.path().join("tidewire.toml"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (log, lines) = follow(&mut child);
        let up = std::iter::from_fn(|| lines.recv_timeout(PATIENCE).ok())
            .find(|line| line.contains("node is up"))
            .expect("it starts");
        let (clients, ops) = (address(&up, "clients"), address(&up, "ops"));
        Self { child, clients, ops, log, config, _nats: nats, _redis: redis }
    }

    /// Attacks, and asserts what is true of every attack: the resident memory grew by no more than
    /// `growth` bytes and some slack, a client that was there before missed nothing, and the node is well.
    pub(crate) fn withstands<'a, T: 'a>(
        &'a self,
        growth: u64,
        attack: impl Future<Output = T> + 'a,
    ) -> Pin<Box<dyn Future<Output = T> + 'a>> {
        // What attacks with many clients at once is large.
        Box::pin(self.withstand(growth, attack))
    }

    async fn withstand<T>(&self, growth: u64, attack: impl Future<Output = T>) -> T {
        let bystander = Bystander::connect(self).await;
        let before = self.resident_bytes();
        let (done, is_done) = watch::channel(());
        let (outcome, most, ()) = tokio::join!(
            async {
                let outcome = attack.await;
                drop(done);
                outcome
            },
            self.most_resident_bytes(is_done.clone()),
            bystander.talk(is_done),
        );
        let grown = most.saturating_sub(before);
        assert!(grown <= growth + SLACK, "{grown} bytes more, and {growth} are allowed");
        let health = request(Method::GET, &format!("http://{}/healthz", self.ops), &[], "").await;
        assert_eq!(health.expect("it answers").status, StatusCode::OK, "{}", self.log());
        assert!(!self.log().contains("panicked"), "{}", self.log());
        outcome
    }

    async fn most_resident_bytes(&self, mut is_done: watch::Receiver<()>) -> u64 {
        let mut most = self.resident_bytes();
        while timeout(LOOK_EVERY, is_done.changed()).await.is_err() {
            most = most.max(self.resident_bytes());
        }
        most.max(self.resident_bytes())
    }

    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
    }

    /// How many files and sockets the process has open.
    pub(crate) fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.expect("the process lives").count()
    }

    /// A token that lets `user` do everything.
    pub(crate) fn token(&self, user: &str) -> String {
        let created = Command::new(env!("CARGO_BIN_EXE_tidewire"))
            .args(["token", "create", "--tenant", "acme", "--user", user])
            .args(["--channel", "**=subscribe,publish,history", "--config"])
            .arg(self.config.path().join("tidewire.toml"))
            .output()
            .expect("the program starts");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        String::from_utf8(created.stdout).expect("text").trim().to_owned()
    }

    /// The sum over a metric's series whose line begins so.
    pub(crate) async fn metric(&self, beginning: &str) -> f64 {
        let metrics = request(Method::GET, &format!("http://{}/metrics", self.ops), &[], "").await;
        let metrics = String::from_utf8(metrics.expect("it answers").body.to_vec()).expect("text");
        let series = metrics.lines().filter(|line| line.starts_with(beginning));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until that sum is as it should be.
    pub(crate) async fn until(&self, beginning: &str, is_it: impl Fn(f64) -> bool) {
        let began = Instant::now();
        loop {
            let sum = self.metric(beginning).await;
            if is_it(sum) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{beginning} is {sum}");
            sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn text(nats: &NatsServer, redis: &RedisServer, server: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n{server}\n\
         [ops]\nlisten = \"127.0.0.1:0\"\n\
         [nats]\nservers = [\"{}\"]\n\
         [redis]\naddresses = [\"{}\"]\n\
         [session]\nresume_keys = [\"a resume key, which is not short\"]\n\
         [log]\nformat = \"json\"\n\
         [[tenants]]\nname = \"acme\"\n\
         [[tenants.keys]]\nid = \"test\"\nalgorithm = \"HS256\"\nsecret = \"{SECRET}\"\n",
        nats.url(),
        redis.url(),
    )
}

/// Keeps what the process logs, and passes it on line by line.
fn follow(child: &mut Child) -> (Arc<Mutex<String>>, Receiver<String>) {
    let stderr = child.stderr.take().expect("piped");
    let log = Arc::new(Mutex::new(String::new()));
    let (kept, (sender, lines)) = (log.clone(), channel());
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut kept = kept.lock();
            kept.push_str(&line);
            kept.push('\n');
            // Nobody listens once it is up.
            drop(sender.send(line));
        }
    });
    (log, lines)
}

fn address(line: &str, field: &str) -> SocketAddr {
    let (_, rest) = line.split_once(&format!("\"{field}\":\"")).expect("the field is there");
    rest.split('"').next().expect("it ends").parse().expect("an address")
}
