//! What a connection has used of its rates, and what happens to one that does not heed them.

use std::time::Duration;

use tidewire_model::{
    Bucket, Command, ErrorCode, Failure, Limit, Pace, Request, TenantLimits, Turns,
};
use tidewire_protocol::Decoded;

use crate::tenancy::Spent;

/// What a connection that asks something has, until all it took has been earned again.
#[derive(Debug, Default)]
pub(super) struct Toll {
    publications: Turns,
    bytes: Bucket,
    commands: Turns,
    controls: Bucket,
    /// Why publications are refused, if it is for all of the tenant's together.
    spent: Option<Spent>,
    conduct: Conduct,
    /// Nothing is read from it.
    pub(super) is_paused: bool,
}

/// Bytes of a command that are its own, beside a payload and as much again for its escapes.
const COMMAND_BYTES: usize = 1_024;
/// Pings of a connection, and pongs that nobody asked for.
const CONTROLS: Pace = Pace { per_second: 10, burst: 64 };
/// How much worse it is to send too many of these than to go on being refused: nobody does by mistake.
const CONTROL_STRIKES: u32 = 3;

/// Why a command is not taken.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) limit: Limit,
    pub(super) failure: Failure,
    pub(super) consequence: Consequence,
}

/// What becomes of a connection whose command was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Consequence {
    None,
    /// It is not read for so long.
    Paused(Duration),
    Disconnected,
}

impl Toll {
    /// Charges for a command, at `now`, which is counted from any moment that stays the same.
    ///
    /// # Errors
    ///
    /// If the connection has used up its rate.
    pub(super) fn charge(
        &mut self,
        command: &Command,
        limits: &TenantLimits,
        now: Duration,
    ) -> Result<(), Refused> {
        let (limit, pace, verdict) = match command {
            Command::Publish(publish) => {
                if let Some(spent) = self.spent.filter(|_| self.publications.is_refusing(now)) {
                    return Err(self.refuse_for_all(spent, limits, now));
                }
                self.spent = None;
                let bytes = u32::try_from(publish.payload.len()).unwrap_or(u32::MAX);
                self.charge_publication(bytes, limits, now)
            }
            _ => self.charge_command(limits, now),
        };
        verdict.map_err(|wait| Refused {
            limit,
            failure: failure(limit, pace, wait),
            consequence: self.conduct.refused(now),
        })
    }

    /// Refuses a publication that is more than the tenant may have; `spent.wait` is what it takes at
    /// least. That is not this client's fault.
    pub(super) fn refuse_for_all(
        &mut self,
        spent: Spent,
        limits: &TenantLimits,
        now: Duration,
    ) -> Refused {
        self.spent = Some(spent);
        let wait = self.publications.refuse(limits.connection_publish, spent.wait, now);
        Refused { limit: spent.limit, failure: spent.failure(wait), consequence: Consequence::None }
    }

    fn charge_publication(
        &mut self,
        bytes: u32,
        limits: &TenantLimits,
        now: Duration,
    ) -> (Limit, Pace, Result<(), Duration>) {
        let (pace, bytes_pace) = (limits.connection_publish, limits.connection_publish_bytes);
        let publications = &mut self.publications;
        let limit = Limit::ConnectionPublishRate;
        if publications.is_refusing(now) {
            return (limit, pace, Err(publications.refuse(pace, Duration::ZERO, now)));
        }
        let before = self.bytes;
        if let Err(wait) = self.bytes.take(bytes_pace, bytes, now) {
            let wait = publications.refuse(pace, wait, now);
            return (Limit::ConnectionPublishBytes, bytes_pace, Err(wait));
        }
        let verdict = publications.take(pace, now);
        if verdict.is_err() {
            self.bytes = before;
        }
        (limit, pace, verdict)
    }

    fn charge_command(
        &mut self,
        limits: &TenantLimits,
        now: Duration,
    ) -> (Limit, Pace, Result<(), Duration>) {
        let (pace, bytes_pace) = (limits.connection_commands, limits.connection_publish_bytes);
        let wait = self.bytes.wait_for(bytes_pace, 0, now);
        if wait > Duration::ZERO {
            let wait = self.commands.refuse(pace, wait, now);
            return (Limit::ConnectionPublishBytes, bytes_pace, Err(wait));
        }
        (Limit::ConnectionCommandRate, pace, self.commands.take(pace, now))
    }

    /// Charges for what of a message is neither payload nor what surrounds one: blanks by the
    /// megabyte cost little to send, compressed, and much to read.
    pub(super) fn charge_padding(
        &mut self,
        message: usize,
        decoded: &[Decoded],
        limits: &TenantLimits,
        now: Duration,
    ) {
        let reasonable = decoded.iter().map(|one| match one {
            Decoded::Request(Request { command: Command::Publish(publish), .. }) => {
                COMMAND_BYTES + 2 * publish.payload.len()
            }
            Decoded::Request(_) | Decoded::Refused { .. } => COMMAND_BYTES,
        });
        let padding = message.saturating_sub(reasonable.sum());
        if padding > 0 {
            let padding = u32::try_from(padding).unwrap_or(u32::MAX);
            self.bytes.owe(limits.connection_publish_bytes, padding, now);
        }
    }

