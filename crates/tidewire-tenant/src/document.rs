//! A tenant as it is written down: in a node's file, and in the registry.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_auth::{Algorithm, Scope};
use tidewire_model::{Action, DeliveryClass, DeltaFormat, SessionKind, WhenSlow};

pub use crate::limits::OwnLimits;
use crate::{Period, Secret};

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Name of the tenant: 1 to 32 characters from `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// Keys that its users' tokens are signed with, at most 16. No two tenants may share one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub keys: Vec<TokenKey>,
    /// Keys that its servers publish with, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub api_keys: Vec<ApiKey>,
    /// Who else issues its users' tokens, under keys that are published and change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Issuer>,
    /// How its users' sessions are kept. Of a `lazy` one the store has the user before they are told
    /// of it, and its subscriptions shortly after they change; of a `strict` one, no subscription is
    /// confirmed before the store has it. With `none` nothing is kept and nothing is resumed, and
    /// neither is Redis needed to connect: for whoever only watches. Clients that carry their
    /// positions miss nothing either way. The same on every node.
    #[serde(default)]
    pub sessions: SessionsName,
    /// Nodes that its clients are to meet on, of those that `/placement/{tenant}` names: one more for
    /// every few ten thousand connections. A balancer that places tenants keeps to it; every node
    /// serves every tenant. 2 unless set; the same on every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub homes: Option<u32>,
    /// Origins whose pages may use the tenant, each as `https://host` or `https://host:port`, at most 64;
    /// beyond what `server.allowed_origins` allows of all. Empty allows every one: who connects proves who
    /// it is by a token, not by where the page is from. What is no browser says no origin, and may connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allowed_origins: Vec<String>,
    /// Cookie that may hold a user's token when a page of `allowed_origins`, which are needed for it, fetches a
    /// ticket with the header `tidewire-control`. It counts nowhere else. Set it with `Secure` and `HttpOnly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// What of the limits is otherwise for this tenant. The same on every node.
    #[serde(default, skip_serializing_if = "OwnLimits::is_empty")]
    pub limits: OwnLimits,
    /// How its channels are treated: of the rules whose pattern has a channel's name the most specific
    /// holds for it, whatever their order. Level by level from the left, a name is more specific than
    /// `*` and that than `**`. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub rules: Vec<ChannelRule>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKey {
    /// What a token's `kid` header calls the key. A token without `kid` is tried against every key
    /// of its algorithm.
    pub id: String,
    /// How the key signs. A token that names another algorithm is refused.
    pub algorithm: AlgorithmName,
    /// Secret of an `HS256` key, at least 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// File that holds `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Public key in PEM, of the other algorithms; for `RS256` of at least 2048 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// File that holds `public_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What its tokens' `iss` says, as it stands. No two tenants may have the same.
    pub name: String,
    /// Where it publishes its keys as a JWK Set: an `https` URL of a public address, unless
    /// `auth.jwks_networks` allows others. Redirects are not followed.
    pub jwks_url: String,
    /// What its tokens' `aud` has to hold; `auth.audience` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What bearers may do whose token has no `channels`. Nothing unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<BTreeMap<String, Vec<ActionName>>>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The part of the key before the dot: 1 to 64 characters from `a-z`, `A-Z`, `0-9`, `_` and `-`.
    /// It may appear in logs.
    pub id: String,
    /// The part after the dot, 32 to 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// File that holds `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// SHA-256 of the secret in hexadecimal, instead of the secret itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the key may do: patterns of channels, each with its actions. Everything unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<BTreeMap<String, Vec<ActionName>>>,
    /// What it may be used for over HTTP at all. Unless set, what its channels bound: `publish`,
    /// `history` and `presence`. With `tickets` it fetches one-time tickets for users, who may then do
    /// what the key may. No request asks for `history` yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<ScopeName>>,
    /// When it is of no use any more, in seconds since 1970, as `date +%s` prints them. Never unless
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// SHA-256 of the secret that it had before, which is taken as well until `previous_until`: so that
    /// servers get the new one while nothing fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_sha256: Option<String>,
    /// When the secret before is of no use any more, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRule {
    /// Name or pattern of the channels it is for. No two rules of a tenant may share one.
    pub pattern: String,
    /// What holds where the rule says nothing itself. `chat` keeps 1000 publications for 24 h, `notify`
    /// 100 for 7 d and is durable, `state` 16 for 24 h with `latest = "on"` and `delta = "fossil"`;
    /// `ticker` and `presence` are ephemeral, with a `flush_window` of 50 ms and 100 ms, and
    /// `presence` has `presence = "members"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<PresetName>,
    /// What is promised. Publications of a `recoverable` channel go through Redis: in order, without a
    /// silent loss, and who comes back misses nothing. So do those of a `durable` one, and are
    /// acknowledged only when as many replicas of Redis have them as `redis.durable_copies` says:
    /// without a replica none is. Those of an `ephemeral` one go over NATS alone: at most once, nothing
    /// is kept, and they arrive without Redis too. `recoverable` unless set here or by the preset; the
    /// same on every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassName>,
    /// Publications kept per channel; `history.size` unless set here or by the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub history_size: Option<u32>,
    /// How long they are kept, counted from a channel's newest publication; `history.ttl` unless set
    /// here or by the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-min" = "1s", "x-max" = "7d"))]
    pub history_ttl: Option<Period>,
    /// Whether who subscribes without a position is sent the newest publication first. `off` unless
    /// set here or by the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestName>,
    /// How long a publication may wait for others, to be written to each client together with them:
    /// less CPU for busy channels, for so much later a delivery. With `0s`, unless set here or by the
    /// preset, nothing waits; what comes at the same time is written together all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-min" = "0s", "x-max" = "100ms"))]
    pub flush_window: Option<Period>,
    /// Whether publications go out as what changed since the one before, to subscribers that ask for
    /// it: for channels of successive states, larger than a few hundred bytes. `off` unless set here
    /// or by the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<DeltaName>,
    /// What becomes of publications for a client that reads too slowly. With `lag` it falls behind, and
    /// goes on from its position once it has read. `drop-oldest` holds the newest 64 of the channel for
    /// it, `drop-newest` none; `latest` holds the newest one, from when the client first does not take
    /// what there is, and `latest-by-key` the newest one for each `key`, at most 1024. What is left out it is told, and how much that was. `disconnect` ends the
    /// connection. Of what is kept in Redis nothing is dropped: there it is `lag`, unless set here or by
    /// the preset, one of the others. `drop-oldest` is what holds for an `ephemeral` channel, and
    /// `latest` for the preset `ticker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_slow: Option<WhenSlowName>,
    /// With `members` clients may enter the channels, and those with the right `presence` are told who has.
    /// With `count` nobody enters, and they are told how many are subscribed: for channels of any size.
    /// `off` unless set here or by the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<PresenceName>,
    /// How long a member whose connection is lost is still one, so that coming back in time is neither
    /// a leave nor a join; `5s` unless set. While its node drains, 30 s at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-min" = "0s", "x-max" = "1m"))]
    pub presence_debounce: Option<Period>,
    /// While a channel has more members than this, those who watch are told how many there are, once in
    /// 1 s (5 s above 10,000), instead of who comes and goes; `1000` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub presence_listed: Option<u32>,
    /// For `latest-by-key`: the member of the JSON object in `data` that tells one value of the channel
    /// from another, as `symbol` of `{"symbol":"ABC","price":3}`. Publications without it, and those
    /// that are not JSON, are one value together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub key: Option<String>,
    /// Of what is published in so long a time only the newest is handed out, at its end, to whoever is
    /// subscribed; what was kept of the rest is there for who comes back, and in the history.
    /// Subscribers are told that it is so. `when_slow` is then `latest` unless set here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-min" = "10ms", "x-max" = "1m"))]
    pub sample: Option<Period>,
    /// Publications a second on each node, and twice as many at once, whoever publishes them; more are
    /// refused with 2005. `limits.channel_publish_rate` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub publish_rate: Option<u32>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenSlowName {
    Disconnect,
    DropNewest,
    DropOldest,
    Lag,
    Latest,
    LatestByKey,
}

