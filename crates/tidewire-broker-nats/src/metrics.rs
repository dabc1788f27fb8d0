use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use tokio::time::Instant;

use crate::throttle::Throttle;

/// The handles of this broker's metrics. They are resolved once, so the recorder has to be installed
/// before the broker connects.
pub(crate) struct Metrics {
    pub(crate) up: Gauge,
    pub(crate) reconnects: Counter,
    pub(crate) subscriptions: Gauge,
    pub(crate) slow_consumer: Counter,
    pub(crate) incoming: Traffic,
    pub(crate) outgoing: Traffic,
    dropped: Counter,
    trouble: [(Counter, Throttle); Trouble::ALL.len()],
}

pub(crate) struct Traffic {
    messages: Counter,
    bytes: Counter,
}

/// What can go wrong, as the `kind` of `tidewire_broker_errors_total`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trouble {
    /// An envelope of another version arrived.
    Version,
    /// An envelope of an unknown kind arrived.
    Kind,
    /// Something that is no envelope arrived.
    Malformed,
    /// An envelope arrived on a subject that is not its own, perhaps another tenant's.
    Misdirected,
    /// The queue towards the node was full.
    EventQueueFull,
    /// The queue towards NATS was full.
    OutboxFull,
    /// An envelope was larger than the server takes.
    PayloadTooLarge,
    /// The client library would not send or subscribe.
    Client,
    /// The server reported an error.
    Server,
    /// NATS did not confirm a subscription in time.
    Unconfirmed,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            up: gauge!("tidewire_broker_up"),
            reconnects: counter!("tidewire_broker_reconnects_total"),
            subscriptions: gauge!("tidewire_broker_subscriptions"),
            slow_consumer: counter!("tidewire_broker_slow_consumer_total"),
            incoming: Traffic::new("in"),
            outgoing: Traffic::new("out"),
            dropped: counter!("tidewire_messages_dropped_total", "reason" => "broker_gap"),
            trouble: Trouble::ALL.map(|trouble| {
                let errors = counter!("tidewire_broker_errors_total", "kind" => trouble.label());
                (errors, Throttle::new(LOG_INTERVAL))
            }),
        }
    }

    /// Counts a trouble and, at most once per second and kind, logs it.
    pub(crate) fn note(&self, trouble: Trouble) {
        let (errors, throttle) = &self.trouble[trouble as usize];
        errors.increment(1);
        if trouble.loses_publications() {
            self.dropped.increment(1);
        }
        if let Some(suppressed) = throttle.admit(Instant::now()) {
            tracing::warn!(kind = trouble.label(), suppressed, "broker trouble");
        }
    }
}

impl Traffic {
    fn new(direction: &'static str) -> Self {
        Self {
            messages: counter!("tidewire_broker_messages_total", "direction" => direction),
            bytes: counter!("tidewire_broker_bytes_total", "direction" => direction),
        }
    }

    /// Counts one envelope.
    pub(crate) fn count(&self, bytes: usize) {
        self.messages.increment(1);
        self.bytes.increment(bytes as u64);
    }
}

impl Trouble {
    const ALL: [Self; 10] = [
        Self::Version,
        Self::Kind,
        Self::Malformed,
        Self::Misdirected,
        Self::EventQueueFull,
        Self::OutboxFull,
        Self::PayloadTooLarge,
        Self::Client,
        Self::Server,
        Self::Unconfirmed,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Kind => "kind",
            Self::Malformed => "malformed",
            Self::Misdirected => "misdirected",
            Self::EventQueueFull => "event_queue_full",
            Self::OutboxFull => "outbox_full",
            Self::PayloadTooLarge => "payload_too_large",
            Self::Client => "client",
            Self::Server => "server",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    fn loses_publications(self) -> bool {
        matches!(self, Self::EventQueueFull | Self::OutboxFull | Self::PayloadTooLarge)
    }
}

pub(crate) const LOG_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_stands_at_its_own_place() {
        for (index, trouble) in Trouble::ALL.into_iter().enumerate() {
            assert_eq!(trouble as usize, index);
        }
    }
}
