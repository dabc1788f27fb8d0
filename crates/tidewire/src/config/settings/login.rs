//! How NATS and Redis are reached.

use std::path::PathBuf;

use super::check_prefix;
use crate::config::Secret;
use crate::config::document::{self, RedisMode};
use crate::config::draft::Draft;
use crate::config::problem::Origin;
use tidewire_tenant::{InvalidAddress, check_address};

#[derive(Clone, Debug)]
pub struct Nats {
    /// At least one, as `nats://host:port` or `tls://host:port`.
    pub servers: Vec<String>,
    pub prefix: String,
    pub login: NatsLogin,
}

/// As whom to connect to NATS.
#[derive(Clone, Debug)]
pub enum NatsLogin {
    Anonymous,
    User {
        user: String,
        password: Secret,
    },
    Token(Secret),
    /// A `.creds` file.
    Credentials(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Redis {
    pub topology: RedisTopology,
    pub login: Option<RedisLogin>,
    pub prefix: String,
    /// Replicas that must have what a durable channel acknowledges.
    pub durable_copies: u32,
}

/// Where the primaries are. Addresses are `redis://host:port` or `rediss://host:port`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RedisTopology {
    /// May end in `/n` to choose a database.
    Single {
        address: String,
    },
    Sentinel {
        addresses: Vec<String>,
        master_name: String,
    },
    Cluster {
        addresses: Vec<String>,
    },
}

/// As whom to connect to Redis; without a name as the default user.
#[derive(Clone, Debug)]
pub struct RedisLogin {
    pub username: Option<String>,
    pub password: Secret,
}

pub(super) fn check_nats(nats: &document::Nats, draft: &mut Draft) -> Option<Nats> {
    let mut valid = true;
    for (index, server) in nats.servers.iter().enumerate() {
        let checked = check_address(server, &["nats", "tls"]).and_then(no_path);
        valid &= draft.accept(&format!("nats.servers[{index}]"), checked).is_some();
    }
    let prefix = check_prefix("nats.prefix", &nats.prefix, draft);
    let login = check_nats_login(nats, draft);
    let servers = valid.then(|| nats.servers.clone());
    Some(Nats { servers: servers?, prefix: prefix?, login: login? })
}

fn check_nats_login(nats: &document::Nats, draft: &mut Draft) -> Option<NatsLogin> {
    let named = nats.user.is_some() || nats.password.is_some();
    let ways = [named, nats.token.is_some(), nats.credentials_file.is_some()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        let message = "more than one way to log in: choose a user, a token or a credentials file";
        draft.problem("nats", message, None);
        return None;
    }
    if let Some(token) = &nats.token {
        return Some(NatsLogin::Token(token.clone()));
    }
    if let Some(file) = &nats.credentials_file {
        let file = match draft.origin("nats.credentials_file") {
            Origin::File(_) => draft.directory.join(file),
            _ => file.clone(),
        };
        return Some(NatsLogin::Credentials(file));
    }
    match (&nats.user, &nats.password) {
        (None, None) => Some(NatsLogin::Anonymous),
        (Some(user), Some(password)) => {
            Some(NatsLogin::User { user: user.clone(), password: password.clone() })
        }
        (Some(_), None) => {
            draft.problem("nats.user", "needs `nats.password` too", None);
            None
        }
        (None, Some(_)) => {
            draft.problem("nats.password", "needs `nats.user` too", None);
            None
        }
    }
}

pub(super) fn check_redis(redis: &document::Redis, draft: &mut Draft) -> Option<Redis> {
    let topology = check_topology(redis, draft);
    let prefix = check_prefix("redis.prefix", &redis.prefix, draft);
    if redis.username.is_some() && redis.password.is_none() {
        draft.problem("redis.username", "needs `redis.password` too", None);
        return None;
    }
    let login = redis
        .password
        .clone()
        .map(|password| RedisLogin { username: redis.username.clone(), password });
    let durable_copies = redis.durable_copies;
    Some(Redis { topology: topology?, login, prefix: prefix?, durable_copies })
}

fn check_topology(redis: &document::Redis, draft: &mut Draft) -> Option<RedisTopology> {
    let mut valid = true;
    for (index, address) in redis.addresses.iter().enumerate() {
        let path = check_address(address, &["redis", "rediss"]);
        let checked = path.and_then(|path| match redis.mode {
            RedisMode::Single => database(path),
            RedisMode::Sentinel | RedisMode::Cluster => no_path(path),
        });
        valid &= draft.accept(&format!("redis.addresses[{index}]"), checked).is_some();
    }
    if redis.mode != RedisMode::Sentinel && redis.master_name.is_some() {
        draft.problem("redis.master_name", "is for mode `sentinel` only", None);
        return None;
    }
    if !valid {
        return None;
    }
    let addresses = redis.addresses.clone();
    match (redis.mode, &redis.master_name, addresses.as_slice()) {
        (RedisMode::Single, _, [address]) => {
            Some(RedisTopology::Single { address: address.clone() })
        }
        (RedisMode::Single, ..) => {
            let remedy = "set `redis.mode` to \"sentinel\" or \"cluster\"".to_owned();
            draft.problem("redis.addresses", "mode `single` takes one address", Some(remedy));
            None
        }
        (RedisMode::Sentinel, Some(name), _) => {
            Some(RedisTopology::Sentinel { addresses, master_name: name.clone() })
        }
        (RedisMode::Sentinel, None, _) => {
            draft.problem("redis.mode", "`sentinel` needs `redis.master_name` too", None);
            None
        }
        (RedisMode::Cluster, ..) => Some(RedisTopology::Cluster { addresses }),
    }
}

/// A slash and nothing after it means nothing.
fn no_path(path: &str) -> Result<(), InvalidAddress> {
    if matches!(path, "" | "/") { Ok(()) } else { Err(InvalidAddress::Path) }
}

fn database(path: &str) -> Result<(), InvalidAddress> {
    match path.strip_prefix('/') {
        Some(number) if number.parse::<u16>().is_ok() => Ok(()),
        _ => no_path(path),
    }
}
