use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use tidewire_model::Random;

use crate::simulated;

/// How to reach Redis, and how long to wait for it.
#[derive(Clone)]
pub struct RedisConfig {
    pub deployment: Deployment,
    /// What every key begins with: 1 to 32 characters from `a-z`, `A-Z`, `0-9`, `_`, `-`, `.`.
    pub prefix: String,
    /// For the servers that hold data; overrides what a URL says.
    pub username: Option<String>,
    /// For the servers that hold data; overrides what a URL says.
    pub password: Option<String>,
    /// How long connecting may take, and how long one call may go unanswered.
    pub deadline: Duration,
    /// How many calls may be waiting for Redis; those beyond wait for their turn, at most
    /// `deadline`.
    pub max_in_flight: usize,
    /// How many replicas have to have a publication of a durable channel before it is acknowledged.
    /// With 0 it is when the primary has it.
    pub durable_copies: u32,
    /// Whether fewer replicas than `durable_copies` are worth a warning: there are durable channels.
    pub expects_copies: bool,
    /// For nonces and waits: the system, unless a run is to be repeated from a seed.
    pub random: Random,
}

impl RedisConfig {
    pub fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            prefix: "tw".into(),
            username: None,
            password: None,
            deadline: Duration::from_secs(2),
            max_in_flight: 2_000,
            durable_copies: 0,
            expects_copies: false,
            random: Random::new(|| getrandom::u64().expect("the system has random numbers")),
        }
    }
}

/// Which servers there are. URLs are `redis://[user[:password]@]host[:port][/database]`, or `rediss://`
/// for TLS.
#[derive(Clone)]
pub enum Deployment {
    /// One server.
    Single { url: String },
    /// Whatever server these sentinels say is the primary named `master`. What a URL says of
    /// credentials is for the sentinel itself.
    Sentinel { urls: Vec<String>, master: String, database: i64, tls: bool },
    /// A cluster that these servers belong to.
    Cluster { urls: Vec<String> },
}

/// Why a configuration cannot be right, whatever the network does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    #[error("redis url `{address}` cannot be read: {reason}")]
    Url { address: String, reason: String },
    #[error("redis needs at least one url")]
    NoUrl,
    #[error("redis sentinel needs the name of the master")]
    NoMaster,
    #[error("redis key prefix must be 1 to 32 characters from a-z, A-Z, 0-9, `_`, `-` and `.`")]
    Prefix,
    #[error("redis deadline and number of calls in flight must be above zero")]
    Zero,
}

/// A configuration that has been checked.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) servers: Servers,
    /// Names the servers in errors and logs, without credentials.
    pub(crate) address: String,
}

#[derive(Clone)]
pub(crate) enum Servers {
    Single(ConnectionInfo),
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        master: String,
        node: redis::RedisConnectionInfo,
        tls: bool,
    },
    Cluster(Vec<ConnectionInfo>),
    Simulated(Arc<dyn simulated::Servers>),
}

impl Target {
    pub(crate) fn check(config: &RedisConfig) -> Result<Self, InvalidConfig> {
        check_prefix(&config.prefix)?;
        if config.deadline.is_zero() || config.max_in_flight == 0 {
            return Err(InvalidConfig::Zero);
        }
        match &config.deployment {
            Deployment::Single { url } => {
                let server = parse(url)?;
                let settings = credentials(server.redis_settings().clone(), config)
                    .set_protocol(ProtocolVersion::RESP3);
                let server = server.set_redis_settings(settings);
                Ok(Self { address: server.addr().to_string(), servers: Servers::Single(server) })
            }
            Deployment::Sentinel { urls, master, database, tls } => {
                if master.is_empty() {
                    return Err(InvalidConfig::NoMaster);
                }
                let sentinels = parse_all(urls)?;
                let address = format!("{} (sentinels of {master})", addresses(&sentinels));
                let node = credentials(redis::RedisConnectionInfo::default(), config)
                    .set_db(*database)
                    .set_protocol(ProtocolVersion::RESP3);
                let master = master.clone();
                Ok(Self {
                    servers: Servers::Sentinel { sentinels, master, node, tls: *tls },
                    address,
                })
            }
            Deployment::Cluster { urls } => {
                let seeds = parse_all(urls)?;
                let address = addresses(&seeds);
                let seeds = seeds.into_iter().map(|seed| with_credentials(seed, config)).collect();
                Ok(Self { servers: Servers::Cluster(seeds), address })
            }
        }
    }
}

