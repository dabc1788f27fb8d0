//! A command as a list of named, timed steps. The first that fails ends it.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::tally::Tally;

/// The steps run so far, with the tests they reported.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration)>,
    tally: Tally,
}

impl Steps {
    /// Runs one step, prints its name before and its duration after.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        step: impl FnOnce(&mut Tally) -> Result<()>,
    ) -> Result<()> {
        println!("\n==> {name}");
        let (outcome, took) = timed(|| step(&mut self.tally));
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("<== {name}: {verdict} in {:.1} s", took.as_secs_f64());
        self.done.push((name, took));
        outcome.with_context(|| format!("step `{name}` failed"))
    }

    /// Prints what took how long.
    pub(crate) fn show_durations(&self) {
        println!();
        for (name, took) in &self.done {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:>8.1} s  in all", total.as_secs_f64());
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a duration shown to a person, in a program with no runtime and no tests of time"
)]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let value = work();
    (value, start.elapsed())
}
