use std::fmt;
use std::path::PathBuf;

use async_nats::{ConnectOptions, ServerAddr};
use tidewire_broker::EventQueue;

use crate::subject::Subjects;

/// How to reach NATS. [`NatsConfig::default`] is a server on this machine, without credentials.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// Addresses such as `nats://nats-0:4222` or `tls://nats.example:4222`; more servers of the same
    /// cluster are learned from the first one reached. A missing port is 4222.
    pub servers: Vec<String>,
    /// What every subject begins with, so that several installations can share one NATS: up to 64
    /// characters from `a-z`, `A-Z`, `0-9`, `_`, `-` and `.`.
    pub prefix: String,
    /// What the connections are called in NATS's own monitoring; the node and the connection's
    /// purpose are added.
    pub name: String,
    pub auth: NatsAuth,
    /// A file of PEM certificates to trust besides the system's, for `tls://` addresses.
    pub ca_file: Option<PathBuf>,
    /// The most events that wait for the node; what does not fit is dropped and announced.
    pub max_events: usize,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".into()],
            prefix: "tw".into(),
            name: "tidewire".into(),
            auth: NatsAuth::None,
            ca_file: None,
            max_events: EventQueue::MAX_EVENTS,
        }
    }
}

/// What proves to NATS who we are.
#[derive(Clone, Default)]
pub enum NatsAuth {
    #[default]
    None,
    UserPassword {
        user: String,
        password: String,
    },
    Token(String),
    /// The seed of a user's `NKey`, which begins with `SU`.
    NKeySeed(String),
    /// The text of a `.creds` file: a JWT and a seed.
    Credentials(String),
}

impl fmt::Debug for NatsAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::UserPassword { .. } => "UserPassword(..)",
            Self::Token(_) => "Token(..)",
            Self::NKeySeed(_) => "NKeySeed(..)",
            Self::Credentials(_) => "Credentials(..)",
        })
    }
}

/// Why no attempt to reach NATS makes sense with this configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNatsConfig {
    #[error("no nats server is configured")]
    NoServers,
    // The address is not repeated, because it may hold a password.
    #[error("nats server {index} is not an address such as nats://host:4222 or tls://host:4222")]
    Server {
        /// Which of the servers, counted from 0.
        index: usize,
    },
    #[error("nats prefix is not levels of a-z, A-Z, 0-9, `_`, `-`, separated by dots, up to 64")]
    Prefix,
    #[error("nats queue has no room for even one event")]
    NoRoom,
    #[error("nats seed is not 58 characters that begin with SU")]
    Seed,
    #[error("nats credentials hold no jwt with its seed")]
    Credentials,
}

/// A configuration that has been checked.
pub(crate) struct Endpoint {
    pub(crate) servers: Vec<ServerAddr>,
    /// The servers for people to read, without credentials.
    pub(crate) address: String,
    pub(crate) subjects: Subjects,
    pub(crate) max_events: usize,
    name: String,
    auth: NatsAuth,
    ca_file: Option<PathBuf>,
}

impl Endpoint {
    pub(crate) fn parse(config: NatsConfig) -> Result<Self, InvalidNatsConfig> {
        let subjects = Subjects::parse(&config.prefix).ok_or(InvalidNatsConfig::Prefix)?;
        if config.servers.is_empty() {
            return Err(InvalidNatsConfig::NoServers);
        }
        if config.max_events == 0 {
            return Err(InvalidNatsConfig::NoRoom);
        }
        let servers = config.servers.iter().enumerate();
        let servers = servers
            .map(|(index, text)| parse_server(text).ok_or(InvalidNatsConfig::Server { index }))
            .collect::<Result<Vec<_>, _>>()?;
        let endpoint = Self {
            address: describe(&servers),
            servers,
            subjects,
            max_events: config.max_events,
            name: config.name,
            auth: config.auth,
            ca_file: config.ca_file,
        };
        endpoint.options("check").map(|_| endpoint)
    }

    /// The options of one connection, which serves `purpose`.
    pub(crate) fn options(&self, purpose: &str) -> Result<ConnectOptions, InvalidNatsConfig> {
        let options = ConnectOptions::new().name(format!("{} {purpose}", self.name));
        let options = match &self.ca_file {
            Some(file) => options.add_root_certificates(file.clone()),
            None => options,
        };
        Ok(match &self.auth {
            NatsAuth::None => options,
            NatsAuth::UserPassword { user, password } => {
                options.user_and_password(user.clone(), password.clone())
            }
            NatsAuth::Token(token) => options.token(token.clone()),
            NatsAuth::NKeySeed(seed) if is_user_seed(seed) => options.nkey(seed.clone()),
            NatsAuth::NKeySeed(_) => return Err(InvalidNatsConfig::Seed),
            NatsAuth::Credentials(text) => {
                options.credentials(text).map_err(|_| InvalidNatsConfig::Credentials)?
            }
        })
    }
}

fn parse_server(text: &str) -> Option<ServerAddr> {
    let server: ServerAddr = text.parse().ok()?;
    // WebSocket addresses parse, but would be spoken to in plain NATS.
    let speaks_nats = matches!(server.scheme(), "nats" | "tls");
    (speaks_nats && !server.host().is_empty()).then_some(server)
}

fn is_user_seed(seed: &str) -> bool {
    seed.len() == 58 && seed.starts_with("SU")
}

fn describe(servers: &[ServerAddr]) -> String {
    let describe =
        |server: &ServerAddr| format!("{}://{}:{}", server.scheme(), server.host(), server.port());
    servers.iter().map(describe).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_shown_holds_no_credentials() {
        let servers = vec!["nats://ann:secret@one:4223".into(), "two".into()];

        let endpoint = Endpoint::parse(NatsConfig { servers, ..NatsConfig::default() });

        let address = endpoint.ok().map(|endpoint| endpoint.address);
        assert_eq!(address.as_deref(), Some("nats://one:4223, nats://two:4222"));
    }

    #[test]
    fn a_malformed_server_is_named_by_its_place() {
        for bad in ["", "nats://", "http://host", "ws://host", "nats://ho st", "nats://h:99999"] {
            let servers = vec!["nats://good".into(), bad.into()];
            let config = NatsConfig { servers, ..NatsConfig::default() };

            assert_eq!(error(config), Some(InvalidNatsConfig::Server { index: 1 }), "{bad:?}");
        }
    }

    #[test]
    fn what_can_never_work_is_refused() {
        let base = NatsConfig::default;
        let auth = |auth| NatsConfig { auth, ..base() };
        let cases = [
            (NatsConfig { servers: vec![], ..base() }, InvalidNatsConfig::NoServers),
            (NatsConfig { prefix: "a.>".into(), ..base() }, InvalidNatsConfig::Prefix),
            (NatsConfig { max_events: 0, ..base() }, InvalidNatsConfig::NoRoom),
            (auth(NatsAuth::NKeySeed("UA".into())), InvalidNatsConfig::Seed),
            (auth(NatsAuth::Credentials("none".into())), InvalidNatsConfig::Credentials),
        ];
        for (config, expected) in cases {
            assert_eq!(error(config), Some(expected));
        }
    }

    #[test]
    fn secrets_are_not_in_the_debug_form() {
        let password = NatsAuth::UserPassword { user: "ann".into(), password: "secret".into() };
        let config = NatsConfig { auth: password, ..NatsConfig::default() };

        assert!(!format!("{config:?}").contains("secret"));
    }

    fn error(config: NatsConfig) -> Option<InvalidNatsConfig> {
        Endpoint::parse(config).err()
    }
}
