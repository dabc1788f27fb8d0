use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A server of HTTPS on this machine that answers what a test says, one request after another. It
/// stops when it is dropped.
pub struct HttpsStub {
    port: u16,
    answer: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
    /// Ends what it holds when it is dropped.
    _serving: JoinSet<()>,
}

impl HttpsStub {
    /// The certificate of whoever vouches for it, in PEM; it is `localhost`.
    pub const AUTHORITY: &[u8] =
        include_bytes!("../../../tidewire-transport/tests/tls/certificate.pem");

    /// Answers 503 until it is told otherwise.
    pub async fn start() -> Self {
        Self::speaking(&[b"http/1.1"]).await
    }

    /// One that only speaks these protocols.
    pub async fn speaking(protocols: &[&[u8]]) -> Self {
        let acceptor = acceptor(protocols);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let answer = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answering, counting) = (Arc::clone(&answer), Arc::clone(&asked));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let text = || {
                    counting.fetch_add(1, Ordering::Relaxed);
                    answering.lock().clone()
                };
                // A client that hangs up has heard enough.
                drop(serve(&acceptor, stream, text).await);
            }
        });
        let stub = Self { port, answer, asked, _serving: serving };
        stub.fail();
        stub
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// Answers with these bytes, whatever they are; with none it keeps its clients waiting.
    pub fn answer(&self, bytes: impl Into<Vec<u8>>) {
        *self.answer.lock() = bytes.into();
    }

    /// Answers with this document.
    pub fn answer_with(&self, body: &str) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        self.answer(format!("{head}content-length: {}\r\n\r\n{body}", body.len()));
    }

    /// Answers 503.
    pub fn fail(&self) {
        self.answer("HTTP/1.1 503 Out of order\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }

    /// How many requests there were.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn acceptor(protocols: &[&[u8]]) -> TlsAcceptor {
    const KEY: &[u8] = include_bytes!("../../../tidewire-transport/tests/tls/key.pem");
    let chain = CertificateDer::pem_slice_iter(HttpsStub::AUTHORITY).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate"), key)
        .expect("they belong together");
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    answer: impl FnOnce() -> Vec<u8>,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let answer = answer();
    if answer.is_empty() {
        // Until the client gives up.
        stream.read_buf(&mut request).await?;
        return Ok(());
    }
    stream.write_all(&answer).await?;
    stream.shutdown().await
}
