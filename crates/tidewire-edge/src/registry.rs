use std::collections::HashMap;

use parking_lot::Mutex;
use tidewire_model::{ConnectionId, Disconnect, Generation, SessionId, Tenant};
use tidewire_node::OwnedSession;
use tidewire_store::SessionKey;
use tokio::sync::{Notify, mpsc};
use tokio::time::Duration;

/// The live connections of this node, to be told something from outside. Nothing else about a
/// connection can be reached through it.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    connections: Mutex<HashMap<ConnectionId, Registered>>,
    /// Rung when the last connection has gone.
    emptied: Notify,
}

/// What a connection can be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Control {
    /// Its session goes on elsewhere under this generation.
    LetGo(Generation),
    /// Ask the client to move; disconnect it when the window has passed.
    Move {
        after: Duration,
        window: Duration,
    },
    Close(Disconnect),
}

#[derive(Debug)]
struct Registered {
    session: OwnedSession,
    control: mpsc::Sender<Control>,
}

/// Controls a connection may have waiting. One that does not get to them is closing anyway.
const CONTROLS: usize = 4;

impl Registry {
    /// Registers a connection and yields what it will be told.
    pub(crate) fn add(
        &self,
        connection: ConnectionId,
        session: &OwnedSession,
    ) -> mpsc::Receiver<Control> {
        let (control, controls) = mpsc::channel(CONTROLS);
        let registered = Registered { session: session.clone(), control };
        self.connections.lock().insert(connection, registered);
        controls
    }

    pub(crate) fn remove(&self, connection: ConnectionId) {
        let mut connections = self.connections.lock();
        connections.remove(&connection);
        if connections.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.lock().len()
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.connections.lock().keys().copied().collect()
    }

    /// Tells one connection something, if it is still there.
    pub(crate) fn tell(&self, connection: ConnectionId, control: Control) {
        if let Some(registered) = self.connections.lock().get(&connection) {
            // A full queue means that it has not got to what it was told before, and that ends it.
            let _ = registered.control.try_send(control);
        }
    }

    pub(crate) fn tell_all(&self, control: Control) {
        for registered in self.connections.lock().values() {
            let _ = registered.control.try_send(control);
        }
    }

    /// Tells whoever holds an older generation of a session that it has moved.
    pub(crate) fn let_go(&self, tenant: &Tenant, session: SessionId, generation: Generation) {
        let key = SessionKey { tenant: tenant.clone(), session };
        for registered in self.connections.lock().values() {
            let OwnedSession { key: owned, generation: own } = &registered.session;
            if *owned == key && *own < generation {
                let _ = registered.control.try_send(Control::LetGo(generation));
            }
        }
    }

    /// Waits until there are no connections.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }
}
