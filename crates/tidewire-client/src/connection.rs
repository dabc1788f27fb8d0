use std::collections::VecDeque;
use std::time::Duration;

use tidewire_model::{
    Command, Connect, Connected, Disconnect, ErrorCode, Request, RequestId, Resume,
};
use tidewire_protocol::ProtocolError;
use tidewire_protocol_native::client::{Closing, Codec, Refusal, ServerEvent, endpoints};
use tidewire_transport::{
    ClientSocket, CloseCode, ConnectError, Limits, Transport, TransportError, client,
};
use tokio::time::timeout;

use crate::wait::reached;
use crate::{NoToken, Options};

/// One WebSocket to a node, with an identity: commands out, events in.
pub struct Connection {
    socket: ClientSocket,
    codec: Codec,
    last_request: RequestId,
    ready: VecDeque<ServerEvent>,
    closing: Option<Closing>,
    /// How long the server may be silent; `None` before it has said how often it pings.
    patience: Option<Duration>,
}

/// What a server may send in one frame: more than it ever does.
const LIMITS: Limits = Limits { message_bytes: 16 << 20, fragments: 64 };
/// How long a ping may be on its way.
const LATE: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(1);
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

impl Connection {
    /// Connects to the address of this `attempt`, and takes up the session of `resume` if one is
    /// given. Takes ten seconds at most. Cancelling it closes what there is.
    pub async fn open(
        options: &Options,
        attempt: usize,
        resume: Option<Resume>,
    ) -> Result<(Self, Connected), OpenError> {
        let opening = async {
            // Before the node waits for a first frame: it does so for a short while only.
            let ticket = match &options.tickets {
                Some(tickets) => Some(tickets.next().await.map_err(OpenError::Ticket)?),
                None => None,
            };
            let token = ticket.is_none().then(|| options.token.clone());
            let mut connection = Self::dial(options, attempt).await?;
            let connect = Connect { token, ticket, resume };
            connection.send(Command::Connect(connect))?;
            let connected = connection.answer().await?;
            connection.patience = Some(patience(connected.ping_interval));
            Ok((connection, connected))
        };
        timeout(OPEN_TIMEOUT, opening).await.unwrap_or(Err(OpenError::Timeout))
    }

    /// Connects without saying who: for whoever wants to see what a server makes of that.
    pub async fn dial(options: &Options, attempt: usize) -> Result<Self, OpenError> {
        let (address, codec) = (options.address(attempt), options.codec);
        let socket = client::connect(&address, codec.subprotocol(), LIMITS).await?;
        Ok(Self {
            socket,
            codec,
            last_request: RequestId::default(),
            ready: VecDeque::new(),
            closing: None,
            patience: None,
        })
    }

    /// What the server answers to `connect`.
    async fn answer(&mut self) -> Result<Connected, OpenError> {
        loop {
            match self.next().await? {
                ServerEvent::Connected(connected) => return Ok(connected),
                ServerEvent::Failed { refusal, .. } => {
                    let closing = self.last_word().await;
                    return Err(OpenError::Refused { refusal, closing });
                }
                _ => {}
            }
        }
    }

    /// Reads on to the server's goodbye.
    async fn last_word(&mut self) -> Option<Closing> {
        while self.next().await.is_ok() {}
        self.closing.clone()
    }

    /// Queues a command; it is written while [`next`](Self::next) waits.
    pub fn send(&mut self, command: Command) -> Result<RequestId, Lost> {
        self.last_request.0 += 1;
        let id = self.last_request;
        let frame = self.codec.encode(&Request { id, command });
        self.socket.queue(&[frame]).map_err(|_| self.lost())?;
        Ok(id)
    }

    /// Queues a frame as it is: for whoever wants to see what a server makes of it.
    pub fn send_raw(&mut self, frame: tidewire_protocol::Frame) -> Result<(), Lost> {
        self.socket.queue(&[frame]).map_err(|_| self.lost())
    }

