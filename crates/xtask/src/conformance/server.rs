//! The echo example of `tidewire-transport`, which the suite talks to.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{cargo, succeed};

pub(super) fn build(root: &Path) -> Result<()> {
    let package = ["--package", "tidewire-transport", "--example", "echo"];
    succeed(cargo(root).args(["build", "--release", "--quiet"]).args(package))
}

/// A running echo server, ended when dropped.
pub(super) struct EchoServer {
    child: Child,
    port: u16,
}

impl EchoServer {
    /// Starts what [`build`] built into `target`, on a port of its choice.
    pub(super) fn start(target: &Path) -> Result<Self> {
        let program = target.join("release/examples/echo");
        let mut child = Command::new(&program)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        let stdout = child.stdout.take().expect("standard output was piped above");
        let mut server = Self { child, port: 0 };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        server.port = line.trim().parse().context("the echo server did not say its port")?;
        Ok(server)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        // It may have ended by itself, which the verdicts show.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
