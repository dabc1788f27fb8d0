use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tidewire_model::{
    Channel, Command, Connected, ErrorCode, Payload, Position, PublicationId, Publish, RequestId,
    Resume, SessionNonce, Since, Token,
};
use tidewire_protocol_native::client::{Received, Refusal, ServerEvent};
use tokio::time::{Instant, sleep_until};

use crate::Options;
use crate::backoff::Backoff;
use crate::connection::{Connection, Lost, OpenError};
use crate::followed::Followed;
use crate::happening::Happening;
use crate::opening::{Opened, Opening};
use crate::repeats::Repeats;

/// A session that outlives its connections.
pub struct Client {
    options: Options,
    connection: Option<Connection>,
    /// Which of the addresses is next.
    attempt: usize,
    resume: Option<ResumeState>,
    backoff: Backoff,
    channels: HashMap<Channel, Followed>,
    /// Published and not acknowledged, oldest first.
    unacknowledged: VecDeque<Unacknowledged>,
    next_id: u64,
    id_prefix: String,
    move_at: Option<Instant>,
    /// When to connect again after a loss.
    come_back_at: Option<Instant>,
    opening: Option<Opening>,
    /// When to publish again what was refused as retryable.
    retry_at: Option<Instant>,
    happenings: VecDeque<Happening>,
    repeats: Repeats,
}

struct ResumeState {
    token: Token,
    nonce: SessionNonce,
}

struct Unacknowledged {
    publish: Publish,
    request: Option<RequestId>,
}

/// Why a client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// How long to wait before repeating what was refused as retryable.
const RETRY: Duration = Duration::from_millis(100);

