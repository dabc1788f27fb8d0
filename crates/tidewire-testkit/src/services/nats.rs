use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use super::process::{Kind, Process};

/// A `nats-server` of its own for a test, which keeps nothing.
pub struct NatsServer(Process<Nats>);

impl NatsServer {
    /// Starts a server that asks for no credentials and waits until it answers.
    ///
    /// # Panics
    ///
    /// If `nats-server` is not installed or does not serve within 30 s.
    pub async fn start() -> Self {
        Self::with_arguments(&[]).await
    }

    /// As [`NatsServer::start`], with further command line arguments.
    pub async fn with_arguments(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self(Process::start(Nats { arguments }).await)
    }

    /// As [`NatsServer::start`], on a port that [`free_port`](super::free_port) gave out before.
    pub async fn on_port(port: u16) -> Self {
        Self(Process::start_on_port(Nats { arguments: Vec::new() }, port).await)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// What the server has logged so far, over all its starts.
    pub fn log(&self) -> String {
        self.0.output()
    }

    /// Sends SIGKILL and waits for the end. Does nothing if the server does not run.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Kills the server if it runs, and starts it again on the same port.
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

    /// Tells the server to announce its leave and to close its connections one by one.
    pub fn enter_lame_duck_mode(&self) {
        self.0.signal("USR2");
    }
}

struct Nats {
    arguments: Vec<String>,
}

impl Kind for Nats {
    const PROGRAM: &'static str = "nats-server";
    const VARIABLE: &'static str = "TIDEWIRE_NATS_SERVER";

    fn arguments(&self, port: u16, dir: &Path) -> Vec<String> {
        ["-a", "127.0.0.1", "-p", &port.to_string(), "-n", &name(dir)]
            .into_iter()
            .map(String::from)
            .chain(self.arguments.iter().cloned())
            .collect()
    }

    async fn is_ready(&self, address: SocketAddr, dir: &Path, _: u32) -> bool {
        let own_name = format!("\"server_name\":\"{}\"", name(dir));
        greeting(address).await.is_some_and(|line| line.contains(&own_name))
    }
}

/// Names a server after its directory, which no other has.
fn name(dir: &Path) -> String {
    dir.file_name().expect("a temporary directory has a name").to_string_lossy().into_owned()
}

/// The INFO line with which a server receives every client.
async fn greeting(address: SocketAddr) -> Option<String> {
    let stream = TcpStream::connect(address).await.ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.ok()?;
    Some(line)
}
