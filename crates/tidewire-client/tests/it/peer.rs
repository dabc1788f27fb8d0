//! A server that says what a test tells it to.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tidewire_client::{Channel, Client, ClientError, Happening, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(25);
/// What whoever is answered with something else than a WebSocket is told.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 1;
pub(crate) const EPOCH: &str = "mfabc12000010001";
pub(crate) const NEXT_EPOCH: &str = "mfabc12000020001";

/// An address that clients connect to.
pub(crate) struct Peer {
    listener: TcpListener,
}

/// One client's connection, as the server sees it.
pub(crate) struct Served {
    socket: WebSocketStream<TcpStream>,
}

impl Peer {
    pub(crate) async fn listen() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.listener.local_addr().expect("it is bound"))
    }

    /// A client that is connected here for the first time, and its connection.
    pub(crate) async fn welcome(&self) -> (Client, Served) {
        self.welcome_to(Options::new(self.url(), "token")).await
    }

    pub(crate) async fn welcome_to(&self, options: Options) -> (Client, Served) {
        let serve = async {
            let mut served = self.accept().await;
            served.connect(false).await;
            served
        };
        let (client, served) = tokio::join!(Client::connect(options), serve);
        let mut client = client.expect("it is let in");
        let happening = client.next().await.expect("goes on");
        assert!(matches!(happening, Happening::Connected { .. }), "{happening:?}");
        (client, served)
    }

    /// Answers whoever comes next as something that is no node.
    pub(crate) async fn turn_away(&self) {
        self.refuse("404 Not Found", "").await;
    }

    /// Answers whoever comes next with this instead of a WebSocket; says when it has begun to.
    pub(crate) async fn refuse(&self, status: &str, body: &str) -> Instant {
        let (mut stream, _) = self.listener.accept().await.expect("a client");
        // Whoever is answered before it has asked makes something else of that.
        assert!(stream.read(&mut [0; 64]).await.expect("the client asks") > 0);
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\
             retry-after: {RETRY_AFTER_SECONDS}\r\n\r\n{body}"
        );
        let begun = Instant::now();
        stream.write_all(answer.as_bytes()).await.expect("the client is there");
        stream.read_to_end(&mut Vec::new()).await.expect("the client leaves");
        begun
    }

    /// Waits until somebody comes.
    pub(crate) async fn is_called(&self) {
        self.listener.accept().await.expect("a client");
    }

    pub(crate) async fn accept(&self) -> Served {
        let (stream, _) = self.listener.accept().await.expect("a client");
        let socket = tokio_tungstenite::accept_hdr_async(stream, agree).await.expect("a WebSocket");
        Served { socket }
    }
}

#[expect(clippy::result_large_err, reason = "the library wants it so")]
#[expect(clippy::unnecessary_wraps, reason = "the library wants it so")]
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let subprotocol = request.headers()["sec-websocket-protocol"].clone();
    response.headers_mut().insert("sec-websocket-protocol", subprotocol);
    Ok(response)
}

impl Served {
    /// Lets the client in; gives its `connect`.
    pub(crate) async fn connect(&mut self, resumed: bool) -> Value {
        let command = self.command().await;
        self.welcome(&command, resumed).await;
        command["connect"].clone()
    }

    /// Answers the `connect` that `command` is.
    pub(crate) async fn welcome(&mut self, command: &Value, resumed: bool) {
        self.say(json!({ "id": command["id"], "connected": {
            "session": "6f1f63a5b7d94f0c8a1e5d3c2b4a6978",
            "resume_token": "resume",
            "resume_window_ms": 120_000,
            "resumed": resumed,
            "node": "a",
            "ping_interval_ms": u64::try_from(PING_INTERVAL.as_millis()).expect("small"),
        }}))
        .await;
    }

    /// The next command.
    pub(crate) async fn command(&mut self) -> Value {
        loop {
            match self.socket.next().await.expect("the client is there").expect("a frame") {
                Message::Text(text) => return serde_json::from_str(&text).expect("a command"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => unreachable!("the client sent {other:?}"),
            }
        }
    }

    pub(crate) async fn say(&mut self, event: Value) {
        self.socket.send(Message::text(event.to_string())).await.expect("the client is there");
    }

    /// Takes a `subscribe`, and confirms it after the publication of this offset.
    pub(crate) async fn subscribe(&mut self, offset: u64) -> Value {
        let command = self.command().await;
        let channel = &command["subscribe"]["channel"];
        let subscribed = json!({ "channel": channel, "epoch": EPOCH, "offset": offset });
        self.say(json!({ "id": command["id"], "subscribed": subscribed })).await;
        command["subscribe"].clone()
    }

    pub(crate) async fn store(&mut self, command: &Value, offset: u64) {
        let published = json!({ "epoch": EPOCH, "offset": offset });
        self.say(json!({ "id": command["id"], "published": published })).await;
    }

    /// Refuses `command` as one that may succeed at once.
    pub(crate) async fn refuse_for_now(&mut self, command: &Value) {
        let mut error = refusal(2000, "unavailable");
        error["retry_after_ms"] = 1.into();
        self.say(json!({ "id": command["id"], "error": error })).await;
    }

    /// Pings, and waits for the answer.
    pub(crate) async fn ping(&mut self) {
        self.socket.send(Message::Ping("".into())).await.expect("the client is there");
        while !matches!(self.socket.next().await, Some(Ok(Message::Pong(_)))) {}
    }

    /// Waits for the client's goodbye, and gives its code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        while let Some(Ok(frame)) = self.socket.next().await {
            if let Message::Close(frame) = frame {
                // Its answer to the goodbye goes out as it reads on.
                while self.socket.next().await.is_some_and(|frame| frame.is_ok()) {}
                return frame.map(|frame| frame.code.into());
            }
        }
        None
    }

    pub(crate) async fn close(mut self, code: u16) {
        let reason = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(reason)).await.expect("the client is there");
        while self.socket.next().await.is_some_and(|frame| frame.is_ok()) {}
    }
}

pub(crate) fn refusal(code: u16, name: &str) -> Value {
    json!({ "code": code, "name": name, "message": "no", "retryable": code >= 2000 })
}

pub(crate) fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("valid")
}

/// What `serve` gives, while `client` goes on; and what happens to that meanwhile.
pub(crate) async fn meanwhile<T>(
    client: &mut Client,
    serve: impl Future<Output = T>,
) -> (T, Vec<Happening>) {
    let mut happenings = Vec::new();
    let both = async {
        tokio::pin!(serve);
        loop {
            tokio::select! {
                served = &mut serve => return served,
                happening = client.next() => happenings.push(happening.expect("goes on")),
            }
        }
    };
    let served = timeout(PATIENCE, both).await.expect("the client does what it should");
    (served, happenings)
}

/// The next thing that happens to `client`.
pub(crate) async fn next(client: &mut Client) -> Result<Happening, ClientError> {
    timeout(PATIENCE, client.next()).await.expect("something happens")
}

/// The first that is as `wanted`, of `happenings` and then of what happens next; and all before it.
pub(crate) async fn await_happening(
    client: &mut Client,
    mut happenings: Vec<Happening>,
    wanted: impl Fn(&Happening) -> bool,
) -> Vec<Happening> {
    while !happenings.iter().any(&wanted) {
        happenings.push(next(client).await.expect("goes on"));
    }
    happenings
}