impl Client {
    /// Connects. Fails at the first attempt that fails; later losses are made good.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let mut client = Self {
            options,
            connection: None,
            attempt: 0,
            resume: None,
            backoff: Backoff::default(),
            channels: HashMap::new(),
            unacknowledged: VecDeque::new(),
            next_id: 0,
            id_prefix: random_prefix(),
            move_at: None,
            come_back_at: None,
            opening: None,
            retry_at: None,
            happenings: VecDeque::new(),
            repeats: Repeats::default(),
        };
        client.open();
        if let Some(opening) = &mut client.opening {
            let opened = opening.finish().await?;
            client.opened(Ok(opened))?;
        }
        Ok(client)
    }

    /// Wants a channel's publications, from now on and over every loss.
    pub fn subscribe(&mut self, channel: Channel, since: Since) {
        if self.channels.insert(channel.clone(), Followed::new(since)).is_none() {
            self.send(Command::Subscribe { channel, since });
        }
    }

    /// Publishes, and goes on publishing under the same id until it is acknowledged or refused for
    /// good. Publications to one channel are kept in the order of these calls, over losses too; one
    /// that is refused as retryable may fall behind those after it.
    pub fn publish(&mut self, channel: Channel, payload: Payload) -> PublicationId {
        self.next_id += 1;
        let id = format!("{}-{}", self.id_prefix, self.next_id);
        let id = PublicationId::parse(&id).expect("hexadecimal digits and a number");
        let publish = Publish { channel, id: Some(id.clone()), payload };
        let request = self.send(Command::Publish(publish.clone()));
        self.unacknowledged.push_back(Unacknowledged { publish, request });
        id
    }

    /// Publications that have not been acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// How far a channel has been read.
    pub fn position(&self, channel: &Channel) -> Option<Position> {
        self.channels.get(channel)?.position
    }

    /// A publication that came before what [`next`](Self::next) returns next and is not passed on,
    /// because it has been before or is older than one that was; of more than 1,024 the oldest are
    /// forgotten. A server sends none but after a failover: this is for whoever checks that.
    pub fn next_repeat(&mut self) -> Option<(Channel, Position)> {
        self.repeats.next()
    }

    /// Waits for the next thing to happen, and does all that is to be done meanwhile: writes,
    /// comes back after a loss, moves when asked.
    ///
    /// Cancel-safe. An error means that the client will not be let in again as it is.
    pub async fn next(&mut self) -> Result<Happening, ClientError> {
        loop {
            if let Some(happening) = self.happenings.pop_front() {
                self.repeats.pass_on();
                return Ok(happening);
            }
            if let Some(opening) = &mut self.opening {
                let opened = opening.finish().await;
                self.opened(opened)?;
                continue;
            }
            let Some(connection) = &mut self.connection else {
                self.come_back().await;
                continue;
            };
            let (move_at, retry_at) = (self.move_at, self.retry_at);
            tokio::select! {
                event = connection.next() => match event {
                    Ok(event) => self.take(event),
                    Err(lost) if lost.invites_back() => self.lose(&lost),
                    Err(lost) => return Err(lost.into()),
                },
                () = reached(move_at) => {
                    self.attempt += 1;
                    self.open();
                }
                () = reached(retry_at) => self.retry(),
            }
        }
    }

    /// Cuts the connection without a goodbye, as a broken network does; the client comes back.
    pub fn cut(&mut self) {
        self.connection = None;
        self.opening = None;
        self.move_at = None;
        self.retry_at = None;
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    /// `None` without a connection: it is sent when there is one.
    fn send(&mut self, command: Command) -> Option<RequestId> {
        self.connection.as_mut()?.send(command).ok()
    }

    fn lose(&mut self, lost: &Lost) {
        self.cut();
        self.attempt += 1;
        self.happenings.push_back(Happening::Lost { reason: lost.to_string() });
    }

    /// Waits before it connects again. Cancel-safe: it goes on waiting where it was.
    async fn come_back(&mut self) {
        let at = *self.come_back_at.get_or_insert_with(|| Instant::now() + self.backoff.next());
        sleep_until(at).await;
        self.come_back_at = None;
        self.open();
    }

    /// Begins to open a connection; the one there is stays until the new one is open.
    fn open(&mut self) {
        let resume = self.resume.as_ref().map(|state| Resume {
            token: state.token.clone(),
            nonce: state.nonce,
            positions: self.positions(),
        });
        self.opening = Some(Opening::start(&self.options, self.attempt, resume));
    }

    fn opened(&mut self, opened: Opened) -> Result<(), ClientError> {
        let told = self.opening.take().map(Opening::told).unwrap_or_default();
        match opened {
            Ok((connection, connected)) => {
                self.connection = Some(connection);
                self.move_at = None;
                self.backoff.reset();
                self.settle_in(connected, &told);
            }
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(_) if self.connection.is_some() => {
                self.move_at = Some(Instant::now() + self.backoff.next());
            }
            Err(_) => self.attempt += 1,
        }
        Ok(())
    }

    fn positions(&self) -> Vec<(Channel, Position)> {
        let position = |(channel, followed): (&Channel, &Followed)| {
            Some((channel.clone(), followed.position?))
        };
        self.channels.iter().filter_map(position).collect()
    }

    /// Asks for whatever the session does not bring back by itself, then publishes again what was
    /// not acknowledged, before anything new.
    fn settle_in(&mut self, connected: Connected, told: &HashSet<Channel>) {
        let token = connected.resume_token;
        let nonce = SessionNonce::from_bytes(random());
        self.resume = Some(ResumeState { token, nonce });
        let brought_back = |channel: &Channel| connected.resumed && told.contains(channel);
        self.subscribe_again(brought_back);
        let connection = self.connection.as_mut();
        if let Some(connection) = connection {
            for waiting in &mut self.unacknowledged {
                waiting.request = connection.send(Command::Publish(waiting.publish.clone())).ok();
            }
        }
        let (node, resumed) = (connected.node.to_string(), connected.resumed);
        self.happenings.push_back(Happening::Connected { node, resumed });
    }

    /// A resumed session brings back every channel whose position it was told. A command that has not
    /// been answered may never have arrived.
    fn subscribe_again(&mut self, is_brought_back: impl Fn(&Channel) -> bool) {
        let wanted: Vec<_> = self
            .channels
            .iter()
            .filter(|(channel, _)| !is_brought_back(channel))
            .map(|(channel, followed)| Command::Subscribe {
                channel: channel.clone(),
                since: followed.go_on(),
            })
            .collect();
        for command in wanted {
            self.send(command);
        }
    }

    fn take(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Publications { channel, publications } => {
                for publication in publications {
                    self.receive(&channel, publication);
                }
            }
            ServerEvent::Subscribed(subscribed) => {
                if let Some(followed) = self.channels.get_mut(&subscribed.channel) {
                    followed.position = Some(subscribed.position);
                }
                self.happenings.push_back(Happening::Subscribed(subscribed));
            }
            ServerEvent::Gap { channel, gap } => {
                if let Some(followed) = self.channels.get_mut(&channel) {
                    followed.position = Some(gap.position);
                }
                self.happenings.push_back(Happening::Gap { channel, gap });
            }
            ServerEvent::Published { request, position, duplicate } => {
                self.acknowledge(request, position, duplicate);
            }
            ServerEvent::Reconnect { after, token, .. } => {
                if let Some(state) = &mut self.resume {
                    state.token = token;
                }
                self.move_at = Some(Instant::now() + after);
            }
            ServerEvent::Unsubscribed { channel, refusal: Some(refusal), .. } => {
                self.channels.remove(&channel);
                let channel = Some(channel);
                self.happenings.push_back(Happening::Refused { channel, refusal });
            }
            ServerEvent::Failed { request, refusal } => self.fail(request, refusal),
            _ => {}
        }
    }

    /// Passes a publication on, unless it was passed on before.
    fn receive(&mut self, channel: &Channel, publication: Received) {
        let Some(followed) = self.channels.get_mut(channel) else { return };
        let channel = channel.clone();
        if followed.read(&publication) {
            self.happenings.push_back(Happening::Publication { channel, publication });
            return;
        }
        self.repeats.push(self.happenings.len(), channel, publication.position);
    }

    fn acknowledge(&mut self, request: RequestId, position: Position, duplicate: bool) {
        if let Some(Unacknowledged { publish, .. }) = self.take_unacknowledged(request)
            && let Some(id) = publish.id
        {
            self.happenings.push_back(Happening::Published { id, position, duplicate });
        }
    }

    fn take_unacknowledged(&mut self, request: RequestId) -> Option<Unacknowledged> {
        let index = self.index_of(request)?;
        self.unacknowledged.remove(index)
    }

    fn index_of(&self, request: RequestId) -> Option<usize> {
        self.unacknowledged.iter().position(|waiting| waiting.request == Some(request))
    }

    fn fail(&mut self, request: Option<RequestId>, refusal: Refusal) {
        if refusal.error_code() == Some(ErrorCode::AlreadySubscribed) {
            // Asked again after a loss, and the first command had arrived after all.
            return;
        }
        let Some(index) = request.and_then(|request| self.index_of(request)) else {
            return self.happenings.push_back(Happening::Refused { channel: None, refusal });
        };
        if refusal.retryable {
            self.unacknowledged[index].request = None;
            let at = Instant::now() + refusal.retry_after.unwrap_or(RETRY);
            self.retry_at = Some(self.retry_at.map_or(at, |earlier| earlier.min(at)));
            return;
        }
        let id = self.unacknowledged.remove(index).and_then(|waiting| waiting.publish.id);
        self.happenings.extend(id.map(|id| Happening::Rejected { id, refusal }));
    }

    /// Publishes again, in order, what has been refused as retryable.
    fn retry(&mut self) {
        self.retry_at = None;
        let Some(connection) = self.connection.as_mut() else { return };
        for waiting in self.unacknowledged.iter_mut().filter(|waiting| waiting.request.is_none()) {
            waiting.request = connection.send(Command::Publish(waiting.publish.clone())).ok();
        }
    }
}

/// Waits until `at`, or for ever if there is no such time.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system's random source works");
    bytes
}

/// Tells this client's publications from those of the same user's other clients.
fn random_prefix() -> String {
    format!("{:012x}", u128::from_be_bytes(random()) >> 80)
}
