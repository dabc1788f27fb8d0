use parking_lot::{Mutex, RwLock};
use tidewire_model::{ConnectionId, Disconnect, Generation, SessionId, Tenant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Duration, Instant};

use crate::connection::Connection;
use crate::drain::Weight;
use crate::handshake::Handshake;
use crate::ops::Slowest;
use crate::rebalance::{Ease, easiest};
use crate::tls::Accepted;
use crate::worker::Slots;

/// The workers of this node, to be told something from outside. Nothing else about a connection can
/// be reached through it.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    workers: RwLock<Vec<WorkerHandle>>,
    unjudged: Mutex<Unjudged>,
}

/// Who has to be judged again, and whether that was asked for since it was done last.
#[derive(Debug, Default)]
struct Unjudged {
    asked: u64,
    judged: u64,
    ended: Vec<Tenant>,
    ended_in_all: u64,
}

/// One worker, as others see it.
pub(crate) type WorkerHandle = mpsc::Sender<Order>;

/// What a worker can be told.
pub(crate) enum Order {
    /// Serve a client that has just shaken hands.
    Arrive(Box<Arrival>),
    Tell(ConnectionId, Control),
    TellAll(Control),
    /// A session goes on elsewhere under this generation.
    LetGo {
        tenant: Tenant,
        session: SessionId,
        generation: Generation,
    },
    /// Judge again whether everybody may be here, and disconnect those of these tenants.
    Rejudge {
        ended: Vec<Tenant>,
    },
    /// Name everybody who has a session, and say how heavy they are.
    Name(oneshot::Sender<Vec<(ConnectionId, Weight)>>),
    /// Name so many at most who could go elsewhere, and say how easily.
    NameEasiest {
        most: usize,
        names: oneshot::Sender<Vec<(Ease, ConnectionId)>>,
    },
    /// Say who is behind with reading.
    NameSlow(oneshot::Sender<Slowest>),
}

/// What a connection can be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Control {
    /// Its session goes on elsewhere under this generation.
    LetGo(Generation),
    /// The node takes nobody new.
    Refuse,
    /// Ask the client to move.
    Move(Hint),
    Close(Disconnect),
    /// Memory is scarce: keep nothing for it if it reads slowly, and disconnect it if it is slow.
    Relieve,
}

/// How a client is asked to move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Hint {
    pub(crate) cause: Cause,
    pub(crate) after: Duration,
    /// How long after that its session may go on elsewhere while it is served here.
    pub(crate) window: Duration,
}

/// Why a client is asked to move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// The node leaves: whoever is still here when the window has passed is disconnected.
    Drain,
    /// Its tenant is at home elsewhere: it is served on here if it does not move.
    Home,
    /// The node has more than its share: likewise.
    Share,
}

/// A client after the HTTP handshake.
pub(crate) struct Arrival {
    pub(crate) stream: Accepted,
    /// What it sent behind its request.
    pub(crate) unread: bytes::Bytes,
    pub(crate) handshake: Handshake,
    /// The protocol's place on the edge's list.
    pub(crate) protocol_index: u8,
    pub(crate) deflate: Option<tidewire_transport::Deflate>,
    /// Held until the end of its goodbye.
    pub(crate) room: OwnedSemaphorePermit,
    /// When it was asked for.
    pub(crate) asked_at: Instant,
}

/// Orders a worker may have waiting; whoever has more for it waits.
const ORDERS: usize = 1_024;

impl Registry {
    /// Adds a worker: its number, its handle, and what it will be told.
    pub(crate) fn add(&self) -> (u8, WorkerHandle, mpsc::Receiver<Order>) {
        let (handle, orders) = mpsc::channel(ORDERS);
        let mut workers = self.workers.write();
        let number = u8::try_from(workers.len()).expect("fewer than 256 workers");
        workers.push(handle.clone());
        (number, handle, orders)
    }

    fn workers(&self) -> Vec<WorkerHandle> {
        self.workers.read().clone()
    }

    /// Everybody who has a session now.
    pub(crate) async fn clients(&self) -> Vec<(ConnectionId, Weight)> {
        let mut clients = Vec::new();
        for worker in self.workers() {
            let (names, answer) = oneshot::channel();
            // One that has ended has nobody.
            drop(worker.send(Order::Name(names)).await);
            clients.extend(answer.await.unwrap_or_default());
        }
        clients
    }

    /// So many at most who could go elsewhere, those first who do so easily.
    pub(crate) async fn easiest(&self, most: usize) -> Vec<ConnectionId> {
        let mut all = Vec::new();
        for worker in self.workers() {
            let (names, answer) = oneshot::channel();
            // One that has ended has nobody.
            drop(worker.send(Order::NameEasiest { most, names }).await);
            all.extend(answer.await.unwrap_or_default());
        }
        easiest(all, most).into_iter().map(|(_, connection)| connection).collect()
    }

    /// Who is behind with reading.
    pub(crate) async fn slowest(&self) -> Slowest {
        let mut all = Slowest::default();
        for worker in self.workers() {
            let (names, answer) = oneshot::channel();
            // One that has ended has nobody.
            drop(worker.send(Order::NameSlow(names)).await);
            all.join(answer.await.unwrap_or_default());
        }
        all
    }

    /// Tells one connection something, if it is still there.
    pub(crate) async fn tell(&self, connection: ConnectionId, control: Control) {
        let number = usize::from(Slots::<Connection>::worker_of(connection));
        let worker = self.workers.read().get(number).cloned();
        if let Some(worker) = worker {
            // One that has ended has nobody to tell.
            drop(worker.send(Order::Tell(connection, control)).await);
        }
    }

    pub(crate) async fn tell_all(&self, control: Control) {
        for worker in self.workers() {
            // One that has ended has nobody to tell.
            drop(worker.send(Order::TellAll(control)).await);
        }
    }

    /// Asks that everybody be judged again who has a session, and those disconnected who are of a tenant
    /// that has ended. The next who calls [`rejudge`](Self::rejudge) sees to it.
    pub(crate) fn ask_to_rejudge(&self, ended: Vec<Tenant>) {
        let mut unjudged = self.unjudged.lock();
        unjudged.asked += 1;
        unjudged.ended_in_all += ended.len() as u64;
        unjudged.ended.extend(ended);
    }

    /// How many tenants have ended, or become others, while this node runs.
    pub(crate) fn ended(&self) -> u64 {
        self.unjudged.lock().ended_in_all
    }

    /// Has done what [was asked](Self::ask_to_rejudge), if that was not done yet: when each worker has had
    /// some turns. Whoever calls next does the rest of what is cancelled.
    pub(crate) async fn rejudge(&self) {
        let (asked, ended) = {
            let unjudged = self.unjudged.lock();
            if unjudged.asked == unjudged.judged {
                return;
            }
            (unjudged.asked, unjudged.ended.clone())
        };
        for worker in self.workers() {
            let ended = ended.clone();
            // One that has ended has nobody to judge.
            drop(worker.send(Order::Rejudge { ended }).await);
        }
        let mut unjudged = self.unjudged.lock();
        if unjudged.asked == asked {
            unjudged.judged = asked;
            unjudged.ended.clear();
        }
    }

    /// Tells whoever holds an older generation of a session that it has moved.
    pub(crate) async fn let_go(&self, tenant: &Tenant, session: SessionId, generation: Generation) {
        for worker in self.workers() {
            let tenant = tenant.clone();
            // One that has ended has nobody to tell.
            drop(worker.send(Order::LetGo { tenant, session, generation }).await);
        }
    }
}
