use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_model::{
    Channel, Command, ConnectionId, Event, Identity, Joined, Position, Request, RequestId, Since,
    TenantChannel,
};
use tidewire_session::{Effect, Limits, Outputs, Session, Snapshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::weather::Weather;
use crate::witness::Witness;
use crate::worker::{Word, Worker};

/// A client that keeps its positions, loses its connection now and then, and comes back on any
/// node. The session on the node's side of the connection is the real one.
pub(crate) struct Subscriber {
    pub(crate) number: u64,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) identity: Identity,
    pub(crate) wanted: Vec<(Channel, Since)>,
    pub(crate) habits: Habits,
    pub(crate) weather: Arc<Weather>,
    pub(crate) witness: Arc<Mutex<Witness>>,
    pub(crate) dice: Dice,
    /// What the store has of its session.
    pub(crate) saved: Option<Snapshot>,
    pub(crate) connections: u64,
}

/// What a client and its connections are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// How many words its worker keeps for it.
    pub(crate) line: usize,
    /// How often it does not read for a while.
    pub(crate) stall_percent: u64,
    /// The longest life of a connection, in milliseconds.
    pub(crate) life: u64,
}

/// One connection: the session, and its way to its worker.
struct Connection {
    worker: Worker,
    id: ConnectionId,
    identity: Identity,
    session: Session,
    outputs: Outputs,
    last_request: u32,
    /// Channels whose subscription was refused, and when to ask again.
    refused: Option<Instant>,
}

const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

impl Subscriber {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::time::sleep(self.dice.millis(0, 1_000)).await;
        while !stop.is_cancelled() {
            self.serve(&stop).await;
            let pause = if self.weather.is_fair() { 50 } else { 1_500 };
            tokio::time::sleep(self.dice.millis(0, pause)).await;
        }
    }

    async fn serve(&mut self, stop: &CancellationToken) {
        let mut connection = self.connect();
        let leave_at = Instant::now() + self.dice.millis(1, self.habits.life);
        loop {
            self.ask_for_missing(&mut connection);
            connection.perform();
            self.listen(&mut connection);
            self.stall().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = connection.worker.gone() => break,
                () = tokio::time::sleep_until(leave_at), if !self.weather.is_fair() => break,
                () = reached(connection.refused) => connection.refused = None,
                words = connection.worker.take(connection.id, self.dice.index(40) + 1) => {
                    self.tally(&words);
                    connection.deliver(words);
                    self.listen(&mut connection);
                }
            }
            self.change_mind(&mut connection);
        }
        self.lose(connection);
    }

    fn connect(&mut self) -> Connection {
        let worker = self.fleet.worker(&mut self.dice);
        self.connections += 1;
        let mut outputs = Outputs::default();
        // A client whose session is lost subscribes by itself, from its own positions.
        let saved = self.saved.take().filter(|_| self.dice.chance(75));
        let how = if saved.is_some() { "resumes" } else { "connects" };
        self.witness.lock().connection(format!("{how} on {}", worker.node().id()));
        let session = match saved {
            Some(snapshot) => {
                let positions = self.positions();
                Session::resume(snapshot, positions, Limits::default(), &mut outputs)
            }
            None => Session::new(self.identity.clone(), Limits::default()),
        };
        let id = ConnectionId(self.number * 1_000_000 + self.connections);
        let identity = self.identity.clone();
        let (last_request, refused) = (0, None);
        worker.connect(id, self.habits.line);
        Connection { worker, id, identity, session, outputs, last_request, refused }
    }

    fn positions(&self) -> Vec<(Channel, Position)> {
        let witness = self.witness.lock();
        let position = |(channel, _): &(Channel, Since)| {
            witness.position(channel).map(|position| (channel.clone(), position))
        };
        self.wanted.iter().filter_map(position).collect()
    }

    /// Subscribes to what the session does not have.
    fn ask_for_missing(&self, connection: &mut Connection) {
        if connection.refused.is_some() {
            return;
        }
        let had = connection.session.snapshot().subscriptions;
        for (channel, since) in &self.wanted {
            if had.iter().any(|subscription| subscription.channel == *channel) {
                continue;
            }
            let position = self.witness.lock().position(channel);
            let since = position.map_or(*since, Since::Position);
            let channel = channel.clone();
            connection.command(Command::Subscribe { channel, since, delta: None, token: None });
        }
    }

    /// Takes what the connection has sent.
    fn listen(&self, connection: &mut Connection) {
        for event in connection.outputs.events.drain(..) {
            if matches!(event, Event::Failed { .. }) {
                connection.refused = Some(Instant::now() + REFUSAL_PAUSE);
            }
            self.witness.lock().hear(event);
        }
    }

    async fn stall(&mut self) {
        if !self.weather.is_fair() && self.dice.chance(self.habits.stall_percent) {
            tokio::time::sleep(self.dice.millis(5, 600)).await;
        }
    }

    fn tally(&self, words: &[Word]) {
        let tally = &mut self.witness.lock().tally;
        for word in words {
            match word {
                Word::Lagged { .. } => tally.lagged += 1,
                Word::Slow { .. } => tally.slow += 1,
                Word::Joined { outcome: Ok(Joined { live: false, .. }), .. } => tally.pages += 1,
                _ => {}
            }
        }
    }

    /// Unsubscribes now and then; the loop subscribes again.
    fn change_mind(&mut self, connection: &mut Connection) {
        if self.weather.is_fair() || !self.dice.chance(1) {
            return;
        }
        let (channel, _) = self.dice.pick(&self.wanted);
        if self.witness.lock().is_subscribed(&channel) {
            connection.command(Command::Unsubscribe { channel });
        }
    }

    /// The connection ends, perhaps with something sent that does not arrive any more.
    fn lose(&mut self, mut connection: Connection) {
        let words = connection.worker.take_ready(connection.id);
        connection.deliver(words);
        connection.perform();
        if self.dice.chance(50) {
            self.listen(&mut connection);
        }
        self.witness.lock().connection(format!("leaves {}", connection.worker.node().id()));
        self.saved = Some(connection.session.snapshot());
        connection.leave();
    }
}

