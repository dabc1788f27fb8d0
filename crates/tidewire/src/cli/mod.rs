//! The command line: what may be asked for.

mod config;
mod drain;
mod placement;
mod presence;
mod remote;
mod tenant;
mod token;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use config::{ConfigCommand, Init, Print, Shown};
pub use drain::Drain;
pub use placement::{Placement, Weighted};
pub use presence::Presence;
pub use remote::{Health, History, Publish, Remote, Subscribe};
pub use tenant::{
    AddKey, Administration, ApiKeyCommand, Apply, CreateApiKey, CreateTenant, KeyCommand, List,
    NewKey, Remove, RemoveKey, Reseal, Revoke, Revoked, RotateApiKey, SecretOutput, Show,
    TenantCommand,
};
pub use token::{Create, Keygen, SigningSource, TokenCommand, VerificationSource, Verify};
pub use value::{ChannelActions, Grant, ScopeName};

/// Real-time publish and subscribe over WebSocket.
#[derive(Debug, Parser)]
#[command(name = "tidewire", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one node in memory, for development: no files, no NATS, no Redis
    Dev(Dev),
    /// Run a node of a cluster, on NATS and Redis
    Serve(Serve),
    /// Publish to a channel
    Pub(Publish),
    /// Subscribe to channels and print what is published
    Sub(Subscribe),
    /// Print what a channel keeps
    History(History),
    /// Print who is in a channel
    Presence(Presence),
    /// Ask a node whether it is alive or ready; for probes and scripts
    Health(Health),
    /// Have a node move its clients to the others, and end
    Drain(Drain),
    /// Say on which nodes tenants are at home
    Placement(Placement),
    /// Check, show, describe and write configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List, add, change and remove tenants while nodes run
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Make and check tokens and their keys
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print the version
    Version(Version),
}

#[derive(Args, Debug)]
pub struct Dev {
    /// IP address and port for clients, for the page, and for metrics and health
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// File for its state, secrets included: written when it is stopped, taken when it starts again,
    /// so that clients resume; a crash leaves none
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Serve {
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Args, Debug)]
pub struct Version {
    /// Print a JSON object with all that is known about the build
    #[arg(long)]
    pub json: bool,
}

/// Which file to read; the environment is always laid over it.
#[derive(Args, Debug)]
pub struct ConfigFile {
    /// Configuration file in TOML; without it the environment and the defaults are all there is
    #[arg(long = "config", short = 'c', value_name = "FILE", env = "TIDEWIRE_CONFIG")]
    pub path: Option<PathBuf>,
}
