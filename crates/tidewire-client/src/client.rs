use std::collections::{HashSet, VecDeque};

use tidewire_model::{
    Channel, Command, Connected, DeltaFormat, Disconnect, ErrorCode, Payload, Position,
    PublicationId, Publish, Random, RequestId, Resume, SessionNonce, Since, Token,
};
use tidewire_protocol_native::client::{Content, Received, Refusal, ServerEvent};
use tidewire_protocol_native::fossil::BadDelta;
use tokio::time::{Instant, sleep_until};

use crate::Options;
use crate::backoff::Backoff;
use crate::connection::{Connection, Lost, OpenError};
use crate::following::Following;
use crate::happening::{Came, Happening};
use crate::opening::{Opened, Opening};
use crate::repeats::Repeats;
use crate::unacknowledged::{Full, Refused, Unacknowledged};

/// A session that outlives its connections.
pub struct Client {
    options: Options,
    connection: Option<Connection>,
    /// Which of the addresses is next.
    attempt: usize,
    resume: Option<ResumeState>,
    backoff: Backoff,
    following: Following,
    unacknowledged: Unacknowledged,
    next_id: u64,
    id_prefix: String,
    /// When to open a second connection, as the node asked.
    move_at: Option<Instant>,
    /// A second connection has been tried for, and may have claimed the session.
    is_moving: bool,
    /// When to connect again after a loss.
    come_back_at: Option<Instant>,
    opening: Option<Opening>,
    happenings: VecDeque<Happening>,
    repeats: Repeats,
}

struct ResumeState {
    token: Token,
    nonce: SessionNonce,
}