impl Connection {
    fn command(&mut self, command: Command) {
        self.last_request += 1;
        let request = Request { id: RequestId(self.last_request), command };
        self.session.handle(request, 0, &mut self.outputs);
    }

    fn deliver(&mut self, words: Vec<Word>) {
        let (session, outputs) = (&mut self.session, &mut self.outputs);
        for word in words {
            match word {
                Word::Joined { join, outcome } => {
                    // One that it does not wait for any more, it has left meanwhile.
                    session.joined(join, outcome, outputs);
                }
                Word::Publication { join, envelope } => session.deliver(join, envelope, outputs),
                Word::Gap { join, gap } => session.gap(join, gap, outputs),
                Word::Lagged { join } | Word::Slow { join } => session.lagged(join, outputs),
                Word::Published { .. } => unreachable!("it has published nothing"),
            }
        }
    }

    fn perform(&mut self) {
        for effect in mem::take(&mut self.outputs.effects) {
            match effect {
                Effect::Join { channel, since, join, .. } => {
                    self.worker.join(self.in_tenant(channel), since, self.id, join);
                }
                Effect::Leave { channel, join } => {
                    self.worker.leave(self.in_tenant(channel), self.id, join);
                }
                _ => {}
            }
        }
    }

    fn leave(&self) {
        for (channel, join) in self.session.joins() {
            self.worker.leave(self.in_tenant(channel.clone()), self.id, join);
        }
        self.worker.disconnect(self.id);
    }

    fn in_tenant(&self, channel: Channel) -> TenantChannel {
        TenantChannel::new(self.identity.tenant.clone(), channel)
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
