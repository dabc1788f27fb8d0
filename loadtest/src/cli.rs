//! The command line: every number with its bound.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use serde::Serialize;
use tidewire_client::Codec;
use tidewire_model::Tenant;
use tidewire_witness::Stamp;

use crate::swarm::SwarmOptions;

/// Connect many clients to Tidewire, publish, and check and time every delivery
///
/// Ends with 0 if nothing was lost, duplicated, reordered or altered and everybody was connected,
/// with 1 if not, and with 2 if there was nothing to measure.
#[derive(Debug, Parser)]
#[command(
    name = "loadtest",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) instrument: Option<Instrument>,
    /// What to do to the server
    #[arg(value_enum, default_value_t = Scenario::Fanout)]
    pub(crate) scenario: Scenario,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) leaving: Leaving,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What measures a server instead of checking it.
#[derive(Debug, Subcommand)]
pub(crate) enum Instrument {
    Swarm(SwarmOptions),
}

#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Connect everybody, then publish at a rate, or as fast as the acknowledgements come
    Fanout,
    /// The same, with all subscribers at the first node, which then leaves
    Drain,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Target")]
pub(crate) struct Target {
    /// Node or load balancer; may be repeated, clients are spread and may move between them
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8000")]
    pub(crate) url: Vec<String>,
    /// Ask a `tidewire dev` for its tenant and a token
    #[arg(long, conflicts_with = "tenant_key", required_unless_present = "tenant_key")]
    pub(crate) dev: bool,
    /// Tenant, and the file that holds the secret of its HS256 key, to sign tokens with; may be
    /// repeated, clients are spread over the tenants
    #[arg(long, value_name = "TENANT=FILE", value_parser = parse_tenant_key)]
    pub(crate) tenant_key: Vec<TenantKey>,
    /// Audience of the tokens
    #[arg(long, value_name = "NAME", default_value = "tidewire")]
    pub(crate) audience: String,
    /// Permit addresses that are not loopback
    #[arg(long = "i-own-the-target")]
    pub(crate) is_owned: bool,
}

/// A tenant, and where the secret is that its tokens are signed with.
#[derive(Clone, Debug)]
pub(crate) struct TenantKey {
    pub(crate) tenant: Tenant,
    pub(crate) file: PathBuf,
}

/// How much of everything.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Load")]
pub(crate) struct Load {
    /// Clients that subscribe, at most 20000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=20_000))]
    pub(crate) clients: u32,
    /// Channels of each tenant, at most 10000
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) channels: u32,
    /// Channels each client subscribes to, at most 512 and no more than there are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=512))]
    pub(crate) subscriptions_per_client: u32,
    /// Clients that publish, besides those that subscribe; at most 256 and at least one a tenant
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u32).range(1..=256))]
    pub(crate) publishers: u32,
    /// Publications a second by all publishers together, at most 1000000; 0 publishes as fast as the
    /// acknowledgements come
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(0..=1_000_000))]
    pub(crate) rate: u32,
    /// Publications a publisher may have without an acknowledgement; at the bound it waits, and with
    /// a rate that wait is part of the latency
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(1..=4_096))]
    pub(crate) in_flight: u32,
    /// Publications after which to stop early, at most 10000000
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(crate) count: u32,
    /// Size of a payload, which is one JSON string, with its quotes
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = value_parser!(u32).range(i64::from(Stamp::BYTES)..=65_536))]
    pub(crate) payload_bytes: u32,
    /// Seconds that are measured, at most 600
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = value_parser!(u32).range(1..=600))]
    pub(crate) duration: u32,
    /// Seconds of publishing before that, checked but not measured; at most 120
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = value_parser!(u32).range(0..=120))]
    pub(crate) warmup: u32,
    /// Seconds to wait at the end for what is still on its way, at most 120
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = value_parser!(u32).range(1..=120))]
    pub(crate) settle: u32,
    /// Connections opened a second, at most 20000
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=20_000))]
    pub(crate) connect_rate: u32,
    /// Encoding the clients speak
    #[arg(long, value_enum, default_value_t = Encoding::Json)]
    pub(crate) codec: Encoding,
    /// Decides who publishes where, and the filling of payloads [default: drawn, and reported]
    #[arg(long, value_name = "N")]
    #[serde(skip)]
    pub(crate) seed: Option<u64>,
}

