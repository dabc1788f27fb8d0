//! Running `loadtest swarm` and reading what it prints.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The core of everything that is not the server.
pub(super) const CLIENT_CORE: &str = "1";

/// What the swarm does.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) connections: u32,
    pub(super) channels: u32,
    pub(super) payload_bytes: u32,
    pub(super) phases: &'static str,
    pub(super) seconds: f64,
}

/// Whom it does it to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// Where the publishing connection goes.
    pub(super) publisher_address: SocketAddr,
    pub(super) dialect: &'static str,
    /// Options that say where tokens come from.
    pub(super) access: Vec<String>,
    /// The server's processes.
    pub(super) pids: Vec<u32>,
}

/// What a phase took.
#[derive(Clone, Debug)]
pub(super) struct Record(Value);

impl Task {
    /// 128 B to the subscribers of one channel.
    pub(super) fn new(connections: u32, phases: &'static str, seconds: f64) -> Self {
        Self { connections, channels: 1, payload_bytes: 128, phases, seconds }
    }
}

impl Record {
    pub(super) fn parse(line: &str) -> Result<Self> {
        Ok(Self(serde_json::from_str(line).with_context(|| format!("no record: {line}"))?))
    }

    pub(super) fn phase(&self) -> &str {
        self.0["phase"].as_str().unwrap_or_default()
    }

    /// A number; not one where the record has none of this name.
    pub(super) fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or(f64::NAN)
    }

    /// The same with one number more.
    pub(super) fn with(&self, name: &str, value: f64) -> Self {
        let mut record = self.0.clone();
        record[name] = value.into();
        Self(record)
    }

    /// Processor time in µs for each of what the field `name` counts.
    pub(super) fn cpu_per(&self, name: &str) -> f64 {
        self.number("cpu_us") / self.number(name)
    }

    /// How much resident memory has grown between two records, in bytes for each connection.
    pub(super) fn memory_since(&self, earlier: &Self) -> f64 {
        (self.number("resident_after") - earlier.number("resident_before"))
            / self.number("connections")
    }
}

/// The command that does it.
pub(super) fn command(loadtest: &Path, target: &Target, task: &Task) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", CLIENT_CORE]).arg(loadtest).arg("swarm").args(&target.access);
    command.args(["--address", &target.address.to_string()]);
    command.args(["--publisher-address", &target.publisher_address.to_string()]);
    command.args(["--dialect", target.dialect, "--phases", task.phases]);
    command.args(["--connections", &task.connections.to_string()]);
    command.args(["--channels", &task.channels.to_string()]);
    command.args(["--payload-bytes", &task.payload_bytes.to_string()]);
    command.args(["--seconds", &task.seconds.to_string()]);
    for pid in &target.pids {
        command.args(["--pid", &pid.to_string()]);
    }
    command.stdin(Stdio::null());
    command
}

/// Does it, and returns the opening and the phases in order.
pub(super) fn run(loadtest: &Path, target: &Target, task: &Task) -> Result<Vec<Record>> {
    let output = command(loadtest, target, task).output().context("cannot start the swarm")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8_lossy(&output.stdout).lines().map(Record::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_by_name() {
        let opened = Record::parse(
            r#"{"phase":"open","connections":10,"resident_before":1000,"resident_after":2000}"#,
        )
        .unwrap();
        let idle = Record::parse(
            r#"{"phase":"idle","connections":10,"cpu_us":50.0,"delivered":100,"resident_after":3000}"#,
        )
        .unwrap();

        assert_eq!(idle.phase(), "idle");
        assert!((idle.cpu_per("delivered") - 0.5).abs() < 1e-9);
        assert!((idle.memory_since(&opened) - 200.0).abs() < 1e-9);
        assert!(idle.number("nothing").is_nan());
    }
}