    /// The next event.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<ServerEvent, Lost> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if let ServerEvent::Closing(closing) = &event {
                    self.closing = Some(closing.clone());
                }
                return Ok(event);
            }
            let silent_at = self.patience.map(|patience| self.socket.last_heard() + patience);
            // What has come is read first: it may have waited for us.
            tokio::select! {
                biased;
                received = self.socket.receive() => match received {
                    Ok(Some(frame)) => self.ready.extend(self.codec.decode(&frame)?),
                    Err(TransportError::Io(error)) => return Err(Lost::Broken(error)),
                    Ok(None) | Err(_) => return Err(self.lost()),
                },
                () = reached(silent_at) => self.check_silence()?,
            }
        }
    }

    /// Fails if the server has been silent for too long; pings count as signs of life.
    fn check_silence(&self) -> Result<(), Lost> {
        let silent = self.socket.last_heard().elapsed();
        match self.patience {
            Some(patience) if silent >= patience => Err(Lost::Silent(silent)),
            _ => Ok(()),
        }
    }

    /// Events that have come already, without waiting.
    pub fn next_ready(&mut self) -> Option<ServerEvent> {
        self.ready.pop_front()
    }

    /// Bytes queued and not yet written.
    pub fn unsent(&self) -> usize {
        self.socket.unsent()
    }

    /// Writes what is queued. Cancel-safe.
    pub async fn flush(&mut self) -> Result<(), Lost> {
        self.socket.flush().await.map_err(|_| self.lost())
    }

    fn lost(&self) -> Lost {
        let code = self.socket.peer_close().map(|close| close.code.value());
        Lost::Closed { code, closing: self.closing.clone() }
    }

    /// Says goodbye: the session waits for its window and is then gone.
    pub async fn close(mut self) {
        // A server that does not answer is of no interest any more.
        drop(self.socket.close(CloseCode::NORMAL, "", GOODBYE).await);
    }
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("server refused the connection: {refusal}")]
    Refused { refusal: Refusal, closing: Option<Closing> },
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("server did not answer in time")]
    Timeout,
    #[error("there is no ticket to connect with: {0}")]
    Ticket(#[source] NoToken),
}

impl OpenError {
    /// Where the other nodes are, if this one has said so because it leaves.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        match self {
            Self::Connect(ConnectError::Refused { body, .. }) => endpoints(body),
            _ => Vec::new(),
        }
    }

    /// How long the server says to wait, in whichever way it said no.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Connect(ConnectError::Refused { retry_after, .. }) => *retry_after,
            Self::Refused { refusal, .. } => refusal.retry_after,
            _ => None,
        }
    }

    /// Whether that is because the token has expired.
    pub(crate) fn is_expiry(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.error_code() == Some(ErrorCode::TokenExpired),
            Self::Lost(lost) => lost.code() == Some(Disconnect::TokenExpired.code()),
            Self::Connect(_) | Self::Timeout | Self::Ticket(_) => false,
        }
    }

    /// Whether trying again may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(ConnectError::Refused { status, .. }) => status.is_server_error(),
            Self::Connect(ConnectError::Url(_) | ConnectError::Subprotocol) => false,
            Self::Connect(_) | Self::Timeout | Self::Ticket(_) => true,
            Self::Refused { closing, .. } => closing.as_ref().is_none_or(|last| last.reconnect),
            Self::Lost(lost) => lost.invites_back(),
        }
    }
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("server closed the connection{}", describe(*.code, .closing.as_ref()))]
    Closed { code: Option<u16>, closing: Option<Closing> },
    #[error("server has not been heard for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("connection broke")]
    Broken(#[source] std::io::Error),
    #[error("server sent what is not the protocol")]
    Protocol(#[from] ProtocolError),
}

impl Lost {
    /// The code with which the server ended the connection.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Closed { code, closing } => closing.as_ref().map(|last| last.code).or(*code),
            Self::Silent(_) | Self::Broken(_) | Self::Protocol(_) => None,
        }
    }

    /// Whether to come back: yes, unless the server said otherwise.
    pub fn invites_back(&self) -> bool {
        match self {
            Self::Closed { closing: Some(closing), .. } => closing.reconnect,
            Self::Closed { code, .. } => {
                code.is_none_or(|code| matches!(code, 1001 | 1005 | 1012 | 1013 | 4500..=4999))
            }
            Self::Silent(_) | Self::Broken(_) => true,
            Self::Protocol(_) => false,
        }
    }
}

/// A server that is there pings every `interval`, so that one is missing after that, and late by as
/// much as a network may be late.
fn patience(interval: Duration) -> Duration {
    interval + interval.min(LATE)
}

fn describe(code: Option<u16>, closing: Option<&Closing>) -> String {
    match (closing, code) {
        (Some(closing), _) => format!(": {} ({})", closing.name, closing.code),
        (None, Some(code)) => format!(" with code {code}"),
        (None, None) => String::new(),
    }
}
