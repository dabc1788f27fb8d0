//! Runs that wait for more to come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidewire_model::{ChannelRules, Envelope, Reader};
use tokio::time::Instant;

use super::Run;

/// What gathers, of all tenants, by when it waits no longer.
#[derive(Debug)]
pub(super) struct Windows {
    /// As they were when the turn began.
    rules: Reader<ChannelRules>,
    runs: BTreeMap<Moment, Run>,
    begun: u64,
}

/// When a window ends, and what tells it from others that end then.
pub(super) type Moment = (Instant, u64);

impl Windows {
    pub(super) fn new(rules: Reader<ChannelRules>) -> Self {
        Self { rules, runs: BTreeMap::new(), begun: 0 }
    }

    /// Takes the rules as they are now.
    pub(super) fn begin_turn(&mut self) {
        self.rules.look();
    }

    /// Begins a run, which waits for more to come, or is given back if its channel's do not.
    pub(super) fn begin(&mut self, envelope: Arc<Envelope>, now: Instant) -> Result<Moment, Run> {
        let handing = self.rules.handing(&envelope.channel);
        let window = handing.sample.unwrap_or(handing.flush_window);
        let run = Run::new(envelope, handing);
        if window == Duration::ZERO {
            return Err(run);
        }
        self.begun += 1;
        let moment = (now + window, self.begun);
        self.runs.insert(moment, run);
        Ok(moment)
    }

    pub(super) fn run(&mut self, moment: Moment) -> Option<&mut Run> {
        self.runs.get_mut(&moment)
    }

    /// Ends a window early.
    pub(super) fn end(&mut self, moment: Moment) -> Option<Run> {
        self.runs.remove(&moment)
    }

    /// A run whose window has ended.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Run> {
        let first = self.runs.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next window ends.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.runs.first_key_value().map(|((at, _), _)| *at)
    }
}
