//! Making happen what a plan says.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::plan::{Fault, FaultKind};
use crate::world::World;

impl World {
    /// Lets every fault happen when it is due, and mends everything at the end.
    pub(crate) async fn suffer(&self, faults: &[Fault], length: Duration) {
        let started = Instant::now();
        join_all(faults.iter().map(|fault| self.happen(started, fault))).await;
        tokio::time::sleep_until(started + length).await;
        self.network.lose_next(0);
        self.network.release();
        self.network.heal();
        self.log.lose_replies(0);
        self.log.switch(true);
    }

    async fn happen(&self, started: Instant, fault: &Fault) {
        tokio::time::sleep_until(started + fault.at).await;
        self.trace.note(format_args!("{:?}", fault.kind));
        match fault.kind {
            FaultKind::LoseFrames { count } => self.network.lose_next(count),
            FaultKind::Hold { length, reversed } => {
                self.network.hold();
                tokio::time::sleep(length).await;
                if reversed {
                    self.network.release_reversed();
                } else {
                    self.network.release();
                }
            }
            FaultKind::Partition { node, length } => {
                self.network.partition([self.nodes[node].id().clone()]);
                tokio::time::sleep(length).await;
                self.network.heal();
            }
            FaultKind::Suspect => self.network.suspect(),
            FaultKind::Restart { times, lost } => {
                for _ in 0..times {
                    self.log.restart(lost);
                }
            }
            FaultKind::LogAway { length } => {
                self.log.switch(false);
                tokio::time::sleep(length).await;
                self.log.switch(true);
            }
            FaultKind::LoseReplies { count } => self.log.lose_replies(count),
        }
    }
}
