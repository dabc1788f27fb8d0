use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_store_redis::simulated::{Server, Servers};
use tokio_util::task::TaskTracker;

use super::deployment::{Deployment, ServerId};
use crate::dice::Dice;
use crate::gate::Gate;

/// One node's way to Redis: it takes time to get there, and time to come back.
#[derive(Clone)]
pub(crate) struct Way(Arc<Inner>);

struct Inner {
    deployment: Arc<Deployment>,
    node: usize,
    gate: Gate,
    dice: Mutex<Dice>,
    /// The longest way in one direction, in milliseconds.
    distance: u64,
    tracker: TaskTracker,
}

/// A connection over it.
struct Session {
    way: Way,
    server: ServerId,
    address: String,
    closed: AtomicBool,
}

impl Way {
    pub(crate) fn new(
        deployment: Arc<Deployment>,
        node: usize,
        gate: Gate,
        dice: Dice,
        distance: u64,
    ) -> Self {
        let (dice, tracker) = (Mutex::new(dice), TaskTracker::new());
        Self(Arc::new(Inner { deployment, node, gate, dice, distance, tracker }))
    }

    async fn travel(&self) {
        let way = self.draw_way();
        if !way.is_zero() {
            tokio::time::sleep(way).await;
        }
        self.0.gate.pass().await;
    }

    fn draw_way(&self) -> Duration {
        let (mut dice, distance) = (self.0.dice.lock(), self.0.distance);
        // Now and then somebody is held up on the way, so that answers overtake one another.
        let most = if dice.chance(3) { distance * 10 } else { distance };
        dice.millis(0, most)
    }
}

#[async_trait]
impl Servers for Way {
    async fn connect(&self) -> Result<Arc<dyn Server>, String> {
        self.travel().await;
        let (server, address) = self.0.deployment.resolve(self.0.node)?;
        let (way, closed) = (self.clone(), AtomicBool::new(false));
        Ok(Arc::new(Session { way, server, address, closed }))
    }

    async fn primary(&self) -> Option<String> {
        self.travel().await;
        self.0.deployment.agreed()
    }
}

impl Way {
    /// The reply, or nothing if the connection ended first.
    async fn ask(
        self,
        server: ServerId,
        command: Vec<Vec<u8>>,
        caller: Weak<()>,
    ) -> Option<Vec<u8>> {
        let Inner { deployment, node, .. } = &*self.0;
        let can_be_lost = command[0] == b"FCALL";
        self.travel().await;
        if !deployment.reaches(*node, server) || (can_be_lost && deployment.is_call_lost()) {
            return None;
        }
        let pause = deployment.pause_now();
        if let Some(pause) = pause.filter(|pause| !pause.acts_first) {
            tokio::time::sleep_until(pause.until).await;
        }
        let is_awaited = caller.strong_count() > 0;
        let reply = deployment.perform(server, &command, is_awaited)?;
        if can_be_lost && deployment.is_reply_lost() {
            return None;
        }
        if let Some(pause) = pause.filter(|pause| pause.acts_first) {
            tokio::time::sleep_until(pause.until).await;
        }
        self.travel().await;
        deployment.reaches(*node, server).then_some(reply)
    }
}

#[async_trait]
impl Server for Session {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn call(&self, command: Vec<Vec<u8>>) -> Option<Vec<u8>> {
        if self.is_closed() {
            return None;
        }
        // What is under way gets there, whether anybody still waits for the answer or not.
        let caller = Arc::new(());
        let asking = self.way.clone().ask(self.server, command, Arc::downgrade(&caller));
        let reply = self.way.0.tracker.spawn(asking).await.expect("it does not panic");
        if reply.is_none() {
            self.closed.store(true, Ordering::Relaxed);
        }
        reply
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}
