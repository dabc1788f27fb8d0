//! Judging who is connected anew, when something has been revoked: all of them, some in each turn.

use std::collections::HashSet;

use tidewire_model::{ConnectionId, Tenant};

use super::Worker;

/// Who is still to be judged.
#[derive(Default)]
pub(super) struct Rejudging {
    waiting: Vec<ConnectionId>,
    /// Tenants that are gone, with everybody who was here when this was said.
    ended: HashSet<Tenant>,
    /// More was said meanwhile, and is for another round. At most as many as there are tenants.
    more: Option<Vec<Tenant>>,
}

/// Connections judged in a turn: each is a few look-ups.
const A_TURN: usize = 512;

impl Rejudging {
    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Worker {
    /// Begins with everybody who is here now. Whoever comes later is judged when they come.
    pub(super) fn begin_to_rejudge(&mut self, ended: Vec<Tenant>) {
        let rejudging = &mut self.rejudging;
        if rejudging.has_work() {
            return rejudging.more.get_or_insert_default().extend(ended);
        }
        rejudging.ended = ended.into_iter().collect();
        rejudging.waiting = self.connections.ids();
    }

    pub(super) fn rejudge_some(&mut self) {
        if !self.rejudging.has_work() {
            return;
        }
        let rest = self.rejudging.waiting.len().saturating_sub(A_TURN);
        for id in self.rejudging.waiting.drain(rest..) {
            if let Some(connection) = self.connections.find(id) {
                connection.rejudge(&self.rejudging.ended, &mut self.cx);
            }
        }
        if !self.rejudging.has_work()
            && let Some(ended) = self.rejudging.more.take()
        {
            self.begin_to_rejudge(ended);
        }
    }
}
