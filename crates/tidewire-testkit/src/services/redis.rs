use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::process::{Kind, Process};
use super::resp;

/// A `redis-server` of its own for a test. It keeps nothing on disk unless asked to.
pub struct RedisServer(Process<Redis>);

impl RedisServer {
    /// Starts a server without persistence and waits until it answers.
    ///
    /// # Panics
    ///
    /// If `redis-server` is not installed or does not serve within 30 s.
    pub async fn start() -> Self {
        Self::with_arguments(&["--appendonly", "no"]).await
    }

    /// As [`RedisServer::start`], with every write on disk before its reply, so that a server that
    /// is killed and restarted has lost nothing.
    pub async fn with_appendonly() -> Self {
        Self::with_arguments(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// As [`RedisServer::start`], with further command line arguments. They must leave the server
    /// usable without a password.
    pub async fn with_arguments(arguments: &[&str]) -> Self {
        Self(Process::start(Redis::new(arguments)).await)
    }

    /// As [`RedisServer::start`], on a port that [`free_port`](super::free_port) gave out before.
    pub async fn on_port(port: u16) -> Self {
        Self::on_port_with(port, &["--appendonly", "no"], &[]).await
    }

    /// As [`RedisServer::with_arguments`], on a port that [`free_port`](super::free_port) gave out
    /// before, and with more in its environment.
    pub async fn on_port_with(
        port: u16,
        arguments: &[&str],
        environment: &[(String, OsString)],
    ) -> Self {
        let redis = Redis { environment: environment.to_vec(), ..Redis::new(arguments) };
        Self(Process::start_on_port(redis, port).await)
    }

    /// What the server answers to a command: a list one item a line, nothing as an empty text, an
    /// error with its word in front.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from answering within 5 s.
    pub async fn command(&self, words: &[&str]) -> std::io::Result<String> {
        resp::command(self.address(), words).await
    }

    /// The folder of its files.
    pub fn dir(&self) -> &Path {
        self.0.dir()
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// What the server answers to a command of words without spaces, as it comes over the wire.
    ///
    /// # Panics
    ///
    /// If the server cannot be reached.
    pub async fn answer(&self, command: &str) -> String {
        let commands = format!("{command}\r\nQUIT\r\n");
        ask(self.address(), commands.as_bytes()).await.expect("the server answers")
    }

    /// Sends SIGKILL and waits for the end. Does nothing if the server does not run.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Kills the server if it runs, and starts it again on the same port and directory.
    pub async fn restart(&mut self) {
        self.0.restart().await;
    }

    /// Stops the process in its tracks: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.0.stop();
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.0.signal("CONT");
    }
}

struct Redis {
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
}

impl Redis {
    fn new(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { arguments, environment: Vec::new() }
    }
}

impl Kind for Redis {
    const PROGRAM: &'static str = "redis-server";
    const VARIABLE: &'static str = "TIDEWIRE_REDIS_SERVER";

    fn arguments(&self, port: u16, dir: &Path) -> Vec<String> {
        let (port, dir) = (port.to_string(), dir.display().to_string());
        ["--port", &port, "--bind", "127.0.0.1", "--dir", &dir, "--save", ""]
            .into_iter()
            .map(String::from)
            .chain(self.arguments.iter().cloned())
            .collect()
    }

    fn environment(&self) -> &[(String, OsString)] {
        &self.environment
    }

    async fn is_ready(&self, address: SocketAddr, _: &Path, pid: u32) -> bool {
        // Once the data set is loaded, INFO says so and names the process.
        let Some(reply) = ask(address, b"INFO\r\nQUIT\r\n").await else { return false };
        let says = |line: &str| reply.lines().any(|found| found == line);
        says(&format!("process_id:{pid}")) && says("loading:0") && !says("async_loading:1")
    }
}

async fn ask(address: SocketAddr, commands: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(commands).await.ok()?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.ok()?;
    String::from_utf8(reply).ok()
}
