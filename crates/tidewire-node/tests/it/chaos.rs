//! Runs of the whole engine under faults drawn from a seed, judged against what the log truly did.
//!
//! `TIDEWIRE_SEEDS` sets how many seeds are run, from 1 on. `TIDEWIRE_SEED` plays that one alone, as
//! often as `TIDEWIRE_SEEDS` says: a seed fixes all that is drawn, but tokio picks among branches
//! that are ready at once, and hash maps order themselves, by random numbers of their own.

mod dice;
mod faults;
mod log;
mod publisher;
mod subscriber;
mod truth;
mod weather;
mod wire;
mod witness;
mod worker;
mod world;

use std::ops::AddAssign;
use std::time::Duration;

use self::witness::Tally;
use self::world::{Outcome, World};

#[test]
fn whatever_fails_every_subscriber_sees_the_logs_order_or_is_told_what_it_missed() {
    let seeds = seeds();
    let mut sum = Sum::default();

    for &seed in &seeds {
        let outcome = play(seed);

        assert!(
            outcome.objections.is_empty(),
            "seed {seed}, after {} runs:\n{}\n{}",
            sum.runs,
            outcome.objections.join("\n"),
            outcome.story
        );
        sum += outcome;
    }

    println!("{sum:?}");
    assert!(!is_survey(&seeds) || sum.has_met_everything(), "{sum:?}");
}

const DEFAULT_SEEDS: usize = 200;

fn seeds() -> Vec<u64> {
    let text = |name: &str| std::env::var(name).ok();
    let count = text("TIDEWIRE_SEEDS").map(|text| text.parse().expect("a number of seeds"));
    let count = count.unwrap_or(DEFAULT_SEEDS);
    match text("TIDEWIRE_SEED") {
        Some(seed) => vec![seed.parse().expect("a seed"); count],
        None => (1..).take(count).collect(),
    }
}

/// Whether there are enough different seeds to have met everything there is.
fn is_survey(seeds: &[u64]) -> bool {
    seeds.len() >= DEFAULT_SEEDS && seeds.first() != seeds.last()
}

fn play(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async { World::new(seed).run().await })
}

/// What all runs together have met.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    stored: usize,
    lost: usize,
    duplicates: usize,
    tally: Tally,
    slowest: Duration,
}

impl Sum {
    /// A checker that never saw a rewind has not checked rewinds.
    fn has_met_everything(&self) -> bool {
        let Tally { publications, recovered, rewound, windows, resets, .. } = self.tally;
        let Tally { lagged, slow, late, asked, pages, doubles, .. } = self.tally;
        let counts = [publications, recovered, rewound, windows, resets];
        let more = [lagged, slow, late, asked, pages, doubles];
        let is_met = |count: &u64| *count > 0;
        self.lost > 0 && self.duplicates > 0 && counts.iter().chain(&more).all(is_met)
    }
}

impl AddAssign<Outcome> for Sum {
    fn add_assign(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.stored += outcome.stored;
        self.lost += outcome.lost;
        self.duplicates += outcome.duplicates;
        self.tally.add(outcome.tally);
        self.slowest = self.slowest.max(outcome.settled_after);
    }
}
