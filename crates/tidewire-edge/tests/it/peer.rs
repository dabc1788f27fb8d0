//! A client that does exactly what a test says.

use std::net::SocketAddr;

use tidewire_client::{Closing, Codec, Connection, Lost, Options, Received, Refusal, ServerEvent};
use tidewire_model::{
    Channel, Command, Connect, Connected, Payload, Position, Publish, RequestId, Resume,
    SessionNonce, Since, Subscribed, Tenant, Token,
};
use tidewire_protocol::Frame;

use crate::fleet::{Fleet, Running, TENANT, soon, token};

pub(crate) struct Peer(pub(crate) Connection);

impl Peer {
    /// Connects as `user` by way of another address than the node's.
    pub(crate) async fn connect_by(address: SocketAddr, user: &str) -> Self {
        let mut options = Options::new(format!("ws://{address}"), "");
        options.tenant = Some(Tenant::parse(TENANT).expect("tenant"));
        let mut peer = Self(soon(Connection::dial(&options, 0)).await.expect("upgraded"));
        peer.introduce(token(user)).await;
        peer
    }

    /// Upgrades, and says nothing yet.
    pub(crate) async fn dial(node: &Running) -> Self {
        Self::dial_as(node, Some(TENANT), Codec::Json).await
    }

    pub(crate) async fn dial_as(node: &Running, tenant: Option<&str>, codec: Codec) -> Self {
        Self::dial_at(node.address, tenant, codec).await
    }

    async fn dial_at(address: SocketAddr, tenant: Option<&str>, codec: Codec) -> Self {
        let mut options = Options::new(format!("ws://{address}"), "");
        options.tenant = tenant.map(|tenant| Tenant::parse(tenant).expect("tenant"));
        options.codec = codec;
        Self(soon(Connection::dial(&options, 0)).await.expect("upgraded"))
    }

    /// Connects as `user`.
    pub(crate) async fn connect(node: &Running, user: &str) -> Self {
        Self::connect_with(node, token(user)).await.0
    }

    pub(crate) async fn connect_with(node: &Running, token: String) -> (Self, Connected) {
        let mut peer = Self::dial(node).await;
        let connected = peer.introduce(token).await;
        (peer, connected)
    }

    /// The first command of a connection.
    pub(crate) async fn introduce(&mut self, token: String) -> Connected {
        self.send(Command::Connect(Connect { token: Some(token.into()), ..Connect::default() }));
        self.connected().await
    }

    /// Presents a resume token, and no other.
    pub(crate) async fn resume(
        node: &Running,
        token: impl Into<Option<Token>>,
        positions: Vec<(Channel, Position)>,
    ) -> Self {
        Self::resume_at(node.address, token, positions).await
    }

    /// The same, where a node is.
    pub(crate) async fn resume_at(
        address: SocketAddr,
        token: impl Into<Option<Token>>,
        positions: Vec<(Channel, Position)>,
    ) -> Self {
        let mut peer = Self::dial_at(address, Some(TENANT), Codec::Json).await;
        let nonce = SessionNonce::from_bytes(rand());
        let token = token.into().expect("a session that is kept");
        let resume = Some(Resume { token, nonce, positions });
        peer.send(Command::Connect(Connect { resume, ..Connect::default() }));
        peer
    }

    pub(crate) fn send(&mut self, command: Command) -> RequestId {
        self.0.send(command).expect("connected")
    }

    pub(crate) fn send_text(&mut self, text: impl Into<String>) {
        self.0.send_raw(Frame::Text(text.into().into())).expect("connected");
    }

    /// What was sent leaves when the peer next waits for something, or now.
    pub(crate) async fn flush(&mut self) {
        soon(self.0.flush()).await.expect("connected");
    }

    pub(crate) async fn next(&mut self) -> ServerEvent {
        soon(self.0.next()).await.expect("connected")
    }

    /// Asks for an answer and waits for it: by then all that others sent before has been looked at.
    pub(crate) async fn pinged(&mut self) {
        self.send(Command::Ping);
        match self.next().await {
            ServerEvent::Pong { .. } => {}
            other => unreachable!("no pong: {other:?}"),
        }
    }

