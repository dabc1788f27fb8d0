use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{RedisServer, free_port};

/// A Redis cluster of its own for a test: primaries that share all slots, without replicas.
pub struct RedisCluster {
    pub servers: Vec<RedisServer>,
}

/// What each primary has at first.
const SHARES: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

impl RedisCluster {
    /// Starts three primaries and waits until they are one cluster to each of them.
    ///
    /// # Panics
    ///
    /// If `redis-server` is not installed, or they are not one cluster within 30 s.
    pub async fn start() -> Self {
        let mut cluster = Self { servers: Vec::new() };
        for (first, last) in SHARES {
            let bus = free_port().to_string();
            let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            let server = RedisServer::with_arguments(&arguments).await;
            let (first, last) = (first.to_string(), last.to_string());
            succeed(&server, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
            // Primaries that have one epoch settle that among themselves later, and one that raises
            // its own while it hands a slot over takes that slot back: nobody has it then.
            let epoch = (cluster.servers.len() + 1).to_string();
            succeed(&server, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            if let Some(known) = cluster.servers.first() {
                let port = server.address().port().to_string();
                succeed(known, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
            }
            cluster.servers.push(server);
        }
        let becoming = async {
            for server in &cluster.servers {
                while !is_whole(server).await {
                    sleep(POLL).await;
                }
            }
        };
        timeout(PATIENCE, becoming).await.expect("the servers are one cluster in 30 s");
        cluster
    }

    /// Where some of it is found, and the rest from there.
    pub fn url(&self) -> String {
        self.servers[0].url()
    }

    /// The slot of a key.
    pub async fn slot_of(&self, key: &str) -> u16 {
        let slot = ask(&self.servers[0], &["CLUSTER", "KEYSLOT", key]).await;
        slot.parse().expect("a slot")
    }

    /// Has the primary `from` hand a slot of its own to the primary `to`.
    pub async fn begin_to_move(&self, slot: u16, from: usize, to: usize) -> MovingSlot<'_> {
        let (source, target, slot) = (&self.servers[from], &self.servers[to], slot.to_string());
        let source_id = ask(source, &["CLUSTER", "MYID"]).await;
        let target_id = ask(target, &["CLUSTER", "MYID"]).await;
        succeed(target, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await;
        succeed(source, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
        MovingSlot { source, target, slot, target_id }
    }
}

/// A slot on its way from one primary to another.
pub struct MovingSlot<'a> {
    source: &'a RedisServer,
    target: &'a RedisServer,
    slot: String,
    target_id: String,
}

impl MovingSlot<'_> {
    /// The keys that are still where they were, 1,000 at most.
    pub async fn keys(&self) -> Vec<String> {
        let list = ["CLUSTER", "GETKEYSINSLOT", &self.slot, "1000"];
        ask(self.source, &list).await.lines().map(str::to_owned).collect()
    }

    /// Moves these keys.
    pub async fn carry(&self, keys: &[String]) {
        let port = self.target.address().port().to_string();
        for key in keys {
            // One that has run out meanwhile is no error.
            ask(self.source, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
        }
    }

    /// Moves what is left, and has both know that it is over.
    pub async fn finish(self) {
        loop {
            let keys = self.keys().await;
            if keys.is_empty() {
                break;
            }
            self.carry(&keys).await;
        }
        for server in [self.target, self.source] {
            succeed(server, &["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.target_id]).await;
        }
    }
}

async fn ask(server: &RedisServer, words: &[&str]) -> String {
    server.command(words).await.expect("the server answers")
}

async fn succeed(server: &RedisServer, words: &[&str]) {
    assert_eq!(ask(server, words).await, "OK", "{words:?}");
}

async fn is_whole(server: &RedisServer) -> bool {
    let info = ask(server, &["CLUSTER", "INFO"]).await;
    let says = |line: &str| info.lines().any(|found| found == line);
    says("cluster_state:ok") && says("cluster_known_nodes:3") && says("cluster_size:3")
}

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
