use std::time::Duration;

use tidewire_node::SESSION_RENEWAL;

use crate::EdgeConfig;
use crate::edge::unix_seconds;
use crate::wheel::Tick;

/// When a connection has something to do without being told: one moment per kind of alarm.
#[derive(Debug)]
pub(crate) struct Alarms {
    at: [Tick; Alarm::COUNT],
    /// Which of them are set, a bit each.
    set: u16,
    /// The earliest moment at which the wheel looks at this connection.
    scheduled: Option<Tick>,
    /// The earliest of its looks after that.
    scheduled_next: Option<Tick>,
}

/// What a connection does by the clock. Of those that are due, the first here rings first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Alarm {
    /// Write the session to the store.
    Save,
    /// The credential is about to expire.
    Expiring,
    Expired,
    /// The client has not read what was sent to it: it is slow, and the second time too slow.
    Stalled,
    /// The window of a client that was asked to move has passed.
    WindowPassed,
    Ping,
    /// Keep the session for another while.
    Renew,
    /// The client has had its time: for its first frame, or for its goodbye.
    Overdue,
    /// A token of one channel has run out.
    GrantOver,
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
/// Pings of many connections leave together, so that their answers, too, cost one wake-up and not as
/// many as there are connections.
const PING_STEP: Duration = Duration::from_millis(250);

impl Alarm {
    const ALL: [Self; 9] = [
        Self::Save,
        Self::Expiring,
        Self::Expired,
        Self::Stalled,
        Self::WindowPassed,
        Self::Ping,
        Self::Renew,
        Self::Overdue,
        Self::GrantOver,
    ];
    const COUNT: usize = Self::ALL.len();

    fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl Alarms {
    pub(crate) fn new(now: Tick) -> Self {
        Self { at: [now; Alarm::COUNT], set: 0, scheduled: None, scheduled_next: None }
    }

    /// Begins what a client with a session is due.
    pub(crate) fn start(&mut self, now: Tick, config: &EdgeConfig) {
        self.clear(Alarm::Overdue);
        // At random in the first interval, or clients that came together are pinged together.
        self.set(Alarm::Ping, now.after(share_of(config.ping_interval)).aligned(PING_STEP));
        self.set(Alarm::Renew, now.after(RENEW_EVERY + share_of(RENEW_EVERY / 2)));
    }

    /// Ends everything but a goodbye's patience.
    pub(crate) fn end(&mut self) {
        self.set = 0;
    }

    pub(crate) fn set(&mut self, alarm: Alarm, at: Tick) {
        self.at[alarm as usize] = at;
        self.set |= alarm.bit();
    }

    pub(crate) fn clear(&mut self, alarm: Alarm) {
        self.set &= !alarm.bit();
    }

    pub(crate) fn is_set(&self, alarm: Alarm) -> bool {
        self.set & alarm.bit() != 0
    }

    /// Takes an alarm that is due; one that recurs is set again.
    pub(crate) fn take(&mut self, now: Tick, config: &EdgeConfig) -> Option<Alarm> {
        let alarm = Alarm::ALL
            .into_iter()
            .find(|alarm| self.is_set(*alarm) && self.at[*alarm as usize].is_due(now))?;
        match alarm {
            Alarm::Ping => self.set(alarm, now.after(config.ping_interval).aligned(PING_STEP)),
            Alarm::Renew => self.set(alarm, now.after(RENEW_EVERY)),
            _ => self.clear(alarm),
        }
        Some(alarm)
    }

    /// When the wheel has to look, if it would not look early enough by itself.
    pub(crate) fn schedule(&mut self) -> Option<Tick> {
        let set = Alarm::ALL.into_iter().filter(|alarm| self.is_set(*alarm));
        let next = set.map(|alarm| self.at[alarm as usize]).reduce(Tick::earlier)?;
        if self.scheduled.is_some_and(|scheduled| scheduled.is_due(next)) {
            return None;
        }
        let replaced = self.scheduled.replace(next);
        self.scheduled_next = match (replaced, self.scheduled_next) {
            (Some(replaced), Some(after)) => Some(replaced.earlier(after)),
            (replaced, after) => replaced.or(after),
        };
        Some(next)
    }

    /// The wheel has looked. If that was for an alarm that was set later and rang earlier than
    /// another, the other look is still to come, and no third is needed.
    pub(crate) fn looked(&mut self, now: Tick) {
        if self.scheduled.is_some_and(|scheduled| scheduled.is_due(now)) {
            self.scheduled = self.scheduled_next.take().filter(|next| !next.is_due(now));
        }
    }

    pub(crate) fn save_soon(&mut self, now: Tick) {
        self.save_in(now, SAVE_DELAY);
    }

    pub(crate) fn save_later(&mut self, now: Tick) {
        self.save_in(now, SAVE_RETRY);
    }

    fn save_in(&mut self, now: Tick, delay: Duration) {
        if !self.is_set(Alarm::Save) {
            self.set(Alarm::Save, now.after(delay));
        }
    }

    /// Whether a write of the session is due; if so, the caller makes it now.
    pub(crate) fn take_save(&mut self) -> bool {
        let is_due = self.is_set(Alarm::Save);
        self.clear(Alarm::Save);
        is_due
    }

    /// Sets when the credential expires, in seconds since the Unix epoch.
    pub(crate) fn expire_at(&mut self, now: Tick, expires_at: Option<u64>, config: &EdgeConfig) {
        self.clear(Alarm::Expiring);
        self.clear(Alarm::Expired);
        let Some(left) = expires_at.map(|at| at.saturating_sub(unix_seconds())) else { return };
        let left = Duration::from_secs(left);
        // Or a client whose tokens are short would be told at once each time.
        let notice = config.expiry_notice.min(left / 2);
        self.set(Alarm::Expiring, now.after(left.saturating_sub(notice)));
        self.set(Alarm::Expired, now.after(left));
    }

    /// Sets when the first token of one channel runs out, in seconds since the Unix epoch.
    pub(crate) fn grants_end_at(&mut self, now: Tick, until: Option<u64>) {
        match until {
            Some(until) => {
                let left = Duration::from_secs(until.saturating_sub(unix_seconds()));
                self.set(Alarm::GrantOver, now.after(left));
            }
            None => self.clear(Alarm::GrantOver),
        }
    }

    /// Starts the time a client has to read what was sent to it, unless it is running.
    pub(crate) fn stall(&mut self, now: Tick, config: &EdgeConfig) {
        if !self.is_set(Alarm::Stalled) {
            self.set(Alarm::Stalled, now.after(config.slow_after.min(config.write_timeout)));
        }
    }

    /// How long ago that was; `is_slow` if it has been taken for slow since.
    pub(crate) fn stalled_for(
        &self,
        is_slow: bool,
        now: Tick,
        config: &EdgeConfig,
    ) -> Option<Duration> {
        let (slow_after, most) = (config.slow_after, config.write_timeout);
        let whole = if is_slow { most } else { slow_after.min(most) };
        let left = self.at[Alarm::Stalled as usize].since(now);
        self.is_set(Alarm::Stalled).then(|| whole.saturating_sub(left))
    }

    /// Whether the client has been asked to move.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_set(Alarm::WindowPassed)
    }
}

/// A random share of `whole`.
pub(super) fn share_of(whole: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or_default();
    whole.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::wheel::Wheel;

    #[test]
    fn an_alarm_that_rings_before_another_leaves_the_wheel_as_it_was() {
        let start = Wheel::new(Instant::now()).tick(Instant::now());
        let config = EdgeConfig::default();
        let after = |millis| start.after(Duration::from_millis(millis));
        let mut alarms = Alarms::new(start);
        alarms.set(Alarm::Ping, after(20_000));
        let mut entries: Vec<_> = alarms.schedule().into_iter().collect();

        for round in 0..100 {
            let now = after(round * 500);
            alarms.save_soon(now);
            entries.extend(alarms.schedule());
            let later = now.after(SAVE_DELAY);
            entries.retain(|entry| {
                let is_due = entry.is_due(later);
                if is_due {
                    alarms.looked(later);
                }
                !is_due
            });
            while alarms.take(later, &config).is_some() {}
            entries.extend(alarms.schedule());
        }

        assert!(entries.len() <= 3, "{} looks for one connection", entries.len());
    }
}
