use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidewire_auth::{Algorithm, KeyId};
use tidewire_model::Tenant;

use super::value::{Grant, ScopeName, parse_algorithm, parse_key_id, parse_tenant};
use crate::config::Period;

#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// List tenants, their revisions, and whether each is the file's or the registry's
    List(List),
    /// Show a tenant as a file that can be applied again, its secrets masked
    Show(Show),
    /// Add a tenant with one key, and print the key's secret if one is made
    Create(CreateTenant),
    /// Add or change the tenant of a file, or each of the tenants of a configuration file
    Apply(Apply),
    /// Remove a tenant: nobody connects or resumes with its keys any more
    Remove(Remove),
    /// Add and remove the keys that tokens are signed with
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make, rotate and remove the keys that servers publish with
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// Make void what was issued: on all nodes it is refused, and whoever is connected with it disconnected
    Revoke(Revoke),
    /// Seal every document with the first of `registry.keys`, so that the others can go
    Reseal(Reseal),
}

/// Where tenants are changed.
#[derive(Args, Debug)]
pub struct Administration {
    /// Admin listener of any node
    #[arg(
        long = "admin",
        value_name = "URL",
        env = "TIDEWIRE_ADMIN",
        default_value = "http://127.0.0.1:8002"
    )]
    pub url: String,
    /// File that holds one of the node's `admin.tokens`; not needed on loopback
    #[arg(long = "admin-token-file", value_name = "FILE", env = "TIDEWIRE_ADMIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    pub admin: Administration,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Show {
    /// Tenant to show
    #[arg(value_parser = parse_tenant)]
    pub tenant: Tenant,
    #[command(flatten)]
    pub admin: Administration,
    /// Print JSON instead of TOML
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct CreateTenant {
    /// Tenant to add; there must be none of that name
    #[arg(value_parser = parse_tenant)]
    pub tenant: Tenant,
    #[command(flatten)]
    pub key: NewKey,
    /// Id of the key, which tokens name in their header
    #[arg(long, value_name = "ID", default_value = "main", value_parser = parse_key_id)]
    pub key_id: KeyId,
    #[command(flatten)]
    pub output: SecretOutput,
    #[command(flatten)]
    pub admin: Administration,
}

/// The key that verifies tokens: one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct NewKey {
    /// Make an `HS256` secret
    #[arg(long, conflicts_with_all = ["public_key_file", "algorithm"])]
    pub generate_key: bool,
    /// Take the public key in this PEM file; the private one stays where tokens are signed
    #[arg(long, value_name = "FILE", requires = "algorithm")]
    pub public_key_file: Option<PathBuf>,
    /// Algorithm of the public key: `EdDSA`, `ES256` or `RS256`
    #[arg(long, requires = "public_key_file", value_parser = parse_algorithm)]
    pub algorithm: Option<Algorithm>,
}

/// Where a secret goes that is shown once.
#[derive(Args, Debug)]
pub struct SecretOutput {
    /// File to write it to, readable by its owner only; it must not exist [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Apply {
    /// File in TOML with the members of one `[[tenants]]`, or with `[[tenants]]`; `-` reads standard
    /// input. A key without its secret keeps the one it has
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Change this revision and no other
    #[arg(long, value_name = "N")]
    pub revision: Option<u64>,
    #[command(flatten)]
    pub admin: Administration,
}

#[derive(Args, Debug)]
pub struct Remove {
    /// Tenant to remove
    #[arg(value_parser = parse_tenant)]
    pub tenant: Tenant,
    #[command(flatten)]
    pub admin: Administration,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Add a key, and print its secret if one is made
    Add(AddKey),
    /// Remove a key: no token that it signed lets anybody in any more
    Remove(RemoveKey),
}

#[derive(Args, Debug)]
pub struct AddKey {
    /// Tenant whose key it will be
    #[arg(value_parser = parse_tenant)]
    pub tenant: Tenant,
    /// Id of the key, which tokens name in their header
    #[arg(value_parser = parse_key_id)]
    pub id: KeyId,
    #[command(flatten)]
    pub key: NewKey,
    #[command(flatten)]
    pub output: SecretOutput,
    #[command(flatten)]
    pub admin: Administration,
}

#[derive(Args, Debug)]
pub struct RemoveKey {
    /// Tenant whose key it is
    #[arg(value_parser = parse_tenant)]
    pub tenant: Tenant,
    /// Id of the key
    pub id: String,
    #[command(flatten)]
    pub admin: Administration,
}

#[derive(Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// Make a key, and print it: `id.secret`
    Create(CreateApiKey),
    /// Give a key another secret, and print it; the one before works for a while
    Rotate(RotateApiKey),
    /// Remove a key: it works no more
    Remove(RemoveKey),
}

#[derive(Args, Debug)]
pub struct CreateApiKey {
    /// Tenant whose key it will be
    #[arg(value_parser = parse_tenant)]
    pub tenant: Tenant,
    /// Id of the key, which may appear in logs
    pub id: String,
    /// What it may do, as `chat/*=publish`; may be repeated, and without it everything
    #[arg(long = "channel", value_name = "PATTERN=ACTIONS")]
    pub grants: Vec<Grant>,
    /// What it may be used for at all: `publish`, `history`, `presence`, `tickets`, `revoke`; may be
    /// repeated [default: the first three]
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<ScopeName>,
    /// After how long it works no more [default: never]
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<Period>,
    #[command(flatten)]
    pub output: SecretOutput,
    #[command(flatten)]
    pub admin: Administration,
}

#[derive(Args, Debug)]
pub struct RotateApiKey {
    /// Tenant whose key it is
    #[arg(value_parser = parse_tenant)]
    pub tenant: Tenant,
    /// Id of the key
    pub id: String,
    /// How long the secret before works as well, `30d` at most
    #[arg(long, value_name = "DURATION", default_value = "1d")]
    pub overlap: Period,
    #[command(flatten)]
    pub output: SecretOutput,
    #[command(flatten)]
    pub admin: Administration,
}

#[derive(Args, Debug)]
pub struct Revoke {
    /// Tenant whose it is
    #[arg(value_parser = parse_tenant)]
    pub tenant: Tenant,
    #[command(flatten)]
    pub what: Revoked,
    /// Only what was issued until then, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub before: Option<u64>,
    #[command(flatten)]
    pub admin: Administration,
}

/// One of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Revoked {
    /// Every token of this user
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// The token of this id (`jti`)
    #[arg(long, value_name = "ID")]
    pub token: Option<String>,
    /// Every token that this key has signed
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// Every token of the tenant
    #[arg(long)]
    pub all: bool,
}

#[derive(Args, Debug)]
pub struct Reseal {
    #[command(flatten)]
    pub admin: Administration,
}
