//! What a cluster is made of.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tempfile::TempDir;
use tidewire_auth::{Claims, KeyId, SigningKey};
use tidewire_model::{Permissions, Tenant, UserId};
use tidewire_testkit::services::{NatsServer, RedisServer, SentinelServer, Watch, free_port};

use crate::clock::Clocks;
use crate::proxy::Proxy;

/// Servers that know each other only through proxies, whose connections go from the later to the
/// earlier or, by gossip, to what each of them advertises.
pub(super) async fn start_nats(
    directory: &TempDir,
    config: &str,
) -> Result<(Vec<Proxy>, Vec<NatsServer>)> {
    let file = directory.path().join("nats.conf");
    std::fs::write(&file, config)?;
    let file = file.display().to_string();
    let (mut routes, mut servers) = (Vec::new(), Vec::new());
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    for (number, port) in ports.iter().enumerate() {
        let listen = format!("nats://127.0.0.1:{port}");
        let gossip = Proxy::start(SocketAddr::from(([127, 0, 0, 1], *port))).await?;
        let advertised = gossip.address().to_string();
        routes.push(gossip);
        let mut known = Vec::new();
        for earlier in &ports[..number] {
            let route = Proxy::start(SocketAddr::from(([127, 0, 0, 1], *earlier))).await?;
            known.push(format!("nats://{}", route.address()));
            routes.push(route);
        }
        let known = known.join(",");
        let mut arguments = vec!["--config", &file, "--no_advertise"];
        arguments.extend(["--cluster", &listen, "--cluster_name", "chaos"]);
        arguments.extend(["--cluster_advertise", &advertised]);
        if !known.is_empty() {
            arguments.extend(["--routes", &known]);
        }
        servers.push(NatsServer::with_arguments(&arguments).await);
    }
    Ok((routes, servers))
}

/// A primary and its replica, which give out the addresses of their proxies.
pub(super) async fn start_redis(clocks: Option<&Clocks>) -> Result<(Vec<Proxy>, Vec<RedisServer>)> {
    let (mut links, mut servers): (Vec<Proxy>, Vec<RedisServer>) = (Vec::new(), Vec::new());
    for number in 0..2 {
        let port = free_port();
        let link = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        let announced = link.address().port().to_string();
        let mut arguments = vec!["--appendonly", "yes", "--appendfsync", "everysec"];
        arguments.extend(["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]);
        arguments.extend(["--replica-announce-ip", "127.0.0.1"]);
        arguments.extend(["--replica-announce-port", &announced]);
        let primary = links.first().map(|link| link.address().port().to_string());
        if let Some(primary) = &primary {
            arguments.extend(["--replicaof", "127.0.0.1", primary]);
        }
        let environment = clocks.map_or(&[][..], |clocks| clocks.redis[number].environment());
        let server = RedisServer::on_port_with(port, &arguments, environment).await;
        debug_assert_eq!(servers.len(), number, "they are started in order");
        servers.push(server);
        links.push(link);
    }
    Ok((links, servers))
}

/// Those that hold the server at an address for the primary until it is silent for so long.
pub(super) async fn start_sentinels(
    primary: SocketAddr,
    down_after: Duration,
) -> Result<Vec<SentinelServer>> {
    let down_after_ms = u32::try_from(down_after.as_millis())?;
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        sentinels.push(SentinelServer::start(Watch { primary, quorum: 2, down_after_ms }).await);
    }
    Ok(sentinels)
}

pub(super) fn tenant_config(tenant: &str, limits: &str) -> String {
    let (secret, key) = (secret(tenant), api_key(tenant));
    let (id, api_secret) = key.split_once('.').expect("id and secret");
    format!(
        "[[tenants]]\nname = \"{tenant}\"\nlimits = {{ {limits} }}\n\
         [[tenants.keys]]\nid = \"chaos\"\nalgorithm = \"HS256\"\nsecret = \"{secret}\"\n\
         [[tenants.api_keys]]\nid = \"{id}\"\nsecret = \"{api_secret}\"\n\
         [[tenants.rules]]\npattern = \"present/**\"\npresence = \"members\"\n\
         presence_debounce = \"2s\"\n\
         [[tenants.rules]]\npattern = \"fleeting/**\"\nclass = \"ephemeral\"\n"
    )
}

fn secret(tenant: &str) -> String {
    format!("the secret of {tenant}, long enough to be one")
}

pub(crate) fn api_key(tenant: &str) -> String {
    format!("backend.0123456789abcdef0123456789abcdef-{tenant}")
}

/// A token that lets `user` do everything in `tenant`, for so many seconds from now on.
pub(super) fn token(tenant: &str, user: &str, seconds: i64) -> String {
    let id = KeyId::parse("chaos").expect("a key id");
    let key = SigningKey::from_secret(Some(id), secret(tenant).as_bytes()).expect("long enough");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    key.sign(&Claims {
        tenant: Some(Tenant::parse(tenant).expect("a tenant")),
        user: UserId::parse(user).expect("a user"),
        audience: vec!["tidewire".into()],
        expires_at: now.saturating_add_signed(seconds),
        not_before: None,
        issued_at: None,
        token_id: None,
        permissions: Permissions::all(),
    })
}
