//! Another token in time, for a client that is there for longer than its tokens hold.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidewire_model::{Random, RequestId, Token};
use tokio::time::{Instant, sleep_until};

/// Where a client gets another token from when its own runs out.
#[derive(Clone)]
pub struct Renew(Arc<dyn Fn() -> Asking + Send + Sync>);

/// Why there is no token.
pub type NoToken = Box<dyn std::error::Error + Send + Sync>;

type Asking = Pin<Box<dyn Future<Output = Result<Token, NoToken>> + Send>>;

impl Renew {
    /// `source` is asked for a token of the same user: shortly after the server has said that the one at
    /// hand runs out, and again, after a second that doubles up to half a minute, while it has none. Of
    /// what it gives one is awaited at a time; it is dropped with the client.
    pub fn new<F>(source: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Token, NoToken>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(source())))
    }
}

impl fmt::Debug for Renew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renew(..)")
    }
}

/// How far a client has got with its next token.
pub(crate) struct Renewal {
    source: Option<Renew>,
    stage: Stage,
    failures: u32,
    /// Nothing works without another token.
    is_needed: bool,
    /// The newest token has not been accepted anywhere.
    is_untried: bool,
    /// The last connection was opened with the newest token, or is being opened with it.
    is_shown: bool,
}

enum Stage {
    /// The token at hand holds, as far as is known.
    Idle,
    /// Another is to be asked for then.
    Due(Instant),
    Asking(Asking),
    /// The server judges another.
    Sent(RequestId),
}

/// Those that are told at once do not ask at once.
const SPREAD: Duration = Duration::from_secs(5);
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

impl Renewal {
    pub(crate) fn new(source: Option<Renew>) -> Self {
        Self {
            source,
            stage: Stage::Idle,
            failures: 0,
            is_needed: false,
            is_untried: false,
            is_shown: false,
        }
    }

    pub(crate) fn has_source(&self) -> bool {
        self.source.is_some()
    }

    /// The token at hand runs out soon.
    pub(crate) fn announced(&mut self, now: Instant, random: &Random) {
        if self.source.is_some() && matches!(self.stage, Stage::Idle | Stage::Sent(_)) {
            let share = f64::from((random.draw() >> 32) as u32) / f64::from(u32::MAX);
            self.stage = Stage::Due(now + SPREAD.mul_f64(share));
        }
    }

    /// The token that the connection was let in with has run out. Says whether another may help, which
    /// is one that nobody has judged yet, or is to be asked for.
    pub(crate) fn demand(&mut self, now: Instant) -> bool {
        if self.is_untried {
            return true;
        }
        if self.source.is_none() {
            return false;
        }
        self.is_needed = true;
        let may_hurry = match self.stage {
            Stage::Idle | Stage::Sent(_) => true,
            // A source that has failed has its time, however urgent it is.
            Stage::Due(_) => self.failures == 0,
            Stage::Asking(_) => false,
        };
        if may_hurry {
            self.stage = Stage::Due(now);
        }
        true
    }

    /// The token that a connection was to be opened with has run out. Says whether another may help: not
    /// if that was one which had just been given.
    pub(crate) fn demand_to_open(&mut self, now: Instant) -> bool {
        let was_new = self.is_untried && self.is_shown;
        !was_new && self.demand(now)
    }

    pub(crate) fn is_needed(&self) -> bool {
        self.is_needed
    }

    /// Waits for another token, for ever while none is needed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Token, NoToken> {
        loop {
            match &mut self.stage {
                Stage::Idle | Stage::Sent(_) => return std::future::pending().await,
                Stage::Due(at) => {
                    sleep_until(*at).await;
                    let Some(source) = &self.source else { return std::future::pending().await };
                    self.stage = Stage::Asking((source.0)());
                }
                Stage::Asking(asking) => {
                    let asked = asking.as_mut().await;
                    match &asked {
                        Ok(_) => self.given(None),
                        Err(_) => self.fail(Instant::now()),
                    }
                    return asked;
                }
            }
        }
    }

    /// There is another token, sent with this request unless there is no connection.
    pub(crate) fn given(&mut self, request: Option<RequestId>) {
        self.stage = request.map_or(Stage::Idle, Stage::Sent);
        (self.is_needed, self.is_untried, self.is_shown) = (false, true, false);
    }

    /// A connection is being opened with the newest token.
    pub(crate) fn shown(&mut self) {
        self.is_shown = true;
    }

    /// The server has taken the token of this request; says whether one was sent with it.
    pub(crate) fn taken(&mut self, request: RequestId) -> bool {
        let is_ours = self.is_answer(request);
        if is_ours {
            self.stage = Stage::Idle;
            self.accepted();
        }
        is_ours
    }

    /// The server has refused the token of this request; says whether one was sent with it. A token that
    /// `may_hold` was not judged, and may be good elsewhere.
    pub(crate) fn refused(&mut self, request: RequestId, may_hold: bool, now: Instant) -> bool {
        let is_ours = self.is_answer(request);
        if is_ours {
            self.stage = Stage::Idle;
            self.is_untried &= may_hold;
            if self.source.is_some() {
                self.fail(now);
            }
        }
        is_ours
    }

    /// The token that was shown has let the client in. What was sent over another connection is not answered
    /// any more. Says whether that token was the newest.
    pub(crate) fn let_in(&mut self) -> bool {
        if matches!(self.stage, Stage::Sent(_)) {
            self.stage = Stage::Idle;
        }
        if self.is_shown {
            self.accepted();
        }
        self.is_shown
    }

    fn accepted(&mut self) {
        (self.failures, self.is_needed, self.is_untried) = (0, false, false);
    }

    fn is_answer(&self, request: RequestId) -> bool {
        matches!(self.stage, Stage::Sent(sent) if sent == request)
    }

    fn fail(&mut self, now: Instant) {
        let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        self.stage = Stage::Due(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_that_has_failed_is_given_its_time_whatever_runs_out_meanwhile() {
        let mut renewal = Renewal::new(Some(Renew::new(async || Err("there is none".into()))));
        let began = Instant::now();
        renewal.demand(began);
        renewal.next().await.expect_err("there is none");

        assert!(renewal.demand(began), "another may help");

        assert!(matches!(renewal.stage, Stage::Due(at) if at >= began + FIRST));
    }

    #[test]
    fn a_new_token_is_tried_once_by_opening_a_connection_with_it() {
        let mut renewal = Renewal::new(None);
        let now = Instant::now();
        renewal.shown();
        renewal.given(None);

        assert!(renewal.demand_to_open(now), "that was the one before");
        renewal.shown();
        assert!(!renewal.demand_to_open(now));
    }
}
