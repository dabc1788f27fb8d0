use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::process::{Kind, Process};
use super::resp;

/// A Redis Sentinel of its own for a test, which watches one primary under the name `main`.
pub struct SentinelServer(Process<Sentinel>);

/// What a sentinel watches, and how patient it is.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Where it finds the primary at first.
    pub primary: SocketAddr,
    /// Sentinels that must agree that it is down.
    pub quorum: u32,
    /// How long it must be silent for that.
    pub down_after_ms: u32,
}

impl SentinelServer {
    /// Starts a sentinel and waits until it answers.
    ///
    /// # Panics
    ///
    /// If `redis-server` is not installed or does not serve within 30 s.
    pub async fn start(watch: Watch) -> Self {
        Self(Process::start(Sentinel { watch }).await)
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// What the sentinel answers to a command, as
    /// [`RedisServer::command`](super::RedisServer::command).
    ///
    /// # Errors
    ///
    /// Whatever keeps it from answering within 5 s.
    pub async fn command(&self, words: &[&str]) -> std::io::Result<String> {
        resp::command(self.address(), words).await
    }
}

struct Sentinel {
    watch: Watch,
}

impl Kind for Sentinel {
    const PROGRAM: &'static str = "redis-server";
    const VARIABLE: &'static str = "TIDEWIRE_REDIS_SERVER";

    fn arguments(&self, port: u16, dir: &Path) -> Vec<String> {
        // A sentinel keeps what it learns in its configuration, and so needs one.
        let file = dir.join(format!("sentinel-{port}.conf"));
        if !file.exists() {
            fs::write(&file, self.configuration(port, dir)).expect("the directory is writable");
        }
        vec![file.display().to_string(), "--sentinel".into()]
    }

    async fn is_ready(&self, address: SocketAddr, _: &Path, pid: u32) -> bool {
        let server = resp::command(address, &["INFO", "server"]).await.unwrap_or_default();
        server.lines().any(|line| line == format!("process_id:{pid}"))
    }
}

impl Sentinel {
    fn configuration(&self, port: u16, dir: &Path) -> String {
        let Watch { primary, quorum, down_after_ms } = self.watch;
        format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor main {} {} {quorum}\n\
             sentinel down-after-milliseconds main {down_after_ms}\n\
             sentinel failover-timeout main 3000\n",
            dir.display(),
            primary.ip(),
            primary.port(),
        )
    }
}
