use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// What a node sends and hears goes through its gate. A closed gate is how a node is killed: its tasks
/// go on, but nothing they do can be told from outside. Clones are the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: AtomicU8,
    opened: Notify,
}

const OPEN: u8 = 0;
const HELD: u8 = 1;
const CLOSED: u8 = 2;

impl Gate {
    pub(crate) fn is_open(&self) -> bool {
        self.0.state.load(Ordering::Relaxed) == OPEN
    }

    /// Lets nothing pass until [`Gate::open`].
    pub(crate) fn hold(&self) {
        self.change(OPEN, HELD);
    }

    pub(crate) fn open(&self) {
        self.change(HELD, OPEN);
        self.0.opened.notify_waiters();
    }

    /// Lets nothing pass ever again.
    pub(crate) fn close(&self) {
        self.0.state.store(CLOSED, Ordering::Relaxed);
    }

    fn change(&self, from: u8, to: u8) {
        // A gate that is closed stays closed.
        let change = |state| (state == from).then_some(to);
        self.0.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).ok();
    }

    /// Waits until the gate is open; for ever if it is closed.
    pub(crate) async fn pass(&self) {
        loop {
            let opened = self.0.opened.notified();
            if self.is_open() {
                return;
            }
            opened.await;
        }
    }
}
