use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidewire_auth::{Algorithm, KeyId};
use tidewire_model::{Tenant, UserId};

use super::value::{
    ChannelActions, Grant, parse_algorithm, parse_key_id, parse_tenant, parse_user,
};
use crate::config::Period;

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token
    Create(Create),
    /// Say who bears a token, or why it is refused
    Verify(Verify),
    /// Make a key to sign tokens with
    Keygen(Keygen),
}

#[derive(Args, Debug)]
pub struct Create {
    /// Tenant the token is for
    #[arg(long, value_parser = parse_tenant)]
    pub tenant: Tenant,
    /// User the token is for
    #[arg(long, value_parser = parse_user)]
    pub user: UserId,
    /// What the user may do, as `chat/*=subscribe,publish`; may be repeated, and without it the
    /// user may do nothing
    #[arg(long = "channel", value_name = "PATTERN=ACTIONS")]
    pub grants: Vec<Grant>,
    /// What the user may not do whatever else is said, as `chat/staff=publish`; may be repeated
    #[arg(long = "deny", value_name = "PATTERN=ACTIONS")]
    pub denials: Vec<Grant>,
    /// Make a token of one channel instead, as `chat/7=subscribe,publish`: it lets nobody in, and is shown
    /// with a `subscribe` to that channel by a user who is connected
    #[arg(long, value_name = "CHANNEL=ACTIONS", conflicts_with_all = ["grants", "denials"])]
    pub only: Option<ChannelActions>,
    /// How long the token is valid
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub ttl: Period,
    /// Audience of the token [default: the configuration's, or `tidewire`]
    #[arg(long, value_name = "NAME")]
    pub audience: Option<String>,
    /// Id of the key, which stands in the token's header
    #[arg(long, value_name = "ID", conflicts_with = "config", value_parser = parse_key_id)]
    pub kid: Option<KeyId>,
    #[command(flatten)]
    pub key: SigningSource,
    /// Algorithm of the private key: `EdDSA`, `ES256` or `RS256`
    #[arg(long, requires = "key_file", value_parser = parse_algorithm)]
    pub algorithm: Option<Algorithm>,
}

/// Where the signing key comes from: exactly one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct SigningSource {
    /// Sign with the first HS256 key the tenant has in this configuration file
    #[arg(
        long,
        short = 'c',
        value_name = "FILE",
        conflicts_with_all = ["secret", "secret_file", "key_file"]
    )]
    pub config: Option<PathBuf>,
    /// Sign with this HS256 secret; other users of this machine can see it
    #[arg(long, conflicts_with_all = ["secret_file", "key_file"])]
    pub secret: Option<String>,
    /// Sign with the HS256 secret in this file
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub secret_file: Option<PathBuf>,
    /// Sign with the private key in this PEM file
    #[arg(long, value_name = "FILE", requires = "algorithm")]
    pub key_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Verify {
    /// Token to verify, or `-` for standard input
    #[arg(default_value = "-", hide_default_value = true)]
    pub token: String,
    /// Tenant the key belongs to; a configuration file knows it
    #[arg(long, conflicts_with = "config", value_parser = parse_tenant)]
    pub tenant: Option<Tenant>,
    /// Audience the token must have [default: the configuration's, or `tidewire`]
    #[arg(long, value_name = "NAME")]
    pub audience: Option<String>,
    #[command(flatten)]
    pub key: VerificationSource,
    /// Algorithm of the public key: `EdDSA`, `ES256` or `RS256`
    #[arg(long, requires = "key_file", value_parser = parse_algorithm)]
    pub algorithm: Option<Algorithm>,
}

/// Where the verifying key comes from: exactly one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct VerificationSource {
    /// Verify with the keys in this configuration file
    #[arg(
        long,
        short = 'c',
        value_name = "FILE",
        conflicts_with_all = ["secret", "secret_file", "key_file"]
    )]
    pub config: Option<PathBuf>,
    /// Verify with this HS256 secret; other users of this machine can see it
    #[arg(long, requires = "tenant", conflicts_with_all = ["secret_file", "key_file"])]
    pub secret: Option<String>,
    /// Verify with the HS256 secret in this file
    #[arg(long, value_name = "FILE", requires = "tenant", conflicts_with = "key_file")]
    pub secret_file: Option<PathBuf>,
    /// Verify with the public key in this PEM file
    #[arg(long, value_name = "FILE", requires_all = ["tenant", "algorithm"])]
    pub key_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Keygen {
    /// What to sign with: `HS256` prints a secret, `EdDSA`, `ES256` and
    /// `RS256` a private and a public key
    #[arg(long, default_value = "EdDSA", value_parser = parse_algorithm)]
    pub algorithm: Algorithm,
}
