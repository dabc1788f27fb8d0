//! The engine of several nodes under faults drawn from a seed, judged against what the log truly
//! did.
//!
//! [`Plan::draw`] makes everything of a seed; [`play`] runs it, on a paused clock in one thread, so
//! that a plan has one [`Outcome`], to the letter. [`shrink`] leaves out the faults that an
//! objection does not need.

mod dice;
mod faults;
mod fleet;
mod gate;
mod invariant;
mod log;
mod outcome;
mod ownership;
mod plan;
mod publisher;
mod redis;
mod rivals;
mod shrink;
mod subscriber;
mod trace;
mod truth;
mod weather;
mod wire;
mod witness;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use invariant::{Invariant, Objection};
pub use outcome::{Counts, Outcome};
pub use plan::Plan;
pub use redis::{Command, Keyspace, Reply};
pub use shrink::shrink;

use crate::world::World;

/// Runs a plan; `keeps_trace` has the outcome hold everything that happened.
pub fn play(plan: &Plan, keeps_trace: bool) -> Outcome {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async { World::new(plan, keeps_trace).run(plan).await })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
        Outcome {
            objections: vec![Objection::new(Invariant::Composure, text)],
            story: String::new(),
            digest: 0,
            trace: String::new(),
            counts: Counts { runs: 1, ..Counts::default() },
        }
    })
}