/// Why a client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl Client {
    /// Connects. Fails at the first attempt that fails; later losses are made good.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let id_prefix = random_prefix(&options.random);
        let mut client = Self {
            options,
            connection: None,
            attempt: 0,
            resume: None,
            backoff: Backoff::default(),
            following: Following::default(),
            unacknowledged: Unacknowledged::default(),
            next_id: 0,
            id_prefix,
            move_at: None,
            is_moving: false,
            come_back_at: None,
            opening: None,
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

    /// Wants a channel's publications, from now on and over every loss. A channel that is wanted
    /// already stays as it is, whatever `since`.
    ///
    /// The client asks again for what is refused as retryable. What is refused for good is told as
    /// [`Happening::Refused`], and the channel is wanted no more.
    pub fn subscribe(&mut self, channel: Channel, since: Since) {
        self.following.follow(channel, (since, None), sending(&mut self.connection));
    }

    /// As [`subscribe`](Self::subscribe), and asks the server to send what changed from one
    /// publication to the next, where the channel offers that. It saves traffic where publications
    /// are successive states; they are still passed on whole. The payload of the newest is kept for
    /// it.
    pub fn subscribe_by_delta(&mut self, channel: Channel, since: Since) {
        let delta = Some(DeltaFormat::Fossil);
        self.following.follow(channel, (since, delta), sending(&mut self.connection));
    }

    /// Publishes, and goes on publishing under the same id until it is acknowledged or refused for
    /// good.
    ///
    /// Publications to one channel are stored in the order of these calls, over losses too. When one
    /// is refused as retryable nothing more is sent to its channel, and whatever has not been stored
    /// follows it in order. Those sent after it before the refusal came may have been stored before
    /// it: that cannot be taken back.
    ///
    /// # Errors
    ///
    /// [`Full`] while 4,096 publications are unacknowledged. Nothing happens then: publish again
    /// after [`next`](Self::next) has told of one.
    pub fn publish(&mut self, channel: Channel, payload: Payload) -> Result<PublicationId, Full> {
        self.unacknowledged.check_room()?;
        self.next_id += 1;
        let id = format!("{}-{}", self.id_prefix, self.next_id);
        let id = PublicationId::parse(&id).expect("hexadecimal digits and a number");
        let publish = Publish { channel, id: Some(id.clone()), payload };
        self.unacknowledged.push(publish, sending(&mut self.connection));
        Ok(id)
    }

    /// Publications that have not been acknowledged: at most 4,096.
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// How far a channel has been read.
    pub fn position(&self, channel: &Channel) -> Option<Position> {
        self.following.position(channel)
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
            let (move_at, publish_at) = (self.move_at, self.unacknowledged.send_at());
            let subscribe_at = self.following.ask_at();
            // In one order, so that a seed repeats a run: what is due first, or a flood of events
            // would hold it up.
            tokio::select! {
                biased;
                () = reached(move_at) => {
                    self.attempt += 1;
                    self.is_moving = true;
                    self.open();
                }
                () = reached(publish_at) => {
                    let send = sending(&mut self.connection);
                    self.unacknowledged.send_again(Instant::now(), send);
                }
                () = reached(subscribe_at) => {
                    self.following.ask_again(Instant::now(), sending(&mut self.connection));
                }
                event = connection.next() => match event {
                    Ok(event) => self.take(event),
                    Err(lost) if lost.invites_back() || self.has_moved(&lost) => self.lose(&lost),
                    Err(lost) => return Err(lost.into()),
                },
            }
        }
    }

    /// Cuts the connection without a goodbye, as a broken network does; the client comes back.
    pub fn cut(&mut self) {
        self.connection = None;
        self.opening = None;
        self.move_at = None;
        self.is_moving = false;
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    /// Whether the connection is over because this client itself has resumed on a second one, of
    /// which it has not heard: the claim stands, and the same nonce makes it again.
    fn has_moved(&self, lost: &Lost) -> bool {
        self.is_moving && lost.code() == Some(Disconnect::Moved.code())
    }

    fn lose(&mut self, lost: &Lost) {
        self.cut();
        self.attempt += 1;
        self.happenings.push_back(Happening::Lost { reason: lost.to_string() });
    }

    /// Waits before it connects again. Cancel-safe: it goes on waiting where it was.
    async fn come_back(&mut self) {
        let now = Instant::now();
        let at = *self
            .come_back_at
            .get_or_insert_with(|| now + self.backoff.next(now, &self.options.random));
        sleep_until(at).await;
        self.come_back_at = None;
        self.open();
    }

    /// Begins to open a connection; the one there is stays until the new one is open.
    fn open(&mut self) {
        let resume = self.resume.as_ref().map(|state| Resume {
            token: state.token.clone(),
            nonce: state.nonce,
            positions: self.following.positions(),
        });
        self.opening = Some(Opening::start(&self.options, self.attempt, resume));
    }

    fn opened(&mut self, opened: Opened) -> Result<(), ClientError> {
        let now = Instant::now();
        let told = self.opening.take().map(Opening::told).unwrap_or_default();
        match opened {
            Ok((connection, connected)) => {
                let came = self.how_it_came();
                self.connection = Some(connection);
                self.move_at = None;
                self.is_moving = false;
                self.backoff.opened(now);
                self.settle_in(connected, told, came);
                if came == Came::Over {
                    self.happenings.push_back(Happening::Left);
                }
            }
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(_) if self.connection.is_some() => {
                self.move_at = Some(now + self.backoff.next(now, &self.options.random));
            }
            Err(_) => self.attempt += 1,
        }
        Ok(())
    }

    fn how_it_came(&self) -> Came {
        match (&self.connection, &self.resume) {
            (Some(_), _) => Came::Over,
            (None, Some(_)) => Came::Back,
            (None, None) => Came::First,
        }
    }

    /// Asks for whatever the session does not bring back by itself, then publishes again what was
    /// not acknowledged, before anything new.
    fn settle_in(&mut self, connected: Connected, told: HashSet<Channel>, came: Came) {
        let token = connected.resume_token;
        let nonce = SessionNonce::from_bytes(self.options.random.bytes());
        self.resume = Some(ResumeState { token, nonce });
        // A resumed session brings back every channel whose position it was told. A command that has
        // not been answered may never have arrived.
        let are_back = if connected.resumed { told } else { HashSet::new() };
        self.following.begin_anew(&are_back, sending(&mut self.connection));
        self.unacknowledged.begin_anew(sending(&mut self.connection));
        let (node, resumed) = (connected.node.to_string(), connected.resumed);
        self.happenings.push_back(Happening::Connected { node, resumed, came });
    }

    fn take(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Publications { channel, publications } => {
                self.restore(&channel, publications.into_iter().map(Received::written));
            }
            ServerEvent::Deltas { channel, publications } => {
                self.restore(&channel, publications);
            }
            ServerEvent::Subscribed(subscribed) => {
                self.following.subscribed(&subscribed, Instant::now());
                self.happenings.push_back(Happening::Subscribed(subscribed));
            }
            ServerEvent::Gap { channel, gap } => {
                self.following.gap(&channel, &gap, Instant::now());
                self.happenings.push_back(Happening::Gap { channel, gap });
            }
            ServerEvent::Published { request, position, duplicate } => {
                let send = sending(&mut self.connection);
                let id = self.unacknowledged.acknowledge(request, send);
                let published = |id| Happening::Published { id, position, duplicate };
                self.happenings.extend(id.map(published));
            }
            ServerEvent::Reconnect { after, window, token } => {
                if let Some(state) = &mut self.resume {
                    state.token = token;
                }
                self.move_at = Some(Instant::now() + after);
                self.happenings.push_back(Happening::Asked { after, window });
            }
            ServerEvent::Unsubscribed { channel, refusal: Some(refusal), .. } => {
                self.refuse_channel(channel, refusal);
            }
            ServerEvent::Failed { request, refusal } => self.fail(request, refusal),
            _ => {}
        }
    }

    /// Receives publications of a channel, each made whole.
    fn restore(
        &mut self,
        channel: &Channel,
        publications: impl IntoIterator<Item = Received<Content>>,
    ) {
        for publication in publications {
            match self.following.restore(channel, publication) {
                Ok(whole) => whole.into_iter().for_each(|whole| self.receive(channel, whole)),
                Err(BadDelta) => {
                    return self.following.ask_in_full(channel, sending(&mut self.connection));
                }
            }
        }
    }

    /// Passes a publication on, unless it was passed on before.
    fn receive(&mut self, channel: &Channel, publication: Received) {
        let Some(is_new) = self.following.read(channel, &publication, Instant::now()) else {
            return;
        };
        let channel = channel.clone();
        if is_new {
            self.happenings.push_back(Happening::Publication { channel, publication });
            return;
        }
        self.repeats.push(self.happenings.len(), channel, publication.position);
    }

    fn fail(&mut self, request: Option<RequestId>, refusal: Refusal) {
        let Some(request) = request else {
            return self.happenings.push_back(Happening::Refused { channel: None, refusal });
        };
        if let Some(channel) = self.following.asked_by(request) {
            return self.refuse_channel(channel, refusal);
        }
        let send = sending(&mut self.connection);
        let refused = self.unacknowledged.refuse(request, &refusal, Instant::now(), send);
        if let Some(Refused::ForGood(id)) = refused {
            self.happenings.push_back(Happening::Rejected { id, refusal });
        }
    }

    fn refuse_channel(&mut self, channel: Channel, refusal: Refusal) {
        if refusal.error_code() == Some(ErrorCode::AlreadySubscribed) {
            // Asked again after a loss, and the first command had arrived after all.
            return self.following.keep(&channel);
        }
        if self.following.refuse(&channel, &refusal, Instant::now()) {
            let channel = Some(channel);
            self.happenings.push_back(Happening::Refused { channel, refusal });
        }
    }
}

/// Sends over `connection`; without one a command has no id, and waits for the next connection.
fn sending(connection: &mut Option<Connection>) -> impl FnMut(Command) -> Option<RequestId> {
    |command| connection.as_mut()?.send(command).ok()
}

/// Waits until `at`, or for ever if there is no such time.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Tells this client's publications from those of the same user's other clients.
fn random_prefix(random: &Random) -> String {
    format!("{:012x}", random.draw() >> 16)
}
