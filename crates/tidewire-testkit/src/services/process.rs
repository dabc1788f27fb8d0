#![expect(clippy::panic, reason = "a service that cannot run must fail the test that needs it")]

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// A port of 127.0.0.1 that nobody listened on a moment ago.
///
/// It lies below the range Linux takes the ports of outgoing connections from by default, so that it
/// stays free while the server it belongs to is down: a client that keeps trying to reach it could
/// otherwise be given that very port and connect to itself.
///
/// # Panics
///
/// If no free port is found in 1,000 tries.
pub fn free_port() -> u16 {
    (0..1_000)
        .map(random_port)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("one of 1,000 ports is free")
}

fn random_port(attempt: u32) -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u64 = 22_000;
    // Every RandomState has other keys, which is all the randomness needed here.
    let drawn = RandomState::new().hash_one(attempt) % COUNT;
    FIRST + u16::try_from(drawn).expect("below 22,000")
}

/// What tells one kind of server from another.
pub(super) trait Kind {
    /// The program, which is also the name of the Debian package that holds it.
    const PROGRAM: &'static str;
    /// The environment variable that names the program.
    const VARIABLE: &'static str;

    /// The command line of a server that listens on `port` and keeps its files in `dir`.
    fn arguments(&self, port: u16, dir: &Path) -> Vec<String>;

    /// What its environment has beside that of the test.
    fn environment(&self) -> &[(String, OsString)] {
        &[]
    }

    /// Whether the server at `address` serves, and is the process `pid` with its files in `dir` and
    /// not a stranger that was faster to take the port.
    fn is_ready(
        &self,
        address: SocketAddr,
        dir: &Path,
        pid: u32,
    ) -> impl Future<Output = bool> + Send;
}

/// A server process with its port and directory; killed when dropped.
pub(super) struct Process<K: Kind> {
    kind: K,
    port: u16,
    dir: TempDir,
    child: Option<Child>,
}

impl<K: Kind> Process<K> {
    /// Starts a server on a port of its choice and waits until it serves.
    pub(super) async fn start(kind: K) -> Self {
        const PORTS: u32 = 5;
        let mut process = Self { kind, port: 0, dir: temporary_dir::<K>(), child: None };
        for _ in 0..PORTS {
            process.port = free_port();
            if process.try_run().await.is_ok() {
                return process;
            }
        }
        process.give_up("exited at once on each of 5 ports")
    }

    /// Starts a server on a port that [`free_port`] gave out before.
    pub(super) async fn start_on_port(kind: K, port: u16) -> Self {
        let mut process = Self { kind, port, dir: temporary_dir::<K>(), child: None };
        process.restart().await;
        process
    }

    /// Kills the server if it runs, and starts it again on the same port and directory.
    pub(super) async fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        while let Err(status) = self.try_run().await {
            if Instant::now() > deadline {
                self.give_up(&format!("did not restart on its port: {status}"));
            }
            sleep(POLL).await;
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it has printed so far, over all its starts.
    pub(super) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Sends SIGKILL and waits for the end.
    pub(super) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().expect("an unreaped child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Sends a signal such as `STOP`.
    pub(super) fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("a signal is for a running server");
        let status = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status()
            .expect("the program `kill` runs");
        assert!(status.success(), "kill -{signal} failed: {status}");
    }

    /// Stops the process in its tracks, and returns when each of its threads stands still: on a busy
    /// machine one that runs may go on answering for a while after the signal was sent.
    pub(super) fn stop(&self) {
        self.signal("STOP");
        let pid = self.child.as_ref().expect("a signal was sent to it").id();
        let begun = Instant::now();
        while !is_still(pid) {
            assert!(begun.elapsed() < PATIENCE, "{} does not stand still", K::PROGRAM);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs the program until it serves; the exit status if it ended instead.
    async fn try_run(&mut self) -> Result<(), ExitStatus> {
        let pid = self.spawn();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let child = self.child.as_mut().expect("spawned above");
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                self.child = None;
                return Err(status);
            }
            let ready = timeout(PATIENCE, self.kind.is_ready(self.address(), self.dir.path(), pid));
            if ready.await == Ok(true) {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.give_up("did not serve within 30 s");
            }
            sleep(POLL).await;
        }
    }

    fn spawn(&mut self) -> u32 {
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("the temporary directory is writable");
        let errors = log.try_clone().expect("a descriptor can be cloned");
        let child = Command::new(find_program::<K>())
            .args(self.kind.arguments(self.port, self.dir.path()))
            .envs(self.kind.environment().iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", K::PROGRAM));
        self.child.insert(child).id()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("output.log")
    }

    fn give_up(&self, why: &str) -> ! {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let tail = &lines[lines.len().saturating_sub(20)..];
        panic!("{} {why}; its last words:\n{}", K::PROGRAM, tail.join("\n"))
    }
}

impl<K: Kind> Drop for Process<K> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether no thread of a process runs.
fn is_still(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    threads.filter_map(Result::ok).all(|thread| {
        let status = fs::read_to_string(thread.path().join("status"));
        // One that has ended runs no more.
        status.map_or(true, |status| status.contains("\nState:\tT"))
    })
}

fn temporary_dir<K: Kind>() -> TempDir {
    TempDir::with_prefix(format!("{}-", K::PROGRAM)).expect("a temporary directory can be made")
}

fn find_program<K: Kind>() -> PathBuf {
    if let Some(named) = std::env::var_os(K::VARIABLE) {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(OsStr::new(K::PROGRAM)))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            let (program, variable) = (K::PROGRAM, K::VARIABLE);
            panic!("{program} not found: install the package {program}, or set {variable}")
        })
}

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
