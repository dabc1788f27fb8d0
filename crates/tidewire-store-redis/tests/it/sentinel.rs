//! A primary and a replica, watched by a sentinel.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidewire_broker::{Log, Retention, Status};
use tidewire_model::Since;
use tidewire_store_redis::{Deployment, RedisConfig, RedisConnection, RedisLog};
use tidewire_testkit::services::{RedisServer, free_port};
use tokio::time::{sleep, timeout};

use crate::redis::{append, command, draft, keys, room, text};

#[tokio::test]
async fn when_the_primary_dies_the_log_goes_on_at_the_promoted_replica() {
    let mut primary = RedisServer::start().await;
    let port = primary.address().port().to_string();
    let replica = RedisServer::with_arguments(&["--replicaof", "127.0.0.1", &port]).await;
    // A sentinel asks a primary for its replicas at the start, and then every ten seconds.
    until(async || replication(&primary).await.contains("state=online")).await;
    let sentinel = Sentinel::start(&port);
    until(async || sentinel.knows_a_replica().await).await;
    let log = sentinel.log();

    let before = append(&log, &["1", "2"]).await;
    until(async || holds_two_publications(&replica).await).await;
    primary.kill();
    until(async || log.append(&room(), &[draft("3")]).await.is_ok()).await;

    let read = log.read(&room(), Since::Position(before[0].position), 10).await.expect("read");
    assert_eq!((read.status, read.top), (Status::Continues, 3));
    assert_eq!(read.publications[0].position, before[1].position);
    assert!(read.incarnation > before[0].position.epoch.incarnation());
    assert!(replication(&replica).await.contains("role:master"));
}

async fn replication(server: &RedisServer) -> String {
    text(command(server, &["INFO", "replication"]).await)
}

#[tokio::test]
async fn a_primary_that_is_behind_is_raised_only_if_most_sentinels_say_it_is_the_primary() {
    let primary = RedisServer::start().await;
    let sentinel = Sentinel::start(&primary.address().port().to_string());
    until(async || sentinel.knows_the_primary().await).await;
    let (half, all) = (sentinel.log(), Sentinel::log_of(vec![sentinel.url.clone()]));
    let before = append(&half, &["1"]).await[0].position;
    append(&all, &["2"]).await;

    let fence = text(command(&primary, &["GET", "tw:f"]).await);
    command(&primary, &["SET", "tw:f", &format!("000000000001 {}", &fence[13..])]).await;
    let refused = half.read(&room(), Since::Position(before), 10).await;
    let read = all.read(&room(), Since::Position(before), 10).await.expect("read");

    let refused = refused.expect_err("one of two is no majority").to_string();
    assert!(refused.ends_with("redis is behind what has been seen of its log"), "{refused}");
    assert_eq!((read.status, read.top), (Status::Continues, 2));
    assert!(read.incarnation > before.epoch.incarnation());
}

async fn holds_two_publications(server: &RedisServer) -> bool {
    let logs = keys(server, "tw:*:l:*").await;
    match logs.first() {
        Some(log) => command(server, &["XLEN", log]).await == redis::Value::Int(2),
        None => false,
    }
}

/// Kills its process when dropped.
struct Sentinel {
    process: Child,
    url: String,
    directory: PathBuf,
}

impl Sentinel {
    fn start(primary_port: &str) -> Self {
        let port = free_port();
        let directory = std::env::temp_dir().join(format!("tidewire-sentinel-{port}"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let config = directory.join("sentinel.conf");
        std::fs::write(&config, configuration(port, primary_port, &directory)).expect("a file");
        let program =
            std::env::var("TIDEWIRE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
        let process = Command::new(program)
            .arg(&config)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        Self { process, url: format!("redis://127.0.0.1:{port}"), directory }
    }

    /// A log that knows of this sentinel and of one that is down.
    fn log(&self) -> RedisLog {
        Self::log_of(vec![format!("redis://127.0.0.1:{}", free_port()), self.url.clone()])
    }

    fn log_of(urls: Vec<String>) -> RedisLog {
        let config = RedisConfig::new(Deployment::Sentinel {
            urls,
            master: "main".into(),
            database: 0,
            tls: false,
        });
        let connection = RedisConnection::new(config).expect("a valid configuration");
        RedisLog::new(connection, Retention::default())
    }

    async fn knows_a_replica(&self) -> bool {
        self.list("REPLICAS").await.is_some_and(|replicas| !replicas.is_empty())
    }

    async fn knows_the_primary(&self) -> bool {
        self.list("GET-MASTER-ADDR-BY-NAME").await.is_some()
    }

    async fn list(&self, question: &str) -> Option<Vec<redis::Value>> {
        let client = redis::Client::open(self.url.as_str()).expect("a valid url");
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        redis::cmd("SENTINEL").arg(question).arg("main").query_async(&mut connection).await.ok()
    }
}

fn configuration(port: u16, primary_port: &str, directory: &Path) -> String {
    format!(
        "port {port}\n\
         bind 127.0.0.1\n\
         dir {}\n\
         sentinel monitor main 127.0.0.1 {primary_port} 1\n\
         sentinel down-after-milliseconds main 300\n\
         sentinel failover-timeout main 3000\n",
        directory.display()
    )
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it can be waited for");
        std::fs::remove_dir_all(&self.directory).expect("it can be removed");
    }
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(45), waiting).await.expect("it becomes so in 45 s");
}
