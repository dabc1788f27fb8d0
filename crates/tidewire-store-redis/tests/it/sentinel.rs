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

    fn log(&self) -> RedisLog {
        let config = RedisConfig::new(Deployment::Sentinel {
            urls: vec![format!("redis://127.0.0.1:{}", free_port()), self.url.clone()],
            master: "main".into(),
            database: 0,
            tls: false,
        });
        let connection = RedisConnection::new(config).expect("a valid configuration");
        RedisLog::new(connection, Retention::default())
    }

    async fn knows_a_replica(&self) -> bool {
        let client = redis::Client::open(self.url.as_str()).expect("a valid url");
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
            return false;
        };
        let replicas: redis::RedisResult<Vec<redis::Value>> =
            redis::cmd("SENTINEL").arg("REPLICAS").arg("main").query_async(&mut connection).await;
        replicas.is_ok_and(|replicas| !replicas.is_empty())
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
