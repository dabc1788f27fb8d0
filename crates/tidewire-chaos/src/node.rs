//! A node as an operator starts it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::http;
use crate::wait::until;

/// A `tidewire serve` of its own. Dropping it kills the process.
pub struct NodeProcess {
    child: Child,
    pid: Pid,
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
    name: String,
    clients: std::net::SocketAddr,
    ops: std::net::SocketAddr,
}

/// Lines of the log that are remembered; of more, the oldest are forgotten.
const MOST_LINES: usize = 10_000;
/// A node that is not up by then is not coming up.
const PATIENCE: Duration = Duration::from_secs(30);

impl NodeProcess {
    /// Starts it, with more in its environment, and waits until it listens.
    pub(crate) async fn start(
        program: &Path,
        config: &Path,
        environment: &[(String, OsString)],
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["serve", "--config"])
            .arg(config)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        let stderr = child.stderr.take().context("it is piped")?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let written = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut lines = written.lock();
                if lines.len() == MOST_LINES {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        });
        let pid = Pid::from_child(&child);
        let nowhere = ([127, 0, 0, 1], 0).into();
        let reader = Some(reader);
        let (name, clients, ops) = (String::new(), nowhere, nowhere);
        let mut node = Self { child, pid, lines, reader, name, clients, ops };
        let up = node.line_with("node is up").await?;
        let line: serde_json::Value = serde_json::from_str(&up).context("a log line in JSON")?;
        let address = |field: &str| -> Result<std::net::SocketAddr> {
            let text = line[field].as_str().with_context(|| format!("no {field} in {up}"))?;
            Ok(text.parse()?)
        };
        line["node"].as_str().context("the node's name")?.clone_into(&mut node.name);
        node.clients = address("clients")?;
        node.ops = address("ops")?;
        Ok(node)
    }

    /// What it is called in what it stores.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients connect, without a proxy in between.
    pub fn clients(&self) -> std::net::SocketAddr {
        self.clients
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of its log.
    pub async fn line_with(&self, text: &str) -> Result<String> {
        let found = || self.lines.lock().iter().find(|line| line.contains(text)).cloned();
        let waited = until("a line", PATIENCE, async || found().is_some()).await;
        if let Some(line) = found() {
            return Ok(line);
        }
        let lines: Vec<String> = self.lines.lock().iter().cloned().collect();
        waited.with_context(|| format!("no {text:?} among:\n{}", lines.join("\n")))?;
        bail!("the line was forgotten")
    }

    /// What its operators' listener answers; nothing while it does not.
    pub async fn ops(&self, path: &str) -> Option<String> {
        let answer = http::ask(&format!("http://{}{path}", self.ops)).await.ok()?;
        Some(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// The sum of all series of a metric whose labels hold `label`; zero if there is none.
    pub async fn metric(&self, name: &str, label: &str) -> Result<u64> {
        let text = self.ops("/metrics").await.context("the node answers")?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter(|line| {
                line[name.len()..].starts_with('{') || line[name.len()..].starts_with(' ')
            })
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum())
    }

    pub async fn is_ready(&self) -> bool {
        let answer = http::ask(&format!("http://{}/readyz", self.ops)).await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1_024)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        Ok(kill_process(self.pid, Signal::TERM)?)
    }

    /// SIGSTOP: connections stay open, and nothing answers.
    pub fn pause(&self) -> Result<()> {
        Ok(kill_process(self.pid, Signal::STOP)?)
    }

    /// SIGCONT.
    pub fn go_on(&self) -> Result<()> {
        Ok(kill_process(self.pid, Signal::CONT)?)
    }

    /// Waits for the process to end by itself; fails if it ended badly.
    pub async fn ended(&mut self, within: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let mut status = None;
        until("the end of a node", within, async || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })
        .await?;
        match status {
            Some(status) if status.success() => Ok(begun.elapsed()),
            _ => bail!("the node ended with {status:?}"),
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