impl From<WhenSlowName> for WhenSlow {
    fn from(name: WhenSlowName) -> Self {
        match name {
            WhenSlowName::Disconnect => Self::Disconnect,
            WhenSlowName::DropNewest => Self::DropNewest,
            WhenSlowName::DropOldest => Self::DropOldest,
            WhenSlowName::Lag => Self::Lag,
            WhenSlowName::Latest => Self::Latest,
            WhenSlowName::LatestByKey => Self::LatestByKey,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionsName {
    None,
    #[default]
    Lazy,
    Strict,
}

impl From<SessionsName> for SessionKind {
    fn from(name: SessionsName) -> Self {
        match name {
            SessionsName::None => Self::None,
            SessionsName::Lazy => Self::Lazy,
            SessionsName::Strict => Self::Strict,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PresetName {
    Chat,
    Notify,
    Presence,
    State,
    Ticker,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassName {
    Durable,
    Ephemeral,
    Recoverable,
}

impl From<ClassName> for DeliveryClass {
    fn from(name: ClassName) -> Self {
        match name {
            ClassName::Durable => Self::Durable,
            ClassName::Ephemeral => Self::Ephemeral,
            ClassName::Recoverable => Self::Recoverable,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LatestName {
    Off,
    On,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeltaName {
    Off,
    Fossil,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceName {
    Count,
    Members,
    Off,
}

impl From<DeltaName> for Option<DeltaFormat> {
    fn from(name: DeltaName) -> Self {
        match name {
            DeltaName::Off => None,
            DeltaName::Fossil => Some(DeltaFormat::Fossil),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
pub enum AlgorithmName {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "RS256")]
    Rs256,
}

impl From<AlgorithmName> for Algorithm {
    fn from(name: AlgorithmName) -> Self {
        match name {
            AlgorithmName::Hs256 => Self::Hs256,
            AlgorithmName::EdDsa => Self::EdDsa,
            AlgorithmName::Es256 => Self::Es256,
            AlgorithmName::Rs256 => Self::Rs256,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionName {
    Subscribe,
    Publish,
    History,
    Presence,
}

impl From<ActionName> for Action {
    fn from(name: ActionName) -> Self {
        match name {
            ActionName::Subscribe => Self::Subscribe,
            ActionName::Publish => Self::Publish,
            ActionName::History => Self::History,
            ActionName::Presence => Self::Presence,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeName {
    Publish,
    History,
    Presence,
    Tickets,
    Revoke,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Publish => Self::Publish,
            ScopeName::History => Self::History,
            ScopeName::Presence => Self::Presence,
            ScopeName::Tickets => Self::Tickets,
            ScopeName::Revoke => Self::Revoke,
        }
    }
}
