use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use tidewire_model::{Channel, Position, PublicationId, Tenant};

use super::value::{parse_channel, parse_position, parse_publication_id, parse_tenant};

/// How to reach a node, and as whom.
#[derive(Args, Debug)]
pub struct Remote {
    /// Node or load balancer to connect to
    #[arg(long, env = "TIDEWIRE_URL", default_value = "ws://127.0.0.1:8000")]
    pub url: String,
    /// Tenant to name in the path [default: the one of the token]
    #[arg(long, env = "TIDEWIRE_TENANT", value_parser = parse_tenant)]
    pub tenant: Option<Tenant>,
    /// Token to connect with; other users of this machine can see it, unlike the variable or a file
    #[arg(long, env = "TIDEWIRE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the token, or `-` for standard input; wins over `--token`. It is read again when
    /// the token runs out
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Command that prints a token, run by `sh` now and when the token runs out; wins over the others
    #[arg(long, value_name = "COMMAND")]
    pub token_command: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Speak protobuf with the node instead of JSON
    #[arg(long)]
    pub protobuf: bool,
}

#[derive(Args, Debug)]
pub struct Publish {
    /// Channel to publish to
    #[arg(value_parser = parse_channel)]
    pub channel: Channel,
    /// What to publish: JSON if it is valid JSON, a JSON string otherwise; `-` reads standard input
    pub data: String,
    /// Id that makes repeating the command store the publication once
    #[arg(long, value_parser = parse_publication_id)]
    pub id: Option<PublicationId>,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Args, Debug)]
pub struct Subscribe {
    /// Channels to subscribe to
    #[arg(required = true, value_name = "CHANNEL", value_parser = parse_channel)]
    pub channels: Vec<Channel>,
    /// Print up to this many of the newest publications of each channel first
    #[arg(long, value_name = "N", conflicts_with = "since")]
    pub last: Option<NonZeroU32>,
    /// Print everything after this position first, for one channel
    #[arg(long, value_name = "EPOCH:OFFSET", value_parser = parse_position)]
    pub since: Option<Position>,
    /// File that holds a token of the channel, for one channel that the token of the connection does not
    /// allow
    #[arg(long, value_name = "FILE")]
    pub channel_token_file: Option<PathBuf>,
    /// End after this many publications
    #[arg(long, value_name = "N")]
    pub count: Option<NonZeroU32>,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Args, Debug)]
pub struct History {
    /// Channel to read
    #[arg(value_parser = parse_channel)]
    pub channel: Channel,
    /// Most publications to print
    #[arg(long, value_name = "N", default_value = "100")]
    pub limit: NonZeroU32,
    /// Newest first, going back from this position
    #[arg(long, value_name = "EPOCH:OFFSET", value_parser = parse_position)]
    pub before: Option<Position>,
    /// Oldest first, going on from this position
    #[arg(
        long,
        value_name = "EPOCH:OFFSET",
        value_parser = parse_position,
        conflicts_with_all = ["before", "newest_first"]
    )]
    pub after: Option<Position>,
    /// Newest first, from the end
    #[arg(long)]
    pub newest_first: bool,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Args, Debug)]
pub struct Health {
    /// Operators' listener of the node
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    pub url: String,
    /// Ask whether it takes clients, not only whether it lives
    #[arg(long)]
    pub ready: bool,
}
