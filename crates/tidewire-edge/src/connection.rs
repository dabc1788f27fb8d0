//! One client attached to this node: a task that owns everything about it.
//!
//! The loop waits for one [`Action`] and applies it. Applying is to ask the session what to do, to
//! perform its effects, and to queue its events; writing goes on while the loop waits. Effects that
//! take time are futures the connection owns, so nothing of it outlives it.

mod clock;
mod effects;
mod ending;

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tidewire_hub::{Inbox, Outbox, outbox};
use tidewire_model::{Connected, ConnectionId, Delivery, Disconnect, ErrorCode, Event, Failure};
use tidewire_node::OwnedSession;
use tidewire_protocol::{Decoded, Frame, Protocol};
use tidewire_session::{Outputs, Session};
use tidewire_store::{Saved, StoreError};
use tidewire_transport::{Transport, TransportError};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use self::clock::{Alarm, Clock};
use self::ending::turn_away;
use crate::edge::{Shared, unix_seconds};
use crate::handshake::{Admitted, Handshake};
use crate::metrics::{self, ConnectionMetrics};
use crate::outcome::{self, Outcome};
use crate::registry::Control;

/// Deliveries taken from the inbox in one turn.
const BATCH: usize = 128;
/// Bytes a frame holds before another is begun.
const FRAME_BYTES: usize = 32 * 1_024;
/// Bytes waiting for the socket above which nothing more is taken from the inbox, and no command
/// is read: a client that does not read is not asked what else it wants.
const MOST_UNSENT: usize = 128 * 1_024;
/// Effects under way above which no further command is taken.
const MOST_PENDING: usize = 64;
/// Of these, pages of history: each may be a thousand publications, held until the client has read
/// them.
const MOST_READS: usize = 4;

/// Shakes hands with a client and serves it until either side leaves.
pub(crate) async fn run<T: Transport>(shared: Arc<Shared>, mut transport: T, handshake: Handshake) {
    let mut protocol = (handshake.protocol.start)();
    let admitted = match handshake.admit(&shared, &mut transport, protocol.as_mut()).await {
        None => return,
        Some(Ok(admitted)) => admitted,
        Some(Err(rejected)) => {
            metrics::rejected(rejected.reason());
            return turn_away(transport, protocol.as_mut(), rejected).await;
        }
    };
    tracing::debug!(
        tenant = %admitted.owned.key.tenant,
        session = %admitted.owned.key.session,
        protocol = handshake.protocol.name,
        peer = %handshake.peer,
        resumed = admitted.is_resumed,
        "connected"
    );
    let metrics = shared.metrics.connection("ws", &admitted.owned.key.tenant);
    Connection::new(shared, transport, protocol, metrics, admitted).run().await;
}

pub(crate) struct Connection<T> {
    id: ConnectionId,
    shared: Arc<Shared>,
    transport: T,
    protocol: Box<dyn Protocol>,
    session: Session,
    owned: OwnedSession,
    outbox: Outbox,
    inbox: Inbox,
    batch: Vec<Delivery>,
    controls: mpsc::Receiver<Control>,
    pending: FuturesUnordered<BoxFuture<'static, Outcome>>,
    /// How many of the pending are pages of history.
    reads: usize,
    /// What of a frame is yet to be taken; no other is read before.
    untaken: VecDeque<Decoded>,
    outputs: Outputs,
    clock: Clock,
    /// A write of the session is under way; the next waits, or might be overtaken.
    is_saving: bool,
    /// The store has refused a write: the session has another owner, and is not ours to release.
    is_fenced: bool,
    /// When the client of a resumed session was last heard before it was told so. Until it is heard
    /// again that answer may be lost, and a write would keep it from repeating its claim.
    claimed_at: Option<Instant>,
    metrics: ConnectionMetrics,
}

/// Everything that can happen to a connection.
enum Action {
    Receive(Frame),
    /// There are deliveries in the batch.
    Deliver,
    Finish(Outcome),
    Control(Control),
    Alarm(Alarm),
    /// The socket has taken all that was waiting for it.
    Flushed,
    Close(Disconnect),
    /// The client has left.
    Leave,
}

/// Whether the connection goes on.
type Verdict = Result<(), Ending>;

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The server ends it, and says why.
    Disconnected(Disconnect),
    /// The client has ended it, or the network has.
    Left,
}

