//! How much memory is left, and what follows from it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tidewire_model::{ErrorCode, Failure, Limit};
use tokio::time::Duration;

use crate::door::come_back_after;
use crate::registry::Control;
use crate::{Edge, metrics};

/// How near a node is to the end of its memory. Each level has the effects of those before it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Pressure {
    #[default]
    Ease,
    /// Channels remember less.
    Tight,
    /// Nobody new is let in; whoever resumes is.
    Full,
    /// Nobody is let in, nothing more is subscribed to, and nothing is kept for who reads slowly.
    Scarce,
}

impl Pressure {
    /// From the least to the most.
    pub const ALL: [Self; 4] = [Self::Ease, Self::Tight, Self::Full, Self::Scarce];

    fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Scarce)
    }
}

/// What was last heard of the node's memory. Shared by all workers; nobody waits for anybody.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pressure: AtomicU8,
    /// Bytes there are for the node.
    limit: AtomicU64,
}

impl Memory {
    pub(crate) fn pressure(&self) -> Pressure {
        Pressure::of(self.pressure.load(Ordering::Relaxed))
    }

    /// Why somebody may not come in, if so. `is_back` tells those who have a session already.
    pub(crate) fn keeps_out(&self, is_back: bool) -> Option<Failure> {
        let from = if is_back { Pressure::Scarce } else { Pressure::Full };
        (self.pressure() >= from).then(|| self.failure())
    }

    /// Why nothing more may be subscribed to, if so.
    pub(crate) fn keeps_from_subscribing(&self) -> Option<Failure> {
        (self.pressure() >= Pressure::Scarce).then(|| self.failure())
    }

    pub(crate) fn is_scarce(&self) -> bool {
        self.pressure() >= Pressure::Scarce
    }

    fn failure(&self) -> Failure {
        let (limit, wait) = (self.limit.load(Ordering::Relaxed), come_back_after(Duration::ZERO));
        metrics::limited(Limit::NodeMemory, None);
        let wait_ms = wait.as_millis();
        let message = format!("the node has used most of its {limit} bytes: again in {wait_ms} ms");
        let failure = Failure::new(ErrorCode::QuotaExceeded, message);
        failure.retry_after(wait).exceeding(Limit::NodeMemory, limit)
    }
}

impl Edge {
    /// Hears how near the node is to the end of the `limit` bytes that there are for it: for one who
    /// looks again and again. While memory is [scarce](Pressure::Scarce), each time lets go of what is
    /// kept for clients that read slowly, and of those themselves.
    pub async fn feel(&self, pressure: Pressure, limit: u64) {
        let memory = &self.0.memory;
        memory.limit.store(limit, Ordering::Relaxed);
        let before = Pressure::of(memory.pressure.swap(pressure as u8, Ordering::Relaxed));
        if pressure != before {
            tracing::warn!(?before, now = ?pressure, limit, "memory of the node");
            self.0.node.remember_less(pressure >= Pressure::Tight);
        }
        if pressure >= Pressure::Scarce {
            self.0.registry.tell_all(Control::Relieve).await;
        }
    }
}
