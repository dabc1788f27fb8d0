//! From one connection to the next: after a loss, or because the node asks for it.

use std::collections::HashSet;
use std::time::Duration;

use tidewire_model::{Channel, Connected, Disconnect, Resume, SessionNonce, Token};
use tokio::time::{Instant, sleep_until};

use super::{Client, ClientError, ResumeState, sending};
use crate::connection::{Lost, OpenError};
use crate::happening::{Came, Happening};
use crate::leaving::Leaving;
use crate::opening::{Opened, Opening};

/// A move to another node, until the connection to that is open.
pub(super) struct Move {
    /// When to open it; `None` while it is being opened.
    pub(super) at: Option<Instant>,
    /// How long the connection at hand is served.
    until: Instant,
    /// It has been tried for, and may have claimed the session.
    is_tried: bool,
    /// How the connection at hand was lost meanwhile.
    lost: Option<String>,
}

/// Addresses that it tries before its own.
const MOST_OFFERED: usize = 3;
const MOVED: u16 = Disconnect::Moved.code();
const EXPIRED: u16 = Disconnect::TokenExpired.code();

impl Client {
    pub(super) fn asked_to_move(
        &mut self,
        (after, window): (Duration, Duration),
        token: Option<Token>,
    ) {
        if let Some(state) = &mut self.resume {
            state.token = token;
        }
        let at = Instant::now() + after;
        self.moving.get_or_insert_with(|| Move {
            at: Some(at),
            until: at + window,
            is_tried: false,
            lost: None,
        });
        self.happenings.push_back(Happening::Asked { after, window });
    }

    /// Tries these addresses first, as far as they are as safe as its own.
    pub(super) fn offer(&mut self, endpoints: Vec<String>) {
        let own = self.options.urls.first().and_then(|url| url.split_once("://"));
        let scheme = own.map(|(scheme, _)| scheme);
        let is_alike = |url: &String| url.split_once("://").map(|(scheme, _)| scheme) == scheme;
        self.offered = endpoints.into_iter().filter(is_alike).take(MOST_OFFERED).collect();
    }

    /// Opens the connection it was asked for. The one at hand is read meanwhile, unless there may be
    /// only one.
    pub(super) fn move_over(&mut self) {
        self.attempt += 1;
        if self.options.overlap {
            if let Some(moving) = &mut self.moving {
                moving.at = None;
                moving.is_tried = true;
            }
            return self.open();
        }
        self.moving = None;
        self.leaving = self.connection.take().map(Leaving::closing);
        self.happenings.push_back(Happening::Left);
    }

    /// Whether the connection is over because this client itself has resumed on a second one, of
    /// which it has not heard: the claim stands, and the same nonce makes it again.
    fn has_moved(&self, lost: &Lost) -> bool {
        let is_tried = self.moving.as_ref().is_some_and(|moving| moving.is_tried);
        is_tried && lost.code() == Some(MOVED)
    }

    /// The connection at hand is over. If another is being opened, that is all; otherwise the client
    /// has to come back.
    ///
    /// A session that somebody else has taken up is theirs, as when a browser's tab is doubled: the
    /// client begins another from its positions. A first connection takes nothing from anybody, so
    /// that ends there.
    pub(super) fn lose(&mut self, lost: Lost) -> Result<(), ClientError> {
        match lost.code() {
            _ if lost.invites_back() || self.has_moved(&lost) => {}
            Some(MOVED) => self.resume = None,
            Some(EXPIRED) if self.options.tickets.is_some() => {}
            Some(EXPIRED) if self.renewal.demand(Instant::now()) => {}
            _ => return Err(lost.into()),
        }
        let reason = lost.to_string();
        match &mut self.moving {
            Some(moving) if self.opening.is_some() => {
                self.connection = None;
                moving.lost = Some(reason);
            }
            _ => {
                self.cut();
                self.attempt += 1;
                self.happenings.push_back(Happening::Lost { reason });
            }
        }
        Ok(())
    }