impl<T: Transport> Connection<T> {
    fn new(
        shared: Arc<Shared>,
        transport: T,
        protocol: Box<dyn Protocol>,
        metrics: ConnectionMetrics,
        admitted: Admitted,
    ) -> Self {
        let Admitted { request, owned, session, is_resumed, mut outputs, rest } = admitted;
        let id = shared.next_connection();
        let claimed_at = is_resumed.then(|| transport.last_heard());
        let (outbox, inbox) = outbox(shared.config.queue);
        let controls = shared.registry.add(id, &owned);
        shared.tell_latecomer(id);
        let expires_at = session.identity().expires_at;
        outputs.events.insert(
            0,
            Event::Connected(Connected {
                request,
                session: owned.key.session,
                resume_token: shared.resume_token(&owned),
                resume_window: shared.node.resume_window(),
                resumed: is_resumed,
                node: shared.node.id().clone(),
                ping_interval: shared.config.ping_interval,
                expires_at,
            }),
        );
        Self {
            id,
            clock: Clock::new(&shared.config, expires_at),
            shared,
            transport,
            protocol,
            session,
            owned,
            outbox,
            inbox,
            batch: Vec::new(),
            controls,
            pending: FuturesUnordered::new(),
            reads: 0,
            untaken: rest.into(),
            outputs,
            is_saving: false,
            is_fenced: false,
            claimed_at,
            metrics,
        }
    }

    async fn run(mut self) {
        let mut verdict = self.perform().await;
        while verdict.is_ok() {
            let action = self.next_action().await;
            verdict = self.apply(action).await;
        }
        if let Err(ending) = verdict {
            self.end(ending).await;
        }
    }

    async fn next_action(&mut self) -> Action {
        let is_writable = self.transport.unsent() < MOST_UNSENT;
        if is_writable {
            self.clock.stall(None);
        }
        let may_read = self.may_ask() && self.untaken.is_empty();
        tokio::select! {
            Some(control) = self.controls.recv() => Action::Control(control),
            alarm = self.clock.next() => Action::Alarm(alarm),
            Some(outcome) = self.pending.next() => Action::Finish(outcome),
            () = self.inbox.take(&mut self.batch, BATCH), if is_writable => Action::Deliver,
            action = carry(&mut self.transport, may_read) => action,
        }
    }

    /// Whether another command may be taken: what comes meanwhile waits, at last in the kernel's
    /// buffers and then in the client's.
    fn may_ask(&self) -> bool {
        self.transport.unsent() < MOST_UNSENT
            && self.pending.len() < MOST_PENDING
            && self.reads < MOST_READS
    }

    async fn apply(&mut self, action: Action) -> Verdict {
        match action {
            Action::Receive(frame) => self.receive(frame)?,
            Action::Deliver => self.deliver(),
            Action::Finish(outcome) => self.finish(outcome)?,
            Action::Control(control) => self.heed(control)?,
            Action::Alarm(alarm) => self.wake(alarm)?,
            Action::Flushed => {}
            Action::Close(disconnect) => return Err(Ending::Disconnected(disconnect)),
            Action::Leave => return Err(Ending::Left),
        }
        self.perform().await
    }

    fn receive(&mut self, frame: Frame) -> Verdict {
        self.metrics.received(frame.bytes().len());
        match self.protocol.decode(frame) {
            Ok(decoded) => self.untaken = decoded.into(),
            Err(error) => {
                let failure = Failure::new(ErrorCode::BadRequest, error.to_string());
                self.outputs.events.push(Event::Failed { request: None, failure });
                return Err(Ending::Disconnected(error.disconnect()));
            }
        }
        Ok(())
    }

    fn take(&mut self, decoded: Decoded) {
        match decoded {
            Decoded::Request(request) => {
                self.session.handle(request, unix_seconds(), &mut self.outputs);
            }
            Decoded::Refused { id, failure } => {
                self.outputs.events.push(Event::Failed { request: id, failure });
            }
        }
    }

    fn deliver(&mut self) {
        let (session, outputs) = (&mut self.session, &mut self.outputs);
        for delivery in self.batch.drain(..) {
            match delivery {
                Delivery::Joined { join, outcome } => session.joined(join, outcome, outputs),
                Delivery::Publication { join, envelope } => {
                    session.deliver(join, envelope, outputs);
                }
                Delivery::Gap { join, gap } => session.gap(join, gap, outputs),
                Delivery::Lagged { join } => {
                    metrics::lagged();
                    session.lagged(join, outputs);
                }
            }
        }
    }

