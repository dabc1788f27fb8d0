//! What a worker takes in a turn, of each kind a bounded number.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tidewire_model::Delivery;

use super::fan_out::perform;
use super::{Context, EVENTS, Worker};

/// Deliveries taken at once.
const DELIVERIES: usize = 1_024;
/// Futures' outcomes taken at once.
const OUTCOMES: usize = 256;
/// Orders taken at once: most are new clients, each of which costs as much as many publications.
const ORDERS: usize = 64;
impl Worker {
    pub(super) fn take_outcomes(&mut self) {
        for _ in 0..OUTCOMES {
            let Some(Some((connection, outcome))) = self.cx.running.next().now_or_never() else {
                return;
            };
            self.finish(connection, outcome);
        }
    }

    pub(super) fn take_orders(&mut self) {
        for _ in 0..ORDERS {
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

    /// Takes what the shards have delivered, unless what they delivered before is yet to be handed
    /// out.
    pub(super) fn take_deliveries(&mut self) {
        if self.fan_out.is_full() {
            return;
        }
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.inbox.take_ready(&mut deliveries, DELIVERIES);
        for delivery in deliveries.drain(..) {
            self.dispatch(delivery);
        }
        self.deliveries = deliveries;
    }

    fn dispatch(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Publication(envelope) => self.fan_out.push(envelope, self.cx.started),
            Delivery::Gap { channel, gap } => self.fan_out.push_gap(channel, gap),
            Delivery::Joined { ref channel, .. } | Delivery::Lagged { ref channel, .. } => {
                let channel = channel.clone();
                if let Some(delivery) = self.fan_out.push_place(&channel, delivery) {
                    perform(delivery, &mut self.connections, &mut self.cx);
                }
            }
            Delivery::Published { .. } => perform(delivery, &mut self.connections, &mut self.cx),
        }
    }

    pub(super) fn take_again(&mut self) {
        self.cx.ask_again();
        if !self.cx.backlog.is_empty() {
            return;
        }
        let mut again = std::mem::take(&mut self.cx.again);
        for id in again.drain(..) {
            if let Some(connection) = self.connections.find(id) {
                connection.read(&mut self.cx);
            }
        }
        if self.cx.again.is_empty() {
            self.cx.again = again;
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
