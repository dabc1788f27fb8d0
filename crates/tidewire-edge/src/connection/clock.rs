use std::time::Duration;

use tidewire_node::SESSION_RENEWAL;
use tokio::time::{Instant, sleep_until};

use crate::EdgeConfig;
use crate::edge::unix_seconds;

/// When a connection has something to do without being told.
///
/// One deadline per kind of alarm; the loop sleeps until the next.
#[derive(Debug)]
pub(crate) struct Clock {
    ping_interval: Duration,
    at: [Option<Instant>; Alarm::COUNT],
}

/// What a connection does by the clock. Of two that are due, the first here rings first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Alarm {
    /// Write the session to the store.
    Save,
    /// The credential is about to expire.
    Expiring,
    Expired,
    /// The client has not read what was sent to it.
    Stalled,
    /// The window of a client that was asked to move has passed.
    WindowPassed,
    Ping,
    /// Keep the session for another while.
    Renew,
}

/// How long the peer has to answer a goodbye.
pub(crate) const GOODBYE: Duration = Duration::from_secs(5);
/// How long publications under way may hold up a goodbye.
pub(crate) const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Subscriptions change in bursts; one write covers them.
const SAVE_DELAY: Duration = Duration::from_millis(250);
const SAVE_RETRY: Duration = Duration::from_secs(2);
/// With half of it added at random, to spread the writes, still within what a session is kept for.
const RENEW_EVERY: Duration = Duration::from_secs(SESSION_RENEWAL.as_secs() * 5 / 8);
/// How long before its credential expires a client is told.
const NOTICE_SECONDS: u64 = 60;

impl Alarm {
    const ALL: [Self; 7] = [
        Self::Save,
        Self::Expiring,
        Self::Expired,
        Self::Stalled,
        Self::WindowPassed,
        Self::Ping,
        Self::Renew,
    ];
    const COUNT: usize = Self::ALL.len();
}

impl Clock {
    pub(crate) fn new(config: &EdgeConfig, expires_at: Option<u64>) -> Self {
        let mut clock = Self { ping_interval: config.ping_interval, at: [None; Alarm::COUNT] };
        // At random in the first interval, or clients that came together are pinged together.
        clock.set(Alarm::Ping, Some(share_of(config.ping_interval)));
        clock.set(Alarm::Renew, Some(RENEW_EVERY + share_of(RENEW_EVERY / 2)));
        clock.expire_at(expires_at);
        clock
    }

    /// Waits for the next alarm and rearms it if it recurs.
    ///
    /// Cancel-safe: an alarm that was not returned rings again.
    pub(crate) async fn next(&mut self) -> Alarm {
        let due =
            Alarm::ALL.into_iter().filter_map(|alarm| Some((self.at[alarm as usize]?, alarm)));
        // The first of equals, so the order of `Alarm` decides.
        let Some((at, alarm)) = due.min_by_key(|(at, _)| *at) else {
            return std::future::pending().await;
        };
        sleep_until(at).await;
        self.set(
            alarm,
            match alarm {
                Alarm::Ping => Some(self.ping_interval),
                Alarm::Renew => Some(RENEW_EVERY),
                _ => None,
            },
        );
        alarm
    }

    fn set(&mut self, alarm: Alarm, delay: Option<Duration>) {
        self.at[alarm as usize] = delay.map(|delay| Instant::now() + delay);
    }

    fn is_set(&self, alarm: Alarm) -> bool {
        self.at[alarm as usize].is_some()
    }

    pub(crate) fn save_soon(&mut self) {
        if !self.is_set(Alarm::Save) {
            self.set(Alarm::Save, Some(SAVE_DELAY));
        }
    }

    pub(crate) fn save_later(&mut self) {
        if !self.is_set(Alarm::Save) {
            self.set(Alarm::Save, Some(SAVE_RETRY));
        }
    }

    /// Sets when the credential expires, in seconds since the Unix epoch.
    pub(crate) fn expire_at(&mut self, expires_at: Option<u64>) {
        let left = expires_at.map(|at| at.saturating_sub(unix_seconds()));
        let notice = left.map(|left| left.saturating_sub(NOTICE_SECONDS));
        self.set(Alarm::Expiring, notice.map(Duration::from_secs));
        self.set(Alarm::Expired, left.map(Duration::from_secs));
    }

    /// Starts, or with `None` ends, the time a client has to read what was sent to it.
    pub(crate) fn stall(&mut self, patience: Option<Duration>) {
        if patience.is_none() || !self.is_set(Alarm::Stalled) {
            self.set(Alarm::Stalled, patience);
        }
    }

    /// Whether a write of the session is due; if so, the caller makes it now.
    pub(crate) fn take_save(&mut self) -> bool {
        self.at[Alarm::Save as usize].take().is_some()
    }

    /// Whether the client has been asked to move.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_set(Alarm::WindowPassed)
    }

    pub(crate) fn leave_in(&mut self, delay: Duration) {
        self.set(Alarm::WindowPassed, Some(delay));
    }
}

/// A random share of `whole`.
fn share_of(whole: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or_default();
    whole.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
