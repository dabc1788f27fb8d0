//! Making happen what a plan says.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::plan::{Fault, FaultKind};
use crate::redis::Pause;
use crate::world::World;

impl World {
    /// Lets every fault happen when it is due, and mends everything at the end.
    pub(crate) async fn suffer(&self, faults: &[Fault], length: Duration) {
        let started = Instant::now();
        join_all(faults.iter().map(|fault| self.happen(started, fault))).await;
        tokio::time::sleep_until(started + length).await;
        self.fleet.network.lose_next(0);
        self.fleet.network.release();
        self.fleet.network.heal();
        self.fleet.deployment.lose_replies(0);
        self.fleet.deployment.lose_calls(0);
        self.fleet.deployment.fill(false);
    }

    async fn happen(&self, started: Instant, fault: &Fault) {
        tokio::time::sleep_until(started + fault.at).await;
        self.trace.note(format_args!("{:?}", fault.kind));
        match &fault.kind {
            FaultKind::LoseFrames { .. }
            | FaultKind::Hold { .. }
            | FaultKind::Partition { .. }
            | FaultKind::Suspect => self.trouble_network(&fault.kind).await,
            FaultKind::KillNode { node, back_after } => {
                self.fleet.kill(*node).await;
                tokio::time::sleep(*back_after).await;
                self.fleet.start(*node);
            }
            FaultKind::StopNode { node, length } => self.fleet.hold(*node, *length).await,
            FaultKind::FailOver { .. }
            | FaultKind::Restart { .. }
            | FaultKind::Split { .. }
            | FaultKind::Empty => self.change_primary(&fault.kind).await,
            _ => self.trouble_redis(&fault.kind).await,
        }
    }

    async fn trouble_network(&self, kind: &FaultKind) {
        let network = &self.fleet.network;
        match kind {
            FaultKind::LoseFrames { count } => network.lose_next(*count),
            FaultKind::Hold { length, reversed } => {
                network.hold();
                tokio::time::sleep(*length).await;
                if *reversed {
                    network.release_reversed();
                } else {
                    network.release();
                }
            }
            FaultKind::Partition { node, length } => {
                network.partition([crate::fleet::name_of(*node)]);
                tokio::time::sleep(*length).await;
                network.heal();
            }
            _ => network.suspect(),
        }
    }

    async fn trouble_redis(&self, kind: &FaultKind) {
        let deployment = &self.fleet.deployment;
        match kind {
            FaultKind::LoseReplies { count } => deployment.lose_replies(*count),
            FaultKind::LoseCalls { count } => deployment.lose_calls(*count),
            FaultKind::PauseRedis { length, acts_first } => {
                let (until, acts_first) = (Instant::now() + *length, *acts_first);
                deployment.pause(Pause { until, acts_first });
            }
            FaultKind::CutRedis { node, length } => deployment.cut(*node, *length),
            FaultKind::Fill { length } => {
                deployment.fill(true);
                tokio::time::sleep(*length).await;
                deployment.fill(false);
            }
            FaultKind::Skew { millis } => deployment.skew(*millis),
            _ => deployment.flush_functions(),
        }
    }

    async fn change_primary(&self, kind: &FaultKind) {
        let deployment = &self.fleet.deployment;
        match kind {
            FaultKind::FailOver { lag, away } => deployment.replace(*lag, *away, false),
            FaultKind::Restart { lag, away, times } => {
                for _ in 0..*times {
                    deployment.replace(*lag, *away, true);
                    // A life begins with its first call.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            FaultKind::Split { lag, followers, length } => {
                deployment.split(*lag, followers);
                tokio::time::sleep(*length).await;
                deployment.end_split();
            }
            _ => deployment.empty(),
        }
    }
}