fn check_prefix(prefix: &str) -> Result<(), InvalidConfig> {
    // A brace would move the hash tag, and with it every key, to another slot.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let valid = (1..=32).contains(&prefix.len()) && prefix.bytes().all(allowed);
    if valid { Ok(()) } else { Err(InvalidConfig::Prefix) }
}

fn parse_all(urls: &[String]) -> Result<Vec<ConnectionInfo>, InvalidConfig> {
    if urls.is_empty() {
        return Err(InvalidConfig::NoUrl);
    }
    urls.iter().map(|url| parse(url)).collect()
}

fn parse(url: &str) -> Result<ConnectionInfo, InvalidConfig> {
    let info = url.into_connection_info().map_err(|error| InvalidConfig::Url {
        address: without_credentials(url),
        reason: error.detail().unwrap_or(error.category()).to_lowercase(),
    })?;
    if let ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } = info.addr()
        && host.is_empty()
    {
        let reason = "it names no host".into();
        return Err(InvalidConfig::Url { address: without_credentials(url), reason });
    }
    Ok(info)
}

fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { rest.into() } else { format!("{scheme}://{rest}") }
}

fn with_credentials(server: ConnectionInfo, config: &RedisConfig) -> ConnectionInfo {
    let settings = credentials(server.redis_settings().clone(), config);
    server.set_redis_settings(settings)
}

fn credentials(
    mut settings: redis::RedisConnectionInfo,
    config: &RedisConfig,
) -> redis::RedisConnectionInfo {
    if let Some(username) = &config.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &config.password {
        settings = settings.set_password(password);
    }
    settings
}

fn addresses(servers: &[ConnectionInfo]) -> String {
    let addresses: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
    addresses.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(url: &str) -> RedisConfig {
        RedisConfig::new(Deployment::Single { url: url.into() })
    }

    fn problem(config: &RedisConfig) -> String {
        Target::check(config).err().expect("it is malformed").to_string()
    }

    #[test]
    fn the_address_names_the_servers_and_no_secret() {
        let urls = vec!["redis://u:secret@a:1".into(), "redis://b:2".into()];

        let one = Target::check(&single("redis://u:secret@a:1/3")).expect("valid");
        let cluster = RedisConfig::new(Deployment::Cluster { urls: urls.clone() });
        let cluster = Target::check(&cluster).expect("valid");
        let sentinel =
            Deployment::Sentinel { urls, master: "main".into(), database: 0, tls: false };
        let sentinel = Target::check(&RedisConfig::new(sentinel)).expect("valid");

        assert_eq!(one.address, "a:1");
        assert_eq!(cluster.address, "a:1, b:2");
        assert_eq!(sentinel.address, "a:1, b:2 (sentinels of main)");
    }

    #[test]
    fn a_malformed_url_is_named_without_its_secret() {
        for url in ["", "redis://", "http://u:secret@host", "redis://u:secret@host:port"] {
            let problem = problem(&single(url));

            assert!(problem.starts_with("redis url `"), "{url}: {problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let cluster = |urls| RedisConfig::new(Deployment::Cluster { urls });
        let prefix = |prefix: &str| RedisConfig { prefix: prefix.into(), ..single("redis://a") };

        assert!(problem(&cluster(vec![])).contains("at least one url"));
        for bad in ["", "a:b", "a{b}", "ä", &"x".repeat(33)] {
            assert!(problem(&prefix(bad)).contains("prefix"), "{bad}");
        }
        assert!(Target::check(&prefix("tw-2.b_")).is_ok());
    }
}
