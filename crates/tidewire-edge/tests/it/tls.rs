//! Clients that are talked to in TLS.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tidewire_edge::EdgeConfig;
use tidewire_transport::tls::server_config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::fleet::{API_KEY, Fleet, Running, TENANT, soon, token, until};

const CERTIFICATE: &[u8] = include_bytes!("../../../tidewire-transport/tests/tls/certificate.pem");
const KEY: &[u8] = include_bytes!("../../../tidewire-transport/tests/tls/key.pem");

async fn encrypted() -> Fleet {
    let tls = Some(server_config(CERTIFICATE, KEY).expect("a certificate"));
    Fleet::start(1, EdgeConfig { tls, ..EdgeConfig::default() }).await
}

async fn dial(node: &Running) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(node.address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.expect("shaken hands")
}

/// A client of another make.
struct Foreigner(WebSocketStream<TlsStream<TcpStream>>);

impl Foreigner {
    async fn connect(node: &Running, user: &str) -> Self {
        let stream = dial(node).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut request =
            format!("wss://localhost/v1/{TENANT}/ws").into_client_request().expect("a url");
        let protocol = "tidewire.v1.json".parse().expect("a value");
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let upgraded = soon(Box::pin(tokio_tungstenite::client_async(request, stream))).await;
        let mut foreigner = Self(upgraded.expect("upgraded").0);
        let token = token(user);
        foreigner.say(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)).await;
        assert!(foreigner.hear().await.contains("connected"));
        foreigner
    }

    async fn say(&mut self, text: &str) {
        soon(self.0.send(Message::text(text))).await.expect("connected");
    }

    async fn hear(&mut self) -> String {
        loop {
            match soon(self.0.next()).await.expect("open").expect("connected") {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => unreachable!("no text: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn publications_large_and_small_reach_a_subscriber_in_tls() {
    let fleet = encrypted().await;
    let mut ada = Foreigner::connect(&fleet.nodes[0], "ada").await;
    let mut ben = Foreigner::connect(&fleet.nodes[0], "ben").await;
    ada.say(r#"{"id":2,"subscribe":{"channel":"news"}}"#).await;
    assert!(ada.hear().await.contains("subscribed"));

    for length in [1, 1_000, 20_000, 60_000] {
        let data = "x".repeat(length);
        ben.say(&format!(r#"{{"id":3,"publish":{{"channel":"news","data":"{data}"}}}}"#)).await;

        assert!(ben.hear().await.contains("published"));
        assert!(ada.hear().await.contains(&format!("\"{data}\"")), "{length} bytes");
    }
}

#[tokio::test]
async fn a_goodbye_is_answered_and_then_tls_ends_as_well() {
    let fleet = encrypted().await;
    let mut ada = Foreigner::connect(&fleet.nodes[0], "ada").await;

    soon(ada.0.close(None)).await.expect("connected");

    // An end of TLS that is not announced would be an error.
    while let Some(message) = soon(ada.0.next()).await {
        message.expect("a clean end");
    }
    until(|| fleet.nodes[0].edge.connections() == 0).await;
}

#[tokio::test]
async fn servers_publish_in_tls_over_plain_http() {
    let fleet = encrypted().await;
    let mut stream = dial(&fleet.nodes[0]).await;
    let body = r#"{"data":1}"#;

    let request = format!(
        "POST /v1/{TENANT}/channels/news/publications HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("connected");
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.expect("a clean end");

    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_client_without_tls_is_turned_away_and_operators_need_none() {
    let fleet = encrypted().await;
    let node = &fleet.nodes[0];
    let mut plain = TcpStream::connect(node.address).await.expect("connected");

    plain.write_all(b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("connected");
    let mut answer = Vec::new();
    // A reset is as good as an alert.
    let _ = soon(plain.read_to_end(&mut answer)).await;

    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(node.get("/healthz").await.status, 200);
}