    /// Waits before it connects again: for the end of the connection it may not hold as well, for a token
    /// if it needs one, or for a random time. Cancel-safe: it goes on waiting where it was.
    pub(super) async fn come_back(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            while leaving.next().await.is_some() {}
            self.leaving = None;
            if self.come_back_at.is_none() {
                return self.open();
            }
        }
        if self.renewal.is_needed() {
            let renewed = self.renewal.next().await;
            return self.renewed(renewed);
        }
        let now = Instant::now();
        let at = *self
            .come_back_at
            .get_or_insert_with(|| now + self.backoff.next(now, &self.options.random));
        sleep_until(at).await;
        self.come_back_at = None;
        self.open();
    }

    /// Begins to open a connection; the one there is stays until the new one is open.
    pub(super) fn open(&mut self) {
        let resume = self.resume.as_ref().and_then(|state| {
            Some(Resume {
                token: state.token.clone()?,
                nonce: state.nonce,
                positions: self.following.positions(),
            })
        });
        self.renewal.shown();
        self.opening = Some(match self.offered.pop_front() {
            Some(url) => Opening::start_at(url, &self.options, resume),
            None => Opening::start(&self.options, self.attempt, resume),
        });
    }

    pub(super) fn opened(&mut self, opened: Opened) -> Result<(), ClientError> {
        let now = Instant::now();
        let was_offered = self.opening.as_ref().is_some_and(Opening::was_offered);
        let told = self.opening.take().map(Opening::told).unwrap_or_default();
        match opened {
            Ok((connection, connected)) => {
                let came = self.how_it_came();
                let older = self.connection.replace(connection).zip(self.moving.take());
                self.leaving = older.map(|(older, moving)| Leaving::reading(older, moving.until));
                self.backoff.opened(now);
                self.offered.clear();
                self.settle_in(connected, told, came);
            }
            // Somebody else has taken the session up before this client heard of it.
            Err(OpenError::Lost(lost)) if lost.code() == Some(MOVED) => {
                self.resume = None;
                self.not_opened(now, None);
            }
            Err(error) if error.is_expiry() && self.renewal.demand_to_open(now) => {
                self.not_opened(now, None);
            }
            // What is wrong with an address that is not its own says nothing about those that are.
            Err(error) if !error.is_transient() && !was_offered => return Err(error.into()),
            Err(error) => {
                if !was_offered {
                    self.offer(error.endpoints());
                }
                // One that is full says nothing of the others.
                let told = error.retry_after().filter(|_| !was_offered);
                self.not_opened(now, told);
            }
        }
        Ok(())
    }

    /// Tries again later, as late as the server has `told` at the least.
    fn not_opened(&mut self, now: Instant, told: Option<Duration>) {
        let told = told.unwrap_or_default();
        let again_at = now + self.backoff.next_after(told, now, &self.options.random);
        if self.connection.is_some() {
            if let Some(moving) = &mut self.moving {
                moving.at = Some(again_at);
            }
            return;
        }
        self.come_back_at = Some(again_at);
        self.attempt += 1;
        let lost = self.moving.take().and_then(|moving| moving.lost);
        self.happenings.extend(lost.map(|reason| Happening::Lost { reason }));
    }

    fn how_it_came(&self) -> Came {
        if self.connection.is_some() {
            Came::Over
        } else if self.attempt == 0 && self.resume.is_none() {
            // The first attempt succeeds, or there is no client.
            Came::First
        } else {
            Came::Back
        }
    }

    /// Asks for whatever the session does not bring back by itself, then publishes again what was
    /// not acknowledged, before anything new.
    fn settle_in(&mut self, connected: Connected, told: HashSet<Channel>, came: Came) {
        let token = connected.resume_token;
        let nonce = SessionNonce::from_bytes(self.options.random.bytes());
        self.resume = Some(ResumeState { token, nonce });
        if !self.renewal.let_in() {
            // It came too late to be what opened this connection.
            let token = self.options.token.clone();
            self.refresh(token);
        }
        // A resumed session brings back every channel whose position it was told. A command that has
        // not been answered may never have arrived.
        let are_back = if connected.resumed { told } else { HashSet::new() };
        self.following.begin_anew(&are_back, sending(&mut self.connection));
        self.attendance.begin_anew(sending(&mut self.connection));
        self.unacknowledged.begin_anew(sending(&mut self.connection));
        let (node, resumed) = (connected.node.to_string(), connected.resumed);
        self.happenings.push_back(Happening::Connected { node, resumed, came });
    }

    /// Leaves the older connection once the one at hand brings all that is new.
    pub(super) fn leave_if_in_step(&mut self) {
        let is_over = |leaving: &mut Leaving| leaving.is_reading() && self.following.is_in_step();
        if let Some(leaving) = self.leaving.take_if(is_over) {
            self.leaving = Some(leaving.close());
            self.happenings.push_back(Happening::Left);
        }
    }

    /// The older connection is over.
    pub(super) fn left(&mut self) {
        if self.leaving.take().is_some_and(|leaving| leaving.is_reading()) {
            self.happenings.push_back(Happening::Left);
        }
    }
}
