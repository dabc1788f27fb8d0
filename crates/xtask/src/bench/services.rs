//! NATS and Redis, and nodes that run on them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::peers::Workshop;
use super::server::{Server, free_address};
use crate::process::{read, succeed};
use crate::programs;

/// Both services, on the core of the clients: what they use is theirs.
pub(super) struct Services {
    nats: Server,
    redis: Server,
    folder: PathBuf,
    tidewire: PathBuf,
}

/// A node with what to talk to it by.
pub(super) struct Node {
    process: Server,
    pub(super) clients: SocketAddr,
    pub(super) ops: SocketAddr,
}

impl Node {
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The tenant whose key is made up for the run.
const TENANT: &str = "bench";
/// Another one on the same nodes.
const NEIGHBOUR: &str = "neighbour";

impl Services {
    pub(super) fn start(workshop: &Workshop) -> Result<Self> {
        let folder = workshop.folder.join("nodes");
        fs::create_dir_all(&folder)?;
        let nats = {
            let address = free_address()?;
            let mut command = Command::new(programs::find("nats-server")?);
            command.args(["-a", "127.0.0.1", "-p", &address.port().to_string()]);
            Server::beside(&command, address).context("nats-server")?
        };
        let redis = {
            let address = free_address()?;
            let mut command = Command::new(programs::find("redis-server")?);
            command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
            command.args(["--save", "", "--maxmemory-policy", "noeviction"]);
            Server::beside(&command, address).context("redis-server")?
        };
        let services = Self { nats, redis, folder, tidewire: workshop.tidewire.clone() };
        services.write_configuration()?;
        Ok(services)
    }

    fn write_configuration(&self) -> Result<()> {
        for name in ["tenant.secret", "neighbour.secret", "resume.keys"] {
            let mut keygen = Command::new(&self.tidewire);
            let secret = read(keygen.args(["token", "keygen", "--algorithm", "HS256"]))?;
            let file = self.folder.join(name);
            fs::write(&file, secret)?;
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(OWNER_ONLY))?;
        }
        let text = format!(
            "[session]\nresume_keys_file = \"resume.keys\"\n\n[[tenants]]\nname = \"{TENANT}\"\n\
             keys = [{{ id = \"main\", algorithm = \"HS256\", secret_file = \"tenant.secret\" }}]\n\n\
             [[tenants]]\nname = \"{NEIGHBOUR}\"\n\
             keys = [{{ id = \"main\", algorithm = \"HS256\", secret_file = \"neighbour.secret\" }}]\n"
        );
        Ok(fs::write(self.folder.join("node.toml"), text)?)
    }

    /// A node that is ready, pinned to the core of servers.
    pub(super) fn start_node(&self) -> Result<Server> {
        self.start_configured(&[])
    }

    /// A node that may use every core, with room for all clients of two, and in a hurry to leave.
    pub(super) fn start_node_anywhere(&self) -> Result<Node> {
        let (listen, ops) = (free_address()?, free_address()?);
        let mut command = self.node(listen, ops);
        command.env("TIDEWIRE_SERVER__MAX_CONNECTIONS", "18000");
        command.env("TIDEWIRE_DRAIN__WINDOW", "10s").env("TIDEWIRE_DRAIN__DEADLINE", "30s");
        let process = Server::anywhere(&command, ops).context("the node does not start")?;
        Server::await_ok(ops, "/readyz")?;
        Ok(Node { process, clients: listen, ops })
    }

    /// The same with TLS.
    pub(super) fn start_encrypted_node(&self, certificate: &Path, key: &Path) -> Result<Server> {
        self.start_configured(&[
            ("TIDEWIRE_TLS__CERTIFICATE_FILE", certificate),
            ("TIDEWIRE_TLS__KEY_FILE", key),
        ])
    }

    fn start_configured(&self, files: &[(&str, &Path)]) -> Result<Server> {
        let (listen, ops) = (free_address()?, free_address()?);
        let mut command = self.node(listen, ops);
        command.envs(files.iter().copied());
        let mut node = Server::told(&command, ops).context("the node does not start")?;
        Server::await_ok(ops, "/readyz")?;
        node.address = listen;
        Ok(node)
    }

    /// The command that starts a node with these listeners.
    fn node(&self, listen: SocketAddr, ops: SocketAddr) -> Command {
        let mut command = Command::new(&self.tidewire);
        command.arg("serve").arg("-c").arg(self.folder.join("node.toml"));
        command.env("TIDEWIRE_SERVER__LISTEN", listen.to_string());
        command.env("TIDEWIRE_OPS__LISTEN", ops.to_string());
        command.env("TIDEWIRE_NATS__SERVERS", format!("nats://{}", self.nats.address));
        command.env("TIDEWIRE_REDIS__ADDRESSES", format!("redis://{}", self.redis.address));
        command.env("TIDEWIRE_LOG__LEVEL", "error");
        // What is measured is how fast the node is, not how fast a client may be.
        for (limit, most) in [
            ("CONNECTION_PUBLISH_RATE", "1000000"),
            ("CONNECTION_PUBLISH_BURST", "1000000"),
            ("CONNECTION_PUBLISH_BYTES", "1000000000"),
            ("CONNECTION_COMMAND_RATE", "1000000"),
            ("CONNECTION_COMMAND_BURST", "1000000"),
            ("TENANT_CONNECT_RATE", "1000000"),
            ("CHANNEL_PUBLISH_RATE", "1000000"),
        ] {
            command.env(format!("TIDEWIRE_LIMITS__{limit}"), most);
        }
        command
    }

    /// A certificate for the loopback that vouches for itself, and its key on P-256.
    pub(super) fn make_certificate(&self) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (self.folder.join("node.crt"), self.folder.join("node.pem"));
        let mut openssl = Command::new(programs::find("openssl")?);
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        openssl.args(["-nodes", "-days", "2", "-subj", "/CN=bench"]);
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"]);
        openssl.arg(&certificate).arg("-keyout").arg(&key).stderr(Stdio::null());
        succeed(&mut openssl)?;
        Ok((certificate, key))
    }

    /// The options of `loadtest swarm` for tokens.
    pub(super) fn access(&self) -> Vec<String> {
        let key = self.key_file().display().to_string();
        ["--key-file", &key, "--tenant", TENANT].map(str::to_owned).to_vec()
    }

    /// The same of the other tenant.
    pub(super) fn neighbours_access(&self) -> Vec<String> {
        let key = self.folder.join("neighbour.secret").display().to_string();
        ["--key-file", &key, "--tenant", NEIGHBOUR].map(str::to_owned).to_vec()
    }

    /// The option of `loadtest` for tokens.
    pub(super) fn tenant_key(&self) -> String {
        format!("{TENANT}={}", self.key_file().display())
    }

    fn key_file(&self) -> PathBuf {
        self.folder.join("tenant.secret")
    }
}

/// Secrets that others may read are refused.
const OWNER_ONLY: u32 = 0o600;

/// `ws://` and the address.
pub(super) fn url(address: SocketAddr) -> String {
    format!("ws://{address}")
}
