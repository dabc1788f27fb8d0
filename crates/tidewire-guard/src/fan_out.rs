//! From a shard through a worker of the edge to the sockets of a crowd: whole turns of the loop that
//! the product runs, on one thread with the clients. What the kernel does is not counted.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream as Reader};
use std::sync::Arc;
use std::time::Duration;

use tidewire_auth::{
    Claims, KeyId, KeyRing, SealKey, Sealer, SigningKey, TenantKeys, Vault, VerificationKey,
    Verifier,
};
use tidewire_broker::Draft;
use tidewire_edge::{Edge, EdgeConfig, Parts};
use tidewire_model::{ChannelRules, Command, Connect, Permissions, Request, RequestId, Since};
use tidewire_node::Node;
use tidewire_protocol_native::JSON;
use tidewire_protocol_native::client::Codec;
use tidewire_tenant::Tenants;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::receive::masked;
use crate::{node, samples};

const CROWD: usize = 100;
/// Publications at once.
const RUN: usize = 16;
const SECRET: &[u8] = b"a secret of thirty-two bytes and more";
/// Seconds since the Unix epoch, in the year 2100: no path reads the clock to make a token.
const EXPIRES_AT: u64 = 4_102_444_800;
const LIFETIME: Duration = Duration::from_hours(24 * 365 * 100);
/// Turns of the runtime in which a run reaches everybody, or never does.
const MOST_TURNS: u32 = 100_000;
/// Read at once: more than a run takes.
const READ_BYTES: usize = 64 * 1_024;

pub(crate) fn to_sockets(times: u32) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let node = node::start(&tracker, &stop);
        let address = serve(&node, &tracker, &stop).await;
        let mut crowd = Crowd::enter(address).await;
        for _ in 0..times {
            publish(&node).await;
            crowd.read().await;
        }
        // The edge goes on until its clients have left.
        drop(crowd);
        stop.cancel();
        tracker.close();
        tracker.wait().await;
    });
}

async fn publish(node: &Node) {
    let (publisher, payload) = (Some(samples::user()), samples::payload(128));
    let draft = Draft { id: None, publisher, payload };
    let mut verdicts = Vec::with_capacity(RUN);
    for _ in 0..RUN {
        verdicts.push(node.publish(samples::channel(), draft.clone()).await);
    }
    for verdict in verdicts {
        verdict.finish().await.expect("the log in memory keeps it");
    }
}

/// An edge of one worker, and where it listens.
async fn serve(node: &Node, tracker: &TaskTracker, stop: &CancellationToken) -> SocketAddr {
    let tenants = tenants();
    let parts = Parts {
        node: node.clone(),
        verifier: Arc::new(Verifier::new(tenants.ring().clone()).with_max_lifetime(LIFETIME)),
        tenants,
        sealer: Arc::new(Sealer::new(&[SealKey::from_bytes([7; 32])]).expect("a sealer")),
        revocations: Arc::new(tidewire_store::MemoryRevocationStore::default()),
        tickets: (Arc::new(tidewire_store::MemoryTicketStore::default()), vault()),
        protocols: vec![JSON],
        tracker: tracker.clone(),
    };
    let edge = Edge::new(EdgeConfig::default(), parts);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let stop = stop.clone();
    tracker.spawn(async move {
        let routes = edge.router();
        edge.serve(listener, routes, stop).await.expect("descriptors for a worker");
    });
    address
}

fn vault() -> Vault {
    Vault::new(&[SealKey::from_bytes([7; 32])]).expect("a vault")
}

fn tenants() -> Tenants {
    let key = VerificationKey::from_secret(key_id(), SECRET).expect("a key");
    let tenant = samples::channel().tenant;
    let keys = TenantKeys { tenant, keys: vec![key], api_keys: Vec::new(), issuer: None };
    Tenants::new(KeyRing::new([keys]).expect("a ring"), ChannelRules::default(), [])
}

fn key_id() -> KeyId {
    KeyId::parse("main").expect("a key id")
}

fn token() -> String {
    let claims = Claims {
        tenant: Some(samples::channel().tenant),
        user: samples::user(),
        audience: vec![Verifier::DEFAULT_AUDIENCE.into()],
        expires_at: EXPIRES_AT,
        not_before: None,
        issued_at: None,
        token_id: None,
        permissions: Permissions::all(),
    };
    SigningKey::from_secret(Some(key_id()), SECRET).expect("a key").sign(&claims)
}

/// Clients that have subscribed, and only read.
struct Crowd {
    readers: Vec<Reader>,
    /// Comes after all others in every list, so that what has reached it has reached them.
    last: Reader,
    buffer: Vec<u8>,
}

impl Crowd {
    async fn enter(address: SocketAddr) -> Self {
        let token = token();
        let mut readers = Vec::with_capacity(CROWD);
        for _ in 0..CROWD {
            readers.push(subscribe(address, &token).await);
        }
        let last = readers.pop().expect("a crowd");
        Self { readers, last, buffer: vec![0; READ_BYTES] }
    }

    /// Waits until a whole run has come, and takes it out of every socket.
    async fn read(&mut self) {
        let mut come = 0;
        for _ in 0..MOST_TURNS {
            match self.last.read(&mut self.buffer) {
                Ok(bytes) => come += marks(&self.buffer[..bytes]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
            if come >= RUN {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(come >= RUN, "a run comes whole");
        for reader in &mut self.readers {
            assert!(reader.read(&mut self.buffer).is_ok(), "those before the last have it too");
        }
    }
}

fn marks(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| usize::from(*byte == samples::MARK)).sum()
}

async fn subscribe(address: SocketAddr, token: &str) -> Reader {
    const UPGRADE: &str = "GET /v1/acme/ws HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut stream = TcpStream::connect(address).await.expect("the edge listens");
    converse(&mut stream, UPGRADE.as_bytes(), "\r\n\r\n").await;
    let connect = Connect { token: Some(token.to_owned().into()), ..Connect::default() };
    converse(&mut stream, &command(1, Command::Connect(connect)), "\"connected\"").await;
    let channel = samples::channel().channel;
    let subscribe = Command::Subscribe { channel, since: Since::Now, delta: None, token: None };
    converse(&mut stream, &command(2, subscribe), "\"subscribed\"").await;
    stream.into_std().expect("a stream of this runtime")
}

fn command(id: u32, command: Command) -> Vec<u8> {
    masked(&Codec::Json.encode(&Request { id: RequestId(id), command }))
}

/// Says something, and listens until `answer` is in what was heard.
async fn converse(stream: &mut TcpStream, words: &[u8], answer: &str) {
    stream.write_all(words).await.expect("the edge reads");
    let mut heard = Vec::new();
    while !heard.windows(answer.len()).any(|window| window == answer.as_bytes()) {
        let bytes = stream.read_buf(&mut heard).await.expect("the edge writes");
        assert!(bytes > 0, "the edge answers: {}", String::from_utf8_lossy(&heard));
    }
}