    /// Charges for pings, and for pongs that nobody asked for.
    ///
    /// # Errors
    ///
    /// If the connection sends too many.
    pub(super) fn charge_controls(&mut self, count: u32, now: Duration) -> Result<(), Consequence> {
        let taken = self.controls.take(CONTROLS, count, now);
        taken.map_err(|_| self.conduct.strike(CONTROL_STRIKES, now))
    }

    /// Whether it says no more than that nothing is owed.
    pub(super) fn is_clear(&self, now: Duration) -> bool {
        !self.is_paused
            && [&self.publications, &self.commands].iter().all(|turns| turns.is_clear(now))
            && [self.bytes, self.controls].iter().all(|taken| taken.is_full(now))
            && self.conduct.is_clear(now)
    }
}

/// Counts refusals, to tell a client that goes on regardless from one that is a little too fast.
#[derive(Debug, Default)]
struct Conduct {
    /// When the second began in which refusals are counted.
    since: Duration,
    refused: u32,
    strikes: u32,
    struck_at: Duration,
}

/// Seconds with too many refusals after which a connection is paused, and after which it is ended.
const STRIKES_TO_PAUSE: u32 = 3;
const STRIKES_TO_END: u32 = 30;
/// Refusals in a second that are too many. One who waits as long as it is told has fewer.
const TOO_MANY: u32 = 200;
const SECOND: Duration = Duration::from_secs(1);

impl Conduct {
    fn refused(&mut self, now: Duration) -> Consequence {
        if now >= self.since + SECOND {
            self.since = now;
            self.refused = 0;
        }
        self.refused += 1;
        if self.refused != TOO_MANY {
            return Consequence::None;
        }
        self.strike(1, now)
    }

    fn strike(&mut self, strikes: u32, now: Duration) -> Consequence {
        // A pause does not take a strike away, and neither does a second of rest beside it.
        let rested = now.saturating_sub(self.struck_at).as_secs() / 2;
        self.strikes = self.strikes.saturating_sub(u32::try_from(rested).unwrap_or(u32::MAX));
        self.strikes += strikes;
        self.struck_at = now;
        match self.strikes {
            STRIKES_TO_END.. => Consequence::Disconnected,
            STRIKES_TO_PAUSE.. => Consequence::Paused(SECOND),
            _ => Consequence::None,
        }
    }

    fn is_clear(&self, now: Duration) -> bool {
        let rest = SECOND * 2 * self.strikes;
        (self.refused == 0 || now >= self.since + SECOND)
            && (self.strikes == 0 || now >= self.struck_at + rest)
    }
}

