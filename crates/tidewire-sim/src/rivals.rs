use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tidewire_model::{Identity, SessionNonce};
use tidewire_node::{OwnedSession, SessionError};
use tidewire_session::{SavedPresence, Snapshot};
use tidewire_store::Saved;
use tokio::time::timeout;

use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::truth::Truth;
use crate::weather::Weather;
use crate::worker::Worker;

/// Clients that take their sessions from node to node, and others that have copies of their tokens;
/// and nodes that go on writing to sessions that have left them.
pub(crate) struct Rivals {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) truth: Arc<Mutex<Truth>>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) identity: Identity,
    pub(crate) dice: Dice,
}

/// A node that takes a session for its own.
#[derive(Clone)]
struct Holder {
    worker: Worker,
    session: OwnedSession,
}

/// More than a call to the store takes. A node that has been killed never answers.
const PATIENCE: Duration = Duration::from_secs(5);

impl Rivals {
    /// Moves one session after another about until the weather is fair, and sees who has each then.
    pub(crate) async fn run(mut self) {
        let mut held = Vec::new();
        while !self.weather.is_fair() {
            if let Some(first) = self.open().await {
                held.push(self.contend(first).await);
            }
            self.rest().await;
        }
        for holders in held {
            self.settle(holders).await;
        }
    }

    async fn open(&mut self) -> Option<Holder> {
        let worker = self.fleet.worker(&mut self.dice);
        let snapshot = self.snapshot();
        let opening = worker.node().open_session(&snapshot);
        let session = timeout(PATIENCE, opening).await.ok()?.ok()?;
        Some(Holder { worker, session })
    }

    /// Everybody who took the session for theirs and was not told otherwise.
    async fn contend(&mut self, first: Holder) -> Vec<Holder> {
        let mut holders = vec![first];
        for _ in 0..self.dice.between(2, 12) {
            if self.weather.is_fair() || holders.is_empty() {
                break;
            }
            match self.dice.between(0, 4) {
                0 => self.claim(&mut holders, 1).await,
                1 => self.claim(&mut holders, 2).await,
                _ => self.save_one(&mut holders).await,
            }
            self.rest().await;
        }
        holders
    }

    /// So many claim a session at once with one token, some of them once more through another node.
    async fn claim(&mut self, holders: &mut Vec<Holder>, count: usize) {
        let newest = holders.iter().max_by_key(|holder| holder.session.generation.0);
        let token = if self.dice.chance(80) { newest.cloned() } else { None };
        let token = token.unwrap_or_else(|| self.dice.pick(holders)).session;
        let mut claims = Vec::new();
        for _ in 0..count {
            let nonce = SessionNonce::from_bytes(u128::from(self.dice.draw()).to_be_bytes());
            for _ in 0..self.dice.pick(&[1, 1, 2]) {
                let worker = self.fleet.worker(&mut self.dice);
                claims.push(claim(worker, token.clone(), nonce));
            }
        }
        holders.extend(join_all(claims).await.into_iter().flatten());
    }

    /// Any of the holders writes, the newest or one that has not heard of it yet.
    async fn save_one(&mut self, holders: &mut Vec<Holder>) {
        let index = self.dice.index(holders.len());
        let Holder { worker, session } = &holders[index];
        let (node, snapshot) = (worker.node(), self.snapshot());
        let saving = if self.dice.chance(20) {
            timeout(PATIENCE, node.release_session(session, &snapshot)).await
        } else {
            timeout(PATIENCE, node.save_session(session, &snapshot)).await
        };
        if matches!(saving, Ok(Ok(Saved::Fenced))) {
            holders.swap_remove(index);
        }
    }

    /// When nothing fails any more, whoever has written once and may write again has the session.
    async fn settle(&mut self, mut holders: Vec<Holder>) {
        let Some(key) = holders.first().map(|holder| holder.session.key.clone()) else { return };
        for _ in 0..2 {
            let mut kept = Vec::new();
            for holder in holders {
                if self.writes(&holder).await {
                    kept.push(holder);
                }
            }
            holders = kept;
        }
        // A claim repeated on the node that has it already makes no second holder.
        let owners: BTreeSet<_> =
            holders.iter().map(|holder| holder.worker.node().id().to_string()).collect();
        self.truth.lock().ownership.settled(&key.session.to_string(), &owners);
    }

    /// Whether a holder's write is taken. One on a node that has been killed writes no more.
    async fn writes(&self, Holder { worker, session }: &Holder) -> bool {
        let snapshot = self.snapshot();
        loop {
            let saving = worker.node().save_session(session, &snapshot);
            let saved = tokio::select! {
                biased;
                () = worker.gone() => return false,
                saved = saving => saved,
            };
            match saved {
                Ok(saved) => return saved == Saved::Done,
                Err(_out_of_reach) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            identity: self.identity.clone(),
            subscriptions: Vec::new(),
            presence: SavedPresence::default(),
            grants: Vec::new(),
        }
    }

    async fn rest(&mut self) {
        tokio::time::sleep(self.dice.millis(1, 200)).await;
    }
}

async fn claim(worker: Worker, token: OwnedSession, nonce: SessionNonce) -> Option<Holder> {
    let OwnedSession { key, generation } = token;
    let claiming = worker.node().resume_session(key, generation, nonce);
    let claimed = timeout(PATIENCE, claiming).await.ok()?;
    let (session, _snapshot) = claimed.map_err(|_: SessionError| ()).ok()?;
    Some(Holder { worker, session })
}
