use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, value_parser};

use super::dialect::Dialect;
use super::phases::Phase;

/// Open many connections at next to no cost and measure the server's processor time and memory
///
/// Prints one JSON object a line: the opening, then each phase. For servers on this machine only.
#[derive(Args, Debug)]
pub(crate) struct SwarmOptions {
    /// Where the server listens; a loopback address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: SocketAddr,
    /// Where the one connection that only publishes goes, if not there
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) publisher_address: Option<SocketAddr>,
    /// What the server understands
    #[arg(long, value_enum, default_value_t = Dialect::Json)]
    pub(crate) dialect: Dialect,
    /// Ask this address, a `tidewire dev`, for a token for each connection
    #[arg(long, value_name = "ADDRESS", conflicts_with = "key_file")]
    pub(crate) dev: Option<SocketAddr>,
    /// File that holds the secret of the tenant's HS256 key, to sign a token for each connection
    #[arg(long, value_name = "FILE", requires = "tenant")]
    pub(crate) key_file: Option<PathBuf>,
    /// Tenant of the key
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Connect with TLS, trusting the certificates of this file
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Connections, at most 19900: a process may have 20000 files open
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=19_900))]
    pub(crate) connections: u32,
    /// Channels the connections are spread over, each subscribing to one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=19_900))]
    pub(crate) channels: u32,
    /// Connections that are being opened at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=2_048))]
    pub(crate) concurrency: u32,
    /// Size of a payload in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = value_parser!(u32).range(16..=65_000))]
    pub(crate) payload_bytes: u32,
    /// What to do once all are connected, in this order: `burst:K` publishes K at once and waits for
    /// all deliveries, `flood:K` keeps 4 K under way, `paced:R` lets each connection publish R times
    /// a second, `ingress:R` the same without a reply, `acked:R` the same with one, `once` publishes
    /// once, `idle` waits, `gate` waits until the file of --gate is there, `drop` cuts all
    /// connections and opens them again
    #[arg(long, value_name = "PHASE", value_delimiter = ',')]
    pub(crate) phases: Vec<Phase>,
    /// Seconds each phase is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Seconds each phase is warmed up
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    pub(crate) warmup: f64,
    /// File whose appearance ends the phase `gate`
    #[arg(long, value_name = "FILE")]
    pub(crate) gate: Option<PathBuf>,
    /// Server process to observe; may be repeated
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Vec<u32>,
}