fn failure(limit: Limit, pace: Pace, wait: Duration) -> Failure {
    let (most, wait_ms) = (pace.per_second, wait.as_millis().max(1));
    let what = match limit {
        Limit::ConnectionPublishBytes => format!("publish {most} bytes a second"),
        Limit::ConnectionPublishRate => format!("publish {most} times a second"),
        _ => format!("send {most} commands a second beside publications"),
    };
    let message = format!("a connection may {what}: again in {wait_ms} ms");
    Failure::new(ErrorCode::RateExceeded, message).retry_after(wait).exceeding(limit, most.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TenantLimits = TenantLimits {
        connection_publish: Pace { per_second: 50, burst: 100 },
        connection_commands: Pace { per_second: 2, burst: 2 },
        ..TenantLimits::GENEROUS
    };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn publish() -> Command {
        let channel = tidewire_model::Channel::parse("room/1").expect("channel");
        let payload = tidewire_model::Payload::binary(vec![7; 10].into());
        Command::Publish(tidewire_model::Publish { channel, id: None, payload })
    }

    /// Publishes `count` times at a moment; says how many passed, and when the others may.
    fn publish_many(toll: &mut Toll, count: usize, now: Duration) -> (usize, Vec<Duration>) {
        let verdicts = (0..count).map(|_| toll.charge(&publish(), &LIMITS, now));
        let refused: Vec<_> =
            verdicts.filter_map(|verdict| verdict.err()?.failure.retry_after).collect();
        (count - refused.len(), refused)
    }

    #[test]
    fn what_follows_a_refused_publication_does_not_overtake_it() {
        let mut toll = Toll::default();
        assert_eq!(publish_many(&mut toll, 101, at(0)), (100, vec![at(100)]));

        assert_eq!(publish_many(&mut toll, 1, at(60)).0, 0, "there is one, but not for this one");
        assert_eq!(publish_many(&mut toll, 1, at(100)).0, 1);
    }

    #[test]
    fn those_that_are_refused_together_are_told_to_come_back_one_by_one() {
        let mut toll = Toll::default();

        let (_, again_in) = publish_many(&mut toll, 104, at(0));

        assert_eq!(again_in, [at(100), at(120), at(140), at(160)]);
    }

    #[test]
    fn a_client_that_comes_back_when_told_gets_its_rate_and_no_strike() {
        let mut toll = Toll::default();
        let mut due: Vec<_> = (0..1_000).map(|_| at(0)).collect();
        let (mut taken, mut now) = (0, at(0));
        while now < at(10_000) {
            due.sort();
            let ready = due.iter().take_while(|moment| **moment <= now).count();
            for _ in due.drain(..ready).collect::<Vec<_>>() {
                match toll.charge(&publish(), &LIMITS, now) {
                    Ok(()) => taken += 1,
                    Err(refused) => {
                        due.push(now + refused.failure.retry_after.expect("a time"));
                    }
                }
            }
            now += at(10);
        }

        assert!((550..=600).contains(&taken), "{taken}");
        assert!(toll.conduct.strikes < STRIKES_TO_PAUSE, "{:?}", toll.conduct);
    }

    #[test]
    fn what_follows_a_publication_that_was_too_much_for_the_tenant_names_its_limit_and_is_no_strike()
     {
        let mut toll = Toll::default();
        let spent = Spent { limit: Limit::TenantPublishRate, value: 7, wait: at(300) };
        toll.refuse_for_all(spent, &LIMITS, at(0));

        for _ in 0..2 * TOO_MANY {
            let refused = toll.charge(&publish(), &LIMITS, at(299)).expect_err("not yet");
            assert_eq!((refused.limit, refused.consequence), (spent.limit, Consequence::None));
        }
        assert!(toll.charge(&publish(), &LIMITS, at(300)).is_ok());
        assert_eq!(toll.conduct.strikes, 0);
    }

    #[test]
    fn commands_and_publications_have_rates_of_their_own() {
        let mut toll = Toll::default();
        publish_many(&mut toll, 101, at(0));

        let verdicts: Vec<_> =
            (0..3).map(|_| toll.charge(&Command::Ping, &LIMITS, at(0))).collect();

        assert!(verdicts[0].is_ok() && verdicts[1].is_ok());
        let refused = verdicts[2].as_ref().expect_err("a third");
        assert_eq!(refused.limit, Limit::ConnectionCommandRate);
        let message =
            "a connection may send 2 commands a second beside publications: again in 500 ms";
        assert_eq!(refused.failure.message, message);
    }

    #[test]
    fn bytes_count_too() {
        let limits = TenantLimits {
            connection_publish_bytes: Pace { per_second: 10, burst: 20 },
            ..TenantLimits::GENEROUS
        };
        let mut toll = Toll::default();
        for _ in 0..2 {
            assert!(toll.charge(&publish(), &limits, at(0)).is_ok());
        }

        let refused = toll.charge(&publish(), &limits, at(0)).expect_err("a third");

        assert_eq!(refused.limit, Limit::ConnectionPublishBytes);
        assert_eq!(refused.failure.retry_after, Some(at(1_000)));
        assert!(toll.charge(&publish(), &limits, at(1_000)).is_ok());
    }

    #[test]
    fn whoever_goes_on_regardless_is_paused_and_then_disconnected() {
        let mut toll = Toll::default();
        let mut consequences = Vec::new();
        for second in 0..40 {
            for _ in 0..1_000 {
                let verdict = toll.charge(&publish(), &LIMITS, at(second * 1_000));
                consequences.extend(verdict.err().map(|refused| refused.consequence));
            }
        }

        consequences.retain(|consequence| *consequence != Consequence::None);
        assert_eq!(consequences[..27], [Consequence::Paused(SECOND); 27]);
        assert_eq!(consequences[27], Consequence::Disconnected);
    }

    #[test]
    fn whoever_pings_without_end_is_paused_at_once_and_soon_disconnected() {
        let mut toll = Toll::default();
        let mut consequences = (0..20).map(|second| {
            // It goes on when it is read again.
            loop {
                if let Err(consequence) = toll.charge_controls(32, at(second * 1_000)) {
                    break consequence;
                }
            }
        });

        assert_eq!(consequences.next(), Some(Consequence::Paused(SECOND)));
        let end = consequences.position(|one| one == Consequence::Disconnected);
        assert!(end.is_some_and(|seconds| seconds < 12), "{end:?}");
    }

    #[test]
    fn some_pings_are_nobodys_fault() {
        let mut toll = Toll::default();
        assert_eq!(toll.charge_controls(50, at(0)), Ok(()));
        for second in 1..100 {
            assert_eq!(toll.charge_controls(10, at(second * 1_000)), Ok(()));
        }

        assert!(toll.is_clear(at(110_000)));
    }

    #[test]
    fn nothing_is_kept_of_a_connection_that_rests() {
        let mut toll = Toll::default();
        publish_many(&mut toll, 1_000, at(0));

        assert!(!toll.is_clear(at(1_999)));
        assert!(toll.is_clear(at(2_000)));
        assert!(Toll::default().is_clear(at(0)));
    }
}
