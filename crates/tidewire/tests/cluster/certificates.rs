//! Certificates that are replaced under a node that serves clients in TLS.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use tidewire_transport::http::request;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, NodeProcess, token};
use crate::scenarios::PATIENCE;

/// A certificate and its key.
type Pair = (&'static str, &'static str);

const FIRST: Pair = (
    include_str!("../../../tidewire-transport/tests/tls/certificate.pem"),
    include_str!("../../../tidewire-transport/tests/tls/key.pem"),
);
const SECOND: Pair = (
    include_str!("../../../tidewire-transport/tests/tls/other-certificate.pem"),
    include_str!("../../../tidewire-transport/tests/tls/other-key.pem"),
);
const FIRST_EXPIRES_AT: &str = "4733510400";
const SECOND_EXPIRES_AT: &str = "4765132800";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_renamed_over_are_shown_to_who_comes_and_nobody_is_disconnected() {
    let cluster = Cluster::start().await;
    let files = Files::plain(FIRST);
    let node = cluster.node_with(&files.settings());
    let mut connected = Client::connect(&node);
    assert_eq!(connected.shown(), der(FIRST));
    let metrics = metrics(&node).await;
    assert!(metrics.contains(&format!("{EXPIRY} {FIRST_EXPIRES_AT}")), "{metrics}");

    files.rename_over(SECOND);
    shows(&node, SECOND).await;

    connected.publishes();
    node.line_with("certificate replaced");
    let metrics = self::metrics(&node).await;
    assert!(metrics.contains(&format!("{EXPIRY} {SECOND_EXPIRES_AT}")), "{metrics}");
    assert!(metrics.contains("tidewire_tls_reloads_total{result=\"replaced\"} 1"), "{metrics}");
    assert!(metrics.contains("tidewire_tls_reloads_total{result=\"refused\"} 0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_kubernetes_is_followed_and_what_is_broken_is_not() {
    let cluster = Cluster::start().await;
    let files = Files::volume(FIRST);
    let node = cluster.node_with(&files.settings());
    let mut connected = Client::connect(&node);

    files.swap(SECOND);
    shows(&node, SECOND).await;
    files.swap((FIRST.0, SECOND.1));
    let line = node.line_with("certificate not replaced");

    assert!(line.contains("\"level\":\"ERROR\""), "{line}");
    assert!(line.contains("key does not belong to the certificate"), "{line}");
    assert_eq!(Client::dial(&node).shown(), der(SECOND));
    let metrics = metrics(&node).await;
    assert!(metrics.contains("tidewire_tls_reloads_total{result=\"refused\"} 1"), "{metrics}");
    assert!(metrics.contains(&format!("{EXPIRY} {SECOND_EXPIRES_AT}")), "{metrics}");

    files.swap(FIRST);
    shows(&node, FIRST).await;
    connected.publishes();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_files_of_a_certificate_outlives_the_signal_to_read_them() {
    let cluster = Cluster::start().await;
    let node = cluster.node();

    node.signal("HUP");

    node.line_with("SIGHUP");
    assert_eq!(
        request(http::Method::GET, &node.ops("/healthz"), &[], "")
            .await
            .expect("it answers")
            .status,
        200
    );
}

const EXPIRY: &str = "tidewire_tls_certificate_expiry_timestamp_seconds";

/// A certificate and a key in files.
struct Files(TempDir);

impl Files {
    fn plain(pair: Pair) -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.rename_over(pair);
        files
    }

    /// As Kubernetes lays a Secret out: the names are links into a directory that is a link itself.
    fn volume(pair: Pair) -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.swap(pair);
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), files.path(name)).expect("a link");
        }
        files
    }

    /// Replaces one after the other, each at a stroke.
    fn rename_over(&self, (chain, key): Pair) {
        for (name, text) in [("tls.crt", chain), ("tls.key", key)] {
            fs::write(self.path("new"), text).expect("written");
            fs::rename(self.path("new"), self.path(name)).expect("renamed");
        }
    }

    /// Replaces both at a stroke, as the kubelet does.
    fn swap(&self, (chain, key): Pair) {
        let before = fs::read_link(self.path("..data")).ok();
        let directory = tempfile::Builder::new().prefix("..").tempdir_in(&self.0);
        let directory = directory.expect("a directory").keep();
        fs::write(directory.join("tls.crt"), chain).expect("written");
        fs::write(directory.join("tls.key"), key).expect("written");
        symlink(&directory, self.path("..data_tmp")).expect("a link");
        fs::rename(self.path("..data_tmp"), self.path("..data")).expect("renamed");
        if let Some(before) = before {
            fs::remove_dir_all(before).expect("removed");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn settings(&self) -> String {
        let (chain, key) = (self.path("tls.crt"), self.path("tls.key"));
        format!(
            "[tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
            chain.display(),
            key.display()
        )
    }
}

/// A connection in TLS.
struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    fn dial(node: &NodeProcess) -> Self {
        let mut roots = RootCertStore::empty();
        for pair in [FIRST, SECOND] {
            roots.add(der(pair)).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let socket = TcpStream::connect(node.url().trim_start_matches("ws://")).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut stream = StreamOwned::new(session, socket);
        stream.conn.complete_io(&mut stream.sock).expect("shaken hands");
        Self(stream)
    }

    /// As a WebSocket with a session.
    fn connect(node: &NodeProcess) -> Self {
        let mut client = Self::dial(node);
        let request = "GET /v1/acme/ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n\
             connection: upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: tidewire.v1.json\r\n\r\n";
        client.0.write_all(request.as_bytes()).expect("connected");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.take::<1>()[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        let token = token("acme", "ada");
        client.say(&format!("{{\"id\":1,\"connect\":{{\"token\":\"{token}\"}}}}"));
        client.hears("\"connected\"");
        client
    }

    fn publishes(&mut self) {
        self.say("{\"id\":2,\"publish\":{\"channel\":\"news\",\"data\":1}}");
        self.hears("\"published\"");
    }

    /// The certificate that the node has shown.
    fn shown(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().expect("shaken hands")[0].clone().into_owned()
    }

    /// Sends a text, masked with zeros.
    fn say(&mut self, text: &str) {
        let short = u8::try_from(text.len()).ok().filter(|length| *length < 126);
        let long = u16::try_from(text.len()).expect("at most 64 KiB").to_be_bytes();
        let length = short.map_or([&[0xfe][..], &long].concat(), |length| vec![0x80 | length]);
        let frame = [&[0x81][..], &length, &[0; 4], text.as_bytes()].concat();
        self.0.write_all(&frame).expect("connected");
    }

    fn hears(&mut self, expected: &str) {
        loop {
            let [_, length] = self.take();
            let length = match length {
                126 => usize::from(u16::from_be_bytes(self.take())),
                length => usize::from(length),
            };
            let mut text = vec![0; length];
            self.0.read_exact(&mut text).expect("connected");
            if String::from_utf8_lossy(&text).contains(expected) {
                return;
            }
        }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("connected");
        bytes
    }
}

/// Waits until who comes is shown this.
async fn shows(node: &NodeProcess, pair: Pair) {
    let begun = Instant::now();
    while Client::dial(node).shown() != der(pair) {
        assert!(begun.elapsed() < PATIENCE, "the certificate is not replaced");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn metrics(node: &NodeProcess) -> String {
    let answer =
        request(http::Method::GET, &node.ops("/metrics"), &[], "").await.expect("it answers");
    String::from_utf8(answer.body.to_vec()).expect("text")
}

fn der((chain, _): Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM")
}