/// Which node leaves, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Drain")]
pub(crate) struct Leaving {
    /// Process of the node at the first --url: the one that leaves
    #[arg(long, value_name = "PID", required_if_eq("scenario", "drain"))]
    pub(crate) leaver: Option<u32>,
    /// What it is sent
    #[arg(long, value_enum, default_value_t = LeaveBy::Term)]
    pub(crate) leave_by: LeaveBy,
    /// Seconds after the warm-up at which it is sent, at most 300
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = value_parser!(u32).range(0..=300))]
    pub(crate) leave_after: u32,
    /// Of each 100 subscribers, how many close the old connection before they open the new one
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(0..=100))]
    pub(crate) apart: u32,
    /// Of all subscribers, how many begin at the second --url, to see what the others do to them; at
    /// most 20000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u32).range(0..=20_000))]
    pub(crate) bystanders: u32,
    /// Operators' listener of a node that stays, for the tokens it verifies; may be repeated
    #[arg(long, value_name = "URL")]
    pub(crate) ops: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LeaveBy {
    /// SIGTERM: it drains
    Term,
    /// SIGKILL
    Kill,
}

#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

impl From<Encoding> for Codec {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => Self::Json,
            Encoding::Protobuf => Self::Protobuf,
        }
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Server process on this machine whose processor time and memory to report, of those that stay
    /// to the end; may be repeated
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Vec<u32>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing while it runs
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

fn parse_tenant_key(text: &str) -> Result<TenantKey, String> {
    let (tenant, file) = text.split_once('=').ok_or("expected TENANT=FILE")?;
    let tenant = Tenant::parse(tenant).map_err(|error| error.to_string())?;
    Ok(TenantKey { tenant, file: file.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_key_is_a_tenant_and_a_file() {
        let key = parse_tenant_key("acme=/run/secrets/a=b").expect("valid");

        assert_eq!(key.tenant.as_str(), "acme");
        assert_eq!(key.file, PathBuf::from("/run/secrets/a=b"));
        assert!(parse_tenant_key("acme").is_err());
        assert!(parse_tenant_key("ACME=x").is_err());
    }

    #[test]
    fn somebody_has_to_vouch_for_the_clients() {
        assert!(Cli::try_parse_from(["loadtest"]).is_err());
        assert!(Cli::try_parse_from(["loadtest", "--dev"]).is_ok());
        assert!(Cli::try_parse_from(["loadtest", "--dev", "--tenant-key", "a=b"]).is_err());
    }

    #[test]
    fn a_drain_needs_a_node_that_leaves() {
        assert!(Cli::try_parse_from(["loadtest", "drain", "--dev"]).is_err());
        assert!(Cli::try_parse_from(["loadtest", "drain", "--dev", "--leaver", "1"]).is_ok());
    }

    #[test]
    fn every_number_has_a_bound() {
        for option in [
            "--clients=20001",
            "--channels=10001",
            "--subscriptions-per-client=513",
            "--publishers=257",
            "--rate=1000001",
            "--in-flight=4097",
            "--count=10000001",
            "--payload-bytes=63",
            "--payload-bytes=65537",
            "--duration=601",
            "--warmup=121",
            "--settle=121",
            "--connect-rate=20001",
            "--leave-after=301",
            "--apart=101",
            "--bystanders=20001",
        ] {
            assert!(Cli::try_parse_from(["loadtest", "--dev", option]).is_err(), "{option}");
        }
    }
}
