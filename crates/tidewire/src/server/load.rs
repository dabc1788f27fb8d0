//! What this process has to do, for its lease.

use std::time::Duration;

use tidewire_edge::EdgeLoad;
use tidewire_store::NodeLoad;
use tokio::time::Instant;

/// Measures the load of this process from one look to the next.
pub(super) struct Meter {
    looked_at: Instant,
    /// Time of processors used until then; `None` where the system does not tell.
    used: Option<Duration>,
    cost: ResumeCost,
    load: NodeLoad,
    /// Resumptions since the last look that counted.
    resumed: u64,
}

/// Between two looks closer than this the processor time, which is told in hundredths of a second,
/// means little.
const SHORTEST_LOOK: Duration = Duration::from_millis(500);

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            looked_at: now,
            used: processor_time(),
            cost: ResumeCost::default(),
            load: NodeLoad::default(),
            resumed: 0,
        }
    }

    /// The load since the last look; that of the last look if it was a moment ago.
    ///
    /// It is the process's own and not the machine's: others on the machine show in how long
    /// arrivals wait.
    pub(super) fn look(&mut self, now: Instant, edge: EdgeLoad) -> NodeLoad {
        self.resumed += edge.resumed;
        self.load.accept_p99_ms = edge.accept_p99_ms;
        self.load.resume_p99_ms = edge.resume_p99_ms;
        let lasted = now - self.looked_at;
        if lasted < SHORTEST_LOOK {
            return self.load;
        }
        let used = processor_time();
        if let (Some(used), Some(before)) = (used, self.used) {
            self.learn(used.saturating_sub(before), lasted);
        }
        (self.looked_at, self.used) = (now, used);
        self.load
    }

    fn learn(&mut self, used: Duration, lasted: Duration) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores_milli = u32::try_from(cores * 1_000).unwrap_or(u32::MAX);
        let available = lasted.as_micros() * u128::from(cores_milli) / 1_000;
        let permille = used.as_micros() * 1_000 / available.max(1);
        self.cost.learn(used, std::mem::take(&mut self.resumed), lasted);
        self.load.cores_milli = cores_milli;
        self.load.cpu_permille = u16::try_from(permille.min(1_000)).expect("at most 1,000");
        self.load.resume_us = self.cost.micros();
    }
}

/// What one resumption costs, learned from what the process uses with and without them.
#[derive(Debug)]
struct ResumeCost {
    /// Microseconds of processor per second when hardly anybody resumes.
    quiet: Option<f64>,
    micros: f64,
}

/// Microseconds, measured once; what is measured here replaces it.
const USUAL_COST: f64 = 1_200.0;
const LEAST_COST: f64 = 100.0;
const MOST_COST: f64 = 10_000.0;
/// Fewer resumptions per second are nothing beside everything else.
const FEW: f64 = 5.0;
/// So many can be told from everything else.
const MANY: f64 = 20.0;

impl Default for ResumeCost {
    fn default() -> Self {
        Self { quiet: None, micros: USUAL_COST }
    }
}

impl ResumeCost {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn learn(&mut self, used: Duration, resumed: u64, lasted: Duration) {
        let seconds = lasted.as_secs_f64();
        let used = used.as_secs_f64() * 1e6 / seconds;
        let resumed = resumed as f64 / seconds;
        if resumed < FEW {
            let quiet = self.quiet.unwrap_or(used);
            self.quiet = Some(quiet + (used - quiet) / 4.0);
        } else if resumed >= MANY {
            let cost = (used - self.quiet.unwrap_or(0.0)) / resumed;
            self.micros += (cost.clamp(LEAST_COST, MOST_COST) - self.micros) / 2.0;
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between LEAST_COST and MOST_COST"
    )]
    fn micros(&self) -> u32 {
        self.micros.round() as u32
    }
}

/// Time of processors this process has used, in user and in kernel mode.
fn processor_time() -> Option<Duration> {
    parse_processor_time(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// Linux tells programs of time in hundredths of a second, whatever it counts in itself.
const TICK: Duration = Duration::from_millis(10);

/// Fields 14 and 15 of `proc_pid_stat(5)`, counted behind the name, which may hold anything.
fn parse_processor_time(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut ticks = behind_name.split_ascii_whitespace().skip(11);
    let mut next = || ticks.next()?.parse::<u32>().ok();
    Some(TICK * next()?.saturating_add(next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn learned(seconds: &[(u64, u64)]) -> u32 {
        let mut cost = ResumeCost::default();
        for (used_ms, resumed) in seconds {
            cost.learn(Duration::from_millis(*used_ms), *resumed, SECOND);
        }
        cost.micros()
    }

    #[test]
    fn the_cost_of_a_resumption_is_what_the_process_uses_beyond_its_quiet_seconds() {
        let quiet = [(100, 0); 8];
        let busy = [(400, 1_000); 12];

        assert_eq!(learned(&quiet), 1_200);
        assert_eq!(learned(&[&quiet[..], &busy].concat()), 300);
        assert_eq!(learned(&[(100, 0), (9_000, 10)]), 1_200, "too few to tell");
        assert_eq!(learned(&[&quiet[..], &[(0, 1_000); 20]].concat()), 100, "never nothing");
        assert_eq!(learned(&[&quiet[..], &[(60_000, 20); 20]].concat()), 10_000);
    }

    #[test]
    fn processor_time_is_read_past_a_name_that_looks_like_more() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 1";

        assert_eq!(parse_processor_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse_processor_time("7 (a) S 1"), None);
        assert_eq!(parse_processor_time(""), None);
    }

    #[test]
    fn this_process_has_used_some_time_and_not_more_than_it_may() {
        let start = Instant::now();
        let mut meter = Meter { used: Some(Duration::ZERO), ..Meter::new(start) };

        let load = meter.look(start + SECOND, EdgeLoad { accept_p99_ms: 8, ..EdgeLoad::default() });

        assert!(load.cores_milli >= 1_000, "{load:?}");
        assert!(load.cpu_permille <= 1_000, "{load:?}");
        assert_eq!((load.resume_us, load.accept_p99_ms), (1_200, 8), "{load:?}");
    }

    #[test]
    fn a_look_right_after_another_keeps_what_that_has_found() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let found = meter.look(start + SECOND, EdgeLoad::default());

        let again = meter.look(start + SECOND, EdgeLoad { resumed: 7, ..EdgeLoad::default() });

        assert_eq!(again, found);
        assert_eq!(meter.resumed, 7, "they count at the next");
    }
}
