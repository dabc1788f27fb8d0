//! When a call is repeated.

use std::time::Duration;

use tidewire_model::Incarnation;
use tokio::time::{Instant, sleep};

use crate::error::CallError;
use crate::random;

/// What a fenced function is told in one of the tries of a call.
pub(crate) struct Try {
    pub(crate) seen: Incarnation,
    pub(crate) nonce: [u8; 8],
    pub(crate) raise: bool,
    /// How long ago the first try was sent whose reply was lost.
    pub(crate) unanswered_for: Option<Duration>,
}

/// The tries of one call.
pub(crate) struct Retrying {
    deadline: Instant,
    pause: Duration,
    unanswered_since: Option<Instant>,
    /// A server that is behind is looked up anew; only one that still is then may be raised.
    pub(crate) was_behind: bool,
    raise: bool,
    last: CallError,
}

impl Retrying {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            pause: Duration::from_millis(10),
            unanswered_since: None,
            was_behind: false,
            raise: false,
            last: CallError::Unsent("not tried yet".into()),
        }
    }

    pub(crate) fn next_try(&mut self, seen: Incarnation, now: Instant) -> Try {
        Try {
            seen,
            nonce: random::nonce(),
            raise: std::mem::take(&mut self.raise),
            unanswered_for: self.unanswered_since.map(|since| now - since),
        }
    }

    /// Decides whether a try that was sent at `started` and failed is followed by another.
    ///
    /// Once a reply was lost, no other failure settles the call: it may have happened already.
    pub(crate) fn after(&mut self, error: CallError, started: Instant) -> Result<(), CallError> {
        match error {
            CallError::Corrupt(_) => return Err(error),
            CallError::Unanswered(_) => {
                self.unanswered_since.get_or_insert(started);
            }
            CallError::Unsent(_) | CallError::Refused(_) if self.unanswered_since.is_none() => {
                return Err(error);
            }
            CallError::Unsent(_) | CallError::Refused(_) | CallError::Misplaced(_) => {}
        }
        self.last = error;
        Ok(())
    }

    /// Notes that what the server did under an old incarnation will be lost.
    pub(crate) fn overtaken(&mut self, started: Instant) {
        self.unanswered_since.get_or_insert(started);
        self.last = CallError::Unanswered(BEHIND.into());
    }

    /// Notes that the server was behind what has been seen, and whether the next one is to be
    /// raised above that.
    pub(crate) fn behind(&mut self, raise: bool) {
        self.was_behind = true;
        self.raise = raise;
        self.last = CallError::Misplaced(BEHIND.into());
    }

    /// Waits a little, longer each time; at the deadline, ends the call.
    pub(crate) async fn pause(&mut self) -> Result<(), CallError> {
        if Instant::now() + self.pause >= self.deadline {
            return Err(match (&self.last, self.unanswered_since) {
                (_, None) | (CallError::Unanswered(_), _) => self.last.clone(),
                (other, Some(_)) => CallError::Unanswered(other.to_string()),
            });
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

const BEHIND: &str = "redis is behind what has been seen of its log";

const LONGEST_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn retrying(budget: Duration) -> Retrying {
        Retrying::until(Instant::now() + budget)
    }

    fn unsent() -> CallError {
        CallError::Unsent("gone".into())
    }

    #[test]
    fn what_was_never_sent_is_not_repeated() {
        let mut retrying = retrying(Duration::from_secs(5));

        assert!(matches!(retrying.after(unsent(), Instant::now()), Err(CallError::Unsent(_))));
    }

    #[tokio::test]
    async fn once_a_reply_was_lost_the_end_is_that_nobody_knows() {
        let mut retrying = retrying(Duration::ZERO);
        let started = Instant::now();

        retrying.after(CallError::Unanswered("lost".into()), started).expect("is repeated");
        retrying.after(unsent(), started).expect("does not settle it");
        let end = retrying.pause().await;

        assert!(retrying.next_try(Incarnation::ZERO, started).unanswered_for.is_some());
        assert!(matches!(end, Err(CallError::Unanswered(_))), "{end:?}");
    }

    #[test]
    fn a_server_is_raised_in_one_try_only() {
        let mut retrying = retrying(Duration::from_secs(5));

        retrying.behind(true);
        let tries = [(); 2].map(|()| retrying.next_try(Incarnation::ZERO, Instant::now()).raise);

        assert_eq!(tries, [true, false]);
    }
}
