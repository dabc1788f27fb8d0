//! A token for each connection, each of a user of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tidewire_auth::{Claims, SigningKey};
use tidewire_model::{Action, Filter, Permissions, Tenant, UserId};

use super::options::SwarmOptions;

/// Longer than the longest run.
const LIFETIME: Duration = Duration::from_hours(2);
const AUDIENCE: &str = "tidewire";
/// Longest answer that is read, far beyond any token.
const MAX_ANSWER: usize = 1 << 16;

/// One for each connection, the publishing one included; none where the server wants none.
pub(super) fn collect(options: &SwarmOptions) -> Result<Vec<String>> {
    let users = (0..=options.connections).map(|number| format!("swarm-{number}"));
    if let Some(address) = options.dev {
        let mut asking = Asking::new(address)?;
        return users.map(|user| asking.ask(&user)).collect();
    }
    let (Some(file), Some(tenant)) = (&options.key_file, &options.tenant) else {
        return Ok(Vec::new());
    };
    let secret = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the secret from {}", file.display()))?;
    let key = SigningKey::from_secret(None, secret.trim_end_matches(['\r', '\n']).as_bytes())?;
    let tenant = Tenant::parse(tenant)?;
    users.map(|user| sign(&key, &tenant, &user)).collect()
}

fn sign(key: &SigningKey, tenant: &Tenant, user: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(key.sign(&Claims {
        tenant: Some(tenant.clone()),
        user: UserId::parse(user)?,
        audience: vec![AUDIENCE.to_owned()],
        expires_at: now + LIFETIME.as_secs(),
        not_before: None,
        issued_at: Some(now),
        token_id: None,
        permissions: Permissions::default()
            .grant(Filter::parse("bench/**")?, [Action::Subscribe, Action::Publish]),
    }))
}

/// One connection to a `tidewire dev`, on which tokens are asked for one after the other.
struct Asking {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

#[derive(Deserialize)]
struct HandedOut {
    token: String,
}

impl Asking {
    fn new(address: SocketAddr) -> Result<Self> {
        ensure!(address.ip().is_loopback(), "{address} is not loopback");
        let stream = TcpStream::connect(address).context("cannot ask for tokens")?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    fn ask(&mut self, user: &str) -> Result<String> {
        let request =
            format!("GET /dev/token?user={user} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        ensure!(status.starts_with("HTTP/1.1 200"), "no token: {}", status.trim());
        let len = self.content_len()?;
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        let handed_out: HandedOut =
            serde_json::from_slice(&body).context("the answer holds no token")?;
        Ok(handed_out.token)
    }

    /// Reads the header to its end.
    fn content_len(&mut self) -> Result<usize> {
        let mut len = None;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                len = Some(value.trim().parse::<usize>()?);
            }
        }
        let len = len.context("the answer does not say how long it is")?;
        ensure!(len <= MAX_ANSWER, "the answer is too long");
        Ok(len)
    }
}
