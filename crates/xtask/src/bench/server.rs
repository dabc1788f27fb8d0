//! A server under test: a pinned child that says where it listens, killed when dropped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// The core of the server under test.
pub(super) const SERVER_CORE: &str = "0";
/// More than there are; taskset(1) takes those that are there.
const EVERY_CORE: &str = "0-1023";

#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
    /// Held, lest the child die of having nobody to write to.
    _stdout: Option<BufReader<ChildStdout>>,
}

/// How often, and how many times, it is looked whether a server is there.
const CHECK: Duration = Duration::from_millis(20);
const CHECKS: u32 = 1_000;

impl Server {
    /// Starts a program that prints its port as `port <n>` or its address in a `ws://` URL.
    pub(super) fn announced(program: &Command) -> Result<Self> {
        let mut child = pinned(program).stdout(Stdio::piped()).spawn().context("cannot start")?;
        let mut stdout = BufReader::new(child.stdout.take().context("standard output is piped")?);
        let mut line = String::new();
        let address = loop {
            line.clear();
            if stdout.read_line(&mut line)? == 0 {
                reap(&mut child);
                bail!("it ended without saying where it listens");
            }
            if let Some(address) = announced_address(&line) {
                break address;
            }
        };
        Ok(Self { child, address, _stdout: Some(stdout) })
    }

    /// Starts a program that was told to listen at `address`, and waits until it does.
    pub(super) fn told(program: &Command, address: SocketAddr) -> Result<Self> {
        Self::wait_for(pinned(program), address)
    }

    /// The same on every core.
    pub(super) fn anywhere(program: &Command, address: SocketAddr) -> Result<Self> {
        Self::wait_for(on_core(EVERY_CORE, program), address)
    }

    /// The same on the core of the clients: a service that is not under test.
    pub(super) fn beside(program: &Command, address: SocketAddr) -> Result<Self> {
        Self::wait_for(on_core(super::swarm::CLIENT_CORE, program), address)
    }

    fn wait_for(mut program: Command, address: SocketAddr) -> Result<Self> {
        let child = program.stdout(Stdio::null()).spawn().context("cannot start")?;
        let mut server = Self { child, address, _stdout: None };
        for _ in 0..CHECKS {
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            ensure!(server.child.try_wait()?.is_none(), "it ended at once");
            std::thread::sleep(CHECK);
        }
        bail!("nothing listens at {address}")
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `GET path` at `address` is answered with 200.
    pub(super) fn await_ok(address: SocketAddr, path: &str) -> Result<()> {
        for _ in 0..CHECKS {
            if is_ok(address, path).unwrap_or(false) {
                return Ok(());
            }
            std::thread::sleep(CHECK);
        }
        bail!("{address}{path} does not become ready")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        reap(&mut self.child);
    }
}

/// An address nobody listens at, for programs that cannot choose one themselves.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn pinned(program: &Command) -> Command {
    on_core(SERVER_CORE, program)
}

/// The same program under taskset(1), which executes it: the process is the program.
fn on_core(core: &str, program: &Command) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program.get_program()).args(program.get_args());
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn reap(child: &mut Child) {
    // It may have ended by itself; either way it is gone then.
    drop(child.kill());
    drop(child.wait());
}

fn announced_address(line: &str) -> Option<SocketAddr> {
    if let Some(port) = line.trim().strip_prefix("port ") {
        return Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into());
    }
    line.split("ws://").nth(1)?.split('/').next()?.parse().ok()
}

fn is_ok(address: SocketAddr, path: &str) -> Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_where_it_listens() {
        let expected: SocketAddr = "127.0.0.1:8123".parse().unwrap();

        assert_eq!(announced_address("port 8123\n"), Some(expected));
        assert_eq!(
            announced_address("  websocket  ws://127.0.0.1:8123/v1/dev/ws  x"),
            Some(expected)
        );
        assert_eq!(announced_address("Tidewire is running"), None);
    }
}