    pub(crate) async fn connected(&mut self) -> Connected {
        match self.next().await {
            ServerEvent::Connected(connected) => connected,
            other => unreachable!("not connected: {other:?}"),
        }
    }

    pub(crate) async fn subscribe(&mut self, name: &str) -> Subscribed {
        self.send(Command::Subscribe {
            channel: channel(name),
            since: Since::Now,
            delta: None,
            token: None,
        });
        self.subscribed().await
    }

    pub(crate) async fn subscribed(&mut self) -> Subscribed {
        match self.next().await {
            ServerEvent::Subscribed(subscribed) => subscribed,
            other => unreachable!("not subscribed: {other:?}"),
        }
    }

    pub(crate) fn publish(&mut self, name: &str, payload: Payload) -> RequestId {
        self.send(Command::Publish(Publish { channel: channel(name), id: None, payload }))
    }

    /// Publishes and waits for the position; publications that come meanwhile are dropped.
    pub(crate) async fn published(&mut self, name: &str, payload: Payload) -> Position {
        let wanted = self.publish(name, payload);
        loop {
            match self.next().await {
                ServerEvent::Published { request, position, .. } if request == wanted => {
                    return position;
                }
                ServerEvent::Publications { .. } => {}
                other => unreachable!("not published: {other:?}"),
            }
        }
    }

    /// The next publications; answers to publishing that come before are dropped.
    pub(crate) async fn publications(&mut self) -> Vec<Received> {
        loop {
            match self.next().await {
                ServerEvent::Publications { publications, .. } => return publications,
                ServerEvent::Published { .. } => {}
                other => unreachable!("not publications: {other:?}"),
            }
        }
    }

    pub(crate) async fn refused(&mut self) -> (Option<RequestId>, Refusal) {
        match self.next().await {
            ServerEvent::Failed { request, refusal } => (request, refusal),
            other => unreachable!("not refused: {other:?}"),
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(self) {
        soon(self.0.close()).await;
    }

    /// Reads on to the end: what came, and the last word together with the close code.
    pub(crate) async fn ending(mut self) -> (Vec<ServerEvent>, Option<Closing>, Option<u16>) {
        let mut heard = Vec::new();
        loop {
            match soon(self.0.next()).await {
                Ok(event) => heard.push(event),
                Err(Lost::Closed { code, closing }) => return (heard, closing, code),
                Err(other) => unreachable!("not closed: {other}"),
            }
        }
    }

    /// Reads on to the end, which both the last event and the close frame must call `code`.
    #[track_caller]
    pub(crate) fn closes_with(self, code: u16) -> impl Future<Output = Vec<ServerEvent>> {
        let caller = std::panic::Location::caller();
        async move {
            let (heard, closing, closed) = self.ending().await;
            assert_eq!(closed, Some(code), "close code at {caller}, after {heard:?}");
            assert_eq!(closing.map(|closing| closing.code), closed, "last event at {caller}");
            heard
        }
    }
}

/// Somebody else's connection, which nothing may disturb.
pub(crate) struct Bystander(Peer);

impl Bystander {
    /// At the first node.
    pub(crate) async fn watch(fleet: &Fleet) -> Self {
        Self::watch_at(&fleet.nodes[0]).await
    }

    pub(crate) async fn watch_at(node: &Running) -> Self {
        let mut peer = Peer::connect(node, "bystander").await;
        peer.subscribe("bystander").await;
        Self(peer)
    }

    /// Its connection takes commands and gets publications, and got nothing else before.
    pub(crate) async fn is_undisturbed(&mut self) {
        let sent = self.0.publish("bystander", text("still here"));
        let (mut is_answered, mut is_delivered) = (false, false);
        while !(is_answered && is_delivered) {
            match self.0.next().await {
                ServerEvent::Published { request, .. } => is_answered = request == sent,
                ServerEvent::Publications { publications, .. } => {
                    is_delivered = publications[0].payload == text("still here");
                }
                other => unreachable!("disturbed: {other:?}"),
            }
        }
    }
}

pub(crate) fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("channel")
}

/// A JSON string.
pub(crate) fn text(text: &str) -> Payload {
    Payload::json(format!("{text:?}").into()).expect("json")
}

fn rand() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}
