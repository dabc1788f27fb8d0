//! What a worker takes in a turn, of each kind a bounded number.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tidewire_model::{Delivery, TenantChannel};
use tidewire_node::Ask;

use super::context::A_TURN;
use super::fan_out::{Clients as _, Served};
use super::{Context, EVENTS, Worker};
use crate::metrics;

/// Deliveries taken at once, and how often in one turn.
const DELIVERIES: usize = 1_024;
const BATCHES: usize = 8;
/// Futures' outcomes taken at once.
const OUTCOMES: usize = 256;
/// Orders taken at once: most are new clients, each of which costs as much as many publications.
const ORDERS: usize = 64;
/// What a turn's outcomes leave of it for orders, and these for whoever is connected: a crowd that
/// comes at once is not to keep those waiting who are there.
const FOR_ORDERS: u32 = A_TURN / 4 * 3;
const FOR_CLIENTS: u32 = A_TURN / 2;

impl Worker {
    pub(super) fn take_outcomes(&mut self) {
        for _ in 0..OUTCOMES {
            if !self.cx.has_left_but(FOR_ORDERS) {
                return;
            }
            let Some(Some((connection, outcome))) = self.cx.running.next().now_or_never() else {
                return;
            };
            self.finish(connection, outcome);
        }
    }

    pub(super) fn take_orders(&mut self) {
        for _ in 0..ORDERS {
            if !self.cx.has_left_but(FOR_CLIENTS) {
                return;
            }
            let Ok(order) = self.orders.try_recv() else { return };
            self.obey(order);
        }
    }

    /// A session that came back may have been here before.
    pub(super) fn take_tellings(&mut self) {
        while let Some((connection, control)) = self.cx.tellings.pop() {
            self.tell(connection, control);
        }
    }

    /// Takes what the shards have delivered: what is handed out later waits with its tenant, and keeps
    /// nobody else's from being taken.
    pub(super) fn take_deliveries(&mut self) {
        let mut deliveries = std::mem::take(&mut self.deliveries);
        for _ in 0..BATCHES {
            let count = self.inbox.take_ready(&mut deliveries, DELIVERIES);
            for delivery in deliveries.drain(..) {
                self.dispatch(delivery);
            }
            if count < DELIVERIES {
                break;
            }
        }
        self.deliveries = deliveries;
    }

    fn dispatch(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Publication(envelope) => {
                let overflowed = self.fan_out.push(envelope, self.cx.started);
                self.give_up(overflowed);
            }
            Delivery::Gap { channel, gap } => {
                let overflowed = self.fan_out.push_gap(channel, gap);
                self.give_up(overflowed);
            }
            Delivery::Joined { ref channel, .. } | Delivery::Lagged { ref channel, .. } => {
                let channel = channel.clone();
                if let Some(delivery) = self.fan_out.push_place(&channel, delivery) {
                    self.served().perform(delivery);
                }
            }
            Delivery::Published { .. } | Delivery::Told { .. } => self.served().perform(delivery),
        }
    }

    /// Has the places in a channel voided for which nothing more can be taken.
    fn give_up(&mut self, channel: Option<TenantChannel>) {
        if let Some(channel) = channel {
            metrics::overflowed();
            let outbox = self.cx.outbox.clone();
            self.cx.ask(Ask::GiveUp { channel, outbox });
        }
    }

    fn served(&mut self) -> Served<'_> {
        Served { connections: &mut self.connections, cx: &mut self.cx }
    }

    /// Reads those again who had more, each once.
    pub(super) fn take_again(&mut self) {
        let cx = &mut self.cx;
        cx.backlog.ask_again(&cx.shared.node);
        for _ in 0..self.cx.again.len() {
            let cx = &mut self.cx;
            if !cx.has_left() {
                return;
            }
            let Some(id) = cx.again.next(|tenant| cx.backlog.has(tenant)) else { return };
            if let Some(connection) = self.connections.find(id) {
                connection.read(cx);
            }
        }
    }

    pub(super) fn take_unpaused(&mut self) {
        while let Some(id) = self.cx.next_unpaused() {
            if let Some(connection) = self.connections.find(id) {
                connection.unpause(&mut self.cx);
            }
        }
    }

    /// Goes on reading those who have waited for room for a first frame.
    pub(super) fn take_first_frames(&mut self) {
        for id in self.cx.first_frames.next() {
            if let Some(connection) = self.connections.find(id) {
                connection.read_first(&mut self.cx);
            }
        }
    }

    pub(super) fn take_events(&mut self) {
        if !self.is_polling {
            return;
        }
        if let Err(error) = self.sockets.get_mut().poll(&mut self.events, Some(Duration::ZERO)) {
            tracing::debug!(%error, "poll was interrupted");
            return;
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            if let Some(connection) = self.connections.find(Context::id(event.token())) {
                connection.on_socket(event, &mut self.cx);
            }
        }
        self.is_polling = count == EVENTS;
    }

    pub(super) fn take_alarms(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.cx.wheel.take(self.cx.now, &mut due);
        for id in due.drain(..) {
            if let Some(connection) = self.connections.find(id) {
                connection.wake(&mut self.cx);
            }
        }
        self.due = due;
    }
}
