use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parking_lot::Mutex;
use tidewire_model::{ConnectionId, Disconnect, Generation, SessionId, Tenant};
use tidewire_node::OwnedSession;
use tidewire_store::SessionKey;
use tokio::sync::mpsc;
use tokio::time::Duration;

/// The live connections of this node, to be told something from outside. Nothing else about a
/// connection can be reached through it.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    connections: HashMap<ConnectionId, Registered>,
    /// Which connections hold a session: one, but for the moment in which it moves within this
    /// node.
    holders: HashMap<SessionKey, Vec<ConnectionId>>,
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
        let mut live = self.live.lock();
        live.holders.entry(session.key.clone()).or_default().push(connection);
        live.connections.insert(connection, Registered { session: session.clone(), control });
        controls
    }

    pub(crate) fn remove(&self, connection: ConnectionId) {
        let mut live = self.live.lock();
        let Some(registered) = live.connections.remove(&connection) else { return };
        if let Entry::Occupied(mut holders) = live.holders.entry(registered.session.key) {
            holders.get_mut().retain(|holder| *holder != connection);
            if holders.get().is_empty() {
                holders.remove();
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.live.lock().connections.len()
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.live.lock().connections.keys().copied().collect()
    }

    /// Tells one connection something, if it is still there.
    pub(crate) fn tell(&self, connection: ConnectionId, control: Control) {
        if let Some(registered) = self.live.lock().connections.get(&connection) {
            registered.tell(control);
        }
    }

    pub(crate) fn tell_all(&self, control: Control) {
        self.live.lock().connections.values().for_each(|registered| registered.tell(control));
    }

    /// Tells whoever holds an older generation of a session that it has moved.
    pub(crate) fn let_go(&self, tenant: &Tenant, session: SessionId, generation: Generation) {
        let key = SessionKey { tenant: tenant.clone(), session };
        let live = self.live.lock();
        let holders = live.holders.get(&key).into_iter().flatten();
        for registered in holders.filter_map(|holder| live.connections.get(holder)) {
            if registered.session.generation < generation {
                registered.tell(Control::LetGo(generation));
            }
        }
    }
}

impl Registered {
    /// A full queue means that the connection has not got to what it was told before, and that
    /// ends it.
    fn tell(&self, control: Control) {
        let _ = self.control.try_send(control);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_moves_is_let_go_by_its_older_holders_only() {
        let registry = Registry::default();
        let mut old = registry.add(ConnectionId(1), &session(1, 1));
        let mut new = registry.add(ConnectionId(2), &session(1, 2));
        let mut other = registry.add(ConnectionId(3), &session(2, 1));

        let key = session(1, 2).key;
        registry.let_go(&key.tenant, key.session, Generation(2));

        assert_eq!(old.try_recv(), Ok(Control::LetGo(Generation(2))));
        assert!(new.try_recv().is_err());
        assert!(other.try_recv().is_err());
    }

    #[test]
    fn a_connection_that_is_removed_leaves_nothing_behind() {
        let registry = Registry::default();
        let _controls = registry.add(ConnectionId(1), &session(1, 1));

        registry.remove(ConnectionId(1));

        assert_eq!(registry.len(), 0);
        assert!(registry.live.lock().holders.is_empty());
    }

    fn session(id: u8, generation: u64) -> OwnedSession {
        let tenant = Tenant::parse("acme").expect("tenant");
        let session = SessionId::from_bytes([id; 16]);
        OwnedSession { key: SessionKey { tenant, session }, generation: Generation(generation) }
    }
}