    fn finish(&mut self, outcome: Outcome) -> Verdict {
        match outcome {
            Outcome::Published { request, took, verdict } => {
                self.metrics.published(took, &verdict);
                self.outputs.events.push(outcome::published(request, verdict));
            }
            Outcome::Read { request, page } => {
                self.reads -= 1;
                self.outputs.events.push(outcome::read(request, page));
            }
            Outcome::Saved(saved) => return self.saved(saved),
        }
        Ok(())
    }

    fn saved(&mut self, saved: Result<Saved, StoreError>) -> Verdict {
        self.is_saving = false;
        match saved {
            Ok(Saved::Done) if self.clock.is_leaving() => self.save_if_due(),
            Ok(Saved::Done) => {}
            Ok(Saved::Fenced) => {
                self.is_fenced = true;
                return Err(Ending::Disconnected(Disconnect::Moved));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot save a session; trying again");
                self.clock.save_later();
            }
        }
        Ok(())
    }

    fn heed(&mut self, control: Control) -> Verdict {
        match control {
            Control::LetGo(generation) if generation > self.owned.generation => {
                self.is_fenced = true;
                Err(Ending::Disconnected(Disconnect::Moved))
            }
            Control::LetGo(_) => Ok(()),
            Control::Move { after, window } => {
                self.ask_to_move(after, window);
                Ok(())
            }
            Control::Close(disconnect) => Err(Ending::Disconnected(disconnect)),
        }
    }

    /// From here on the store keeps up with the session: the next node begins from what it has.
    fn ask_to_move(&mut self, after: Duration, window: Duration) {
        if self.clock.is_leaving() {
            return;
        }
        let token = self.shared.resume_token(&self.owned);
        self.outputs.events.push(Event::Reconnect { after, window, token });
        self.clock.leave_in(after + window);
        self.save_if_due();
    }

    fn wake(&mut self, alarm: Alarm) -> Verdict {
        match alarm {
            Alarm::Ping => self.ping(),
            Alarm::Save | Alarm::Renew => {
                self.save();
                Ok(())
            }
            Alarm::Expiring => {
                if let Some(at) = self.session.identity().expires_at {
                    self.outputs.events.push(Event::Expiring { at });
                }
                Ok(())
            }
            Alarm::Expired => Err(Ending::Disconnected(Disconnect::TokenExpired)),
            // It may have gone below the mark while nothing else happened.
            Alarm::Stalled if self.transport.unsent() < MOST_UNSENT => Ok(()),
            Alarm::Stalled => Err(Ending::Disconnected(Disconnect::Slow)),
            Alarm::WindowPassed => Err(Ending::Disconnected(Disconnect::Draining)),
        }
    }

    fn ping(&mut self) -> Verdict {
        let silence = self.transport.last_heard().elapsed();
        if silence >= 2 * self.shared.config.ping_interval {
            return Err(Ending::Disconnected(Disconnect::PingTimeout));
        }
        self.transport.ping();
        Ok(())
    }

    fn queue_events(&mut self) -> Verdict {
        if self.outputs.events.is_empty() {
            return Ok(());
        }
        let mut frames = Vec::new();
        self.protocol.encode(&self.outputs.events, FRAME_BYTES, &mut frames);
        self.metrics.sent(&self.outputs.events, &frames);
        self.outputs.events.clear();
        self.transport.queue(&frames).map_err(|_| Ending::Left)?;
        if self.transport.unsent() >= MOST_UNSENT {
            self.clock.stall(Some(self.shared.config.write_timeout));
        }
        Ok(())
    }
}

/// Reads and writes, or only writes when the client is not to be asked anything now.
async fn carry<T: Transport>(transport: &mut T, may_read: bool) -> Action {
    if !may_read {
        if transport.unsent() == 0 {
            return std::future::pending().await;
        }
        return match transport.flush().await {
            Ok(()) => Action::Flushed,
            Err(_) => Action::Leave,
        };
    }
    match transport.receive().await {
        Ok(Some(frame)) => Action::Receive(frame),
        Ok(None) => Action::Leave,
        Err(error) => broken(&error),
    }
}

fn broken(error: &TransportError) -> Action {
    tracing::debug!(%error, "connection broke");
    error.disconnect().map_or(Action::Leave, Action::Close)
}
