//! When a call is repeated.

use std::time::Duration;

use tidewire_model::{Incarnation, Random};
use tokio::time::{Instant, sleep};

use crate::error::CallError;
use crate::random;

/// What a fenced function is told in one of the tries of a call.
pub(crate) struct Try {
    pub(crate) seen: Incarnation,
    pub(crate) nonce: [u8; 8],
    pub(crate) raise: bool,
    /// Whether the reply to an earlier try was lost.
    pub(crate) may_have_happened: bool,
}

/// The tries of one call.
pub(crate) struct Retrying {
    deadline: Instant,
    pause: Duration,
    may_have_happened: bool,
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
            may_have_happened: false,
            was_behind: false,
            raise: false,
            last: CallError::Unsent("not tried yet".into()),
        }
    }

    pub(crate) fn next_try(&mut self, seen: Incarnation, random: &Random) -> Try {
        Try {
            seen,
            nonce: random::nonce(random),
            raise: std::mem::take(&mut self.raise),
            may_have_happened: self.may_have_happened,
        }
    }

    /// Decides whether a try that failed is followed by another.
    ///
    /// Once a reply was lost, no other failure settles the call: it may have happened already.
    pub(crate) fn after(&mut self, error: CallError) -> Result<(), CallError> {
        match error {
            CallError::Corrupt(_) => return Err(error),
            CallError::Unanswered(_) => self.may_have_happened = true,
            CallError::Unsent(_) | CallError::Refused(_) if !self.may_have_happened => {
                return Err(error);
            }
            CallError::Unsent(_) | CallError::Refused(_) | CallError::Misplaced(_) => {}
        }
        self.last = error;
        Ok(())
    }

    /// Notes that what the server did under an old incarnation will be lost.
    pub(crate) fn overtaken(&mut self) {
        self.may_have_happened = true;
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
            return Err(match &self.last {
                CallError::Unanswered(_) => self.last.clone(),
                other if self.may_have_happened => CallError::Unanswered(other.to_string()),
                other => other.clone(),
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

    fn random() -> Random {
        Random::new(|| 7)
    }

    fn unsent() -> CallError {
        CallError::Unsent("gone".into())
    }

    #[test]
    fn what_was_never_sent_is_not_repeated() {
        let mut retrying = retrying(Duration::from_secs(5));

        assert!(matches!(retrying.after(unsent()), Err(CallError::Unsent(_))));
    }

    #[tokio::test]
    async fn once_a_reply_was_lost_the_end_is_that_nobody_knows() {
        let mut retrying = retrying(Duration::ZERO);

        retrying.after(CallError::Unanswered("lost".into())).expect("is repeated");
        retrying.after(unsent()).expect("does not settle it");
        let end = retrying.pause().await;

        assert!(retrying.next_try(Incarnation::ZERO, &random()).may_have_happened);
        assert!(matches!(end, Err(CallError::Unanswered(_))), "{end:?}");
    }

    #[test]
    fn a_server_is_raised_in_one_try_only() {
        let mut retrying = retrying(Duration::from_secs(5));

        retrying.behind(true);
        let tries = [(); 2].map(|()| retrying.next_try(Incarnation::ZERO, &random()).raise);

        assert_eq!(tries, [true, false]);
    }
}
