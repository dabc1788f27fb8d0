use std::collections::VecDeque;

use tidewire_model::{
    Channel, Command, DeltaFormat, Payload, Position, PublicationId, Publish, Random, RequestId,
    SessionNonce, Since, Token,
};
use tokio::time::Instant;

use crate::Options;
use crate::attendance::Attendance;
use crate::backoff::Backoff;
use crate::connection::{Connection, Lost, OpenError};
use crate::followed::Wanted;
use crate::following::Following;
use crate::happening::Happening;
use crate::leaving::Leaving;
use crate::opening::Opening;
use crate::renewal::Renewal;
use crate::repeats::Repeats;
use crate::unacknowledged::{Full, Unacknowledged};
use crate::wait::{of, reached};
use moving::Move;

/// A session that outlives its connections.
pub struct Client {
    options: Options,
    connection: Option<Connection>,
    /// Which of the addresses is next.
    attempt: usize,
    /// Where it was told to go, which it tries before.
    offered: VecDeque<String>,
    resume: Option<ResumeState>,
    backoff: Backoff,
    following: Following,
    attendance: Attendance,
    unacknowledged: Unacknowledged,
    next_id: u64,
    id_prefix: String,
    /// While the node has asked it to, and it has not.
    moving: Option<Move>,
    /// The connection it has moved from.
    leaving: Option<Leaving>,
    /// When to connect again after a loss.
    come_back_at: Option<Instant>,
    opening: Option<Opening>,
    happenings: VecDeque<Happening>,
    repeats: Repeats,
    renewal: Renewal,
}

/// The session of the connection at hand, or of the last.
struct ResumeState {
    /// `None` if it is not kept.
    token: Option<Token>,
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
        let renewal = Renewal::new(options.renew.clone());
        let mut client = Self {
            options,
            connection: None,
            attempt: 0,
            offered: VecDeque::new(),
            resume: None,
            backoff: Backoff::default(),
            following: Following::default(),
            attendance: Attendance::default(),
            unacknowledged: Unacknowledged::default(),
            next_id: 0,
            id_prefix,
            moving: None,
            leaving: None,
            come_back_at: None,
            opening: None,
            happenings: VecDeque::new(),
            repeats: Repeats::default(),
            renewal,
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
        let wanted = Wanted { since, delta: None, token: None };
        self.following.follow(channel, wanted, sending(&mut self.connection));
    }

    /// As [`subscribe`](Self::subscribe), and asks the server to send what changed from one
    /// publication to the next, where the channel offers that. It saves traffic where publications
    /// are successive states; they are still passed on whole. The payload of the newest is kept for
    /// it.
    pub fn subscribe_by_delta(&mut self, channel: Channel, since: Since) {
        let wanted = Wanted { since, delta: Some(DeltaFormat::Fossil), token: None };
        self.following.follow(channel, wanted, sending(&mut self.connection));
    }

    /// As [`subscribe`](Self::subscribe), and shows a token of this channel, for what the token of the client does
    /// not allow. When it has run out the subscription is refused for good: give another in time with
    /// [`refresh_channel`](Self::refresh_channel), or subscribe again.
    pub fn subscribe_with(&mut self, channel: Channel, since: Since, token: impl Into<Token>) {
        let wanted = Wanted { since, delta: None, token: Some(token.into()) };
        self.following.follow(channel, wanted, sending(&mut self.connection));
    }

    /// Takes another token of a channel that is wanted, for this connection and those after it. That the
    /// server does not like it is told as [`Happening::NotRenewed`]; the one before goes on.
    pub fn refresh_channel(&mut self, channel: &Channel, token: impl Into<Token>) {
        self.following.show(channel, token.into(), sending(&mut self.connection));
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

    /// Takes another token of the same user, for this connection and those after it. How the server likes
    /// it is told as [`Happening::Renewed`] or [`Happening::NotRenewed`].
    pub fn refresh(&mut self, token: impl Into<Token>) {
        self.options.token = token.into();
        let token = self.options.token.clone();
        let request = sending(&mut self.connection)(Command::Refresh { token, channel: None });
        self.renewal.given(request);
    }

    /// A publication that came before what [`next`](Self::next) returns next and is not passed on,
    /// because it has been before or is older than one that was. A server sends none but after a
    /// failover: this is for whoever checks that.
    ///
    /// Never waits. `None` says that none is left for now, and nothing of the connection, whose end
    /// [`next`](Self::next) alone tells. To miss none, take until `None` after everything that `next`
    /// has returned, its error included, and before [`close`](Self::close); of more than 1,024 between
    /// two happenings the oldest are forgotten.
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
            self.step().await?;
        }
    }

    /// Does what is due first. Cancel-safe.
    ///
    /// In one order, so that a seed repeats a run: time before events, or a flood of these would hold
    /// it up; and the connection at hand before the one that is being left, so that a flood brings it
    /// into step instead of holding that up.
    async fn step(&mut self) -> Result<(), ClientError> {
        if self.connection.is_none() && self.opening.is_none() {
            self.come_back().await;
            return Ok(());
        }
        let is_connected = self.connection.is_some();
        let move_at = self.moving.as_ref().and_then(|moving| moving.at);
        let publish_at = self.unacknowledged.send_at().filter(|_| is_connected);
        let subscribe_at = self.following.ask_at().filter(|_| is_connected);
        let enter_at = self.attendance.ask_at().filter(|_| is_connected);
        tokio::select! {
            biased;
            () = reached(move_at) => self.move_over(),
            () = reached(publish_at) => {
                let send = sending(&mut self.connection);
                self.unacknowledged.send_again(Instant::now(), send);
            }
            () = reached(subscribe_at) => {
                self.following.ask_again(Instant::now(), sending(&mut self.connection));
            }
            () = reached(enter_at) => {
                self.attendance.ask_again(Instant::now(), sending(&mut self.connection));
            }
            renewed = self.renewal.next() => self.renewed(renewed),
            opened = of(self.opening.as_mut().map(Opening::finish)) => self.opened(opened)?,
            event = of(self.connection.as_mut().map(Connection::next)) => match event {
                Ok(event) => self.take(event),
                Err(lost) => self.lose(lost)?,
            },
            event = of(self.leaving.as_mut().map(Leaving::next)) => match event {
                Some(event) => self.take_from_older(event),
                None => self.left(),
            },
        }
        self.leave_if_in_step();
        Ok(())
    }

    /// Cuts the connection without a goodbye, as a broken network does; the client comes back.
    pub fn cut(&mut self) {
        self.connection = None;
        self.opening = None;
        self.moving = None;
        self.leaving = None;
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}

/// Sends over `connection`; without one a command has no id, and waits for the next connection.
fn sending(connection: &mut Option<Connection>) -> impl FnMut(Command) -> Option<RequestId> {
    |command| connection.as_mut()?.send(command).ok()
}

/// Tells this client's publications from those of the same user's other clients.
fn random_prefix(random: &Random) -> String {
    format!("{:012x}", random.draw() >> 16)
}

mod moving;
mod presence;
mod renewing;
mod taking;
