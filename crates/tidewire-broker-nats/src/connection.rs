use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectError, Event, Server};
use parking_lot::Mutex;
use tidewire_broker::BrokerError;
use tidewire_model::NodeId;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Endpoint;
use crate::metrics::{LOG_INTERVAL, Metrics, Trouble};
use crate::throttle::Throttle;

/// The two connections of a broker, and what they last said about themselves.
pub(crate) struct Connections {
    /// Publications, announcements, and the subscriptions to them.
    pub(crate) data: Client,
    /// Notices, and the probes that come back.
    pub(crate) control: Client,
    pub(crate) signals: Arc<Signals>,
    address: String,
}

impl Connections {
    /// Begins to connect, and goes on trying until `stop` is cancelled.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        node: &NodeId,
        metrics: &Arc<Metrics>,
        stop: &CancellationToken,
    ) -> Result<Self, ConnectError> {
        let signals = Arc::new(Signals::new(metrics.clone()));
        let [data, control] = [format!("{node} data"), format!("{node} control")];
        Ok(Self {
            data: open(endpoint, &data, &signals, stop).await?,
            control: open(endpoint, &control, &signals, stop).await?,
            signals,
            address: endpoint.address.clone(),
        })
    }

    pub(crate) fn health(&self) -> Result<(), BrokerError> {
        let connected = |client: &Client| client.connection_state() == State::Connected;
        if connected(&self.data) && connected(&self.control) {
            return Ok(());
        }
        let last_error = self.signals.last_error.lock().clone();
        Err(self.unavailable(last_error.unwrap_or_else(|| "not connected yet".into())))
    }

    pub(crate) fn unavailable(&self, reason: String) -> BrokerError {
        BrokerError::Unavailable { address: self.address.clone(), reason }
    }

    /// Closes both connections, unless a dead one takes no more commands within a second.
    pub(crate) async fn close(&self) {
        let drained = async { tokio::join!(self.data.drain(), self.control.drain()) };
        if timeout(Duration::from_secs(1), drained).await.is_err() {
            tracing::debug!("broker connection was not told to close");
        }
    }

    /// How often the data connection was established.
    pub(crate) fn data_connects(&self) -> u64 {
        self.data.statistics().connects.load(Ordering::Relaxed)
    }

    /// How often the control connection was established.
    pub(crate) fn control_connects(&self) -> u64 {
        self.control.statistics().connects.load(Ordering::Relaxed)
    }
}

async fn open(
    endpoint: &Endpoint,
    purpose: &str,
    signals: &Arc<Signals>,
    stop: &CancellationToken,
) -> Result<Client, ConnectError> {
    let (signals, failures, stop) = (signals.clone(), signals.clone(), stop.clone());
    let options = endpoint.options(purpose).expect("the endpoint was checked when it was made");
    options
        .retry_on_initial_connect()
        .no_echo()
        .ping_interval(PING_INTERVAL)
        .client_capacity(CLIENT_CAPACITY)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        // The library goes on trying even when its clients are gone, so it is put to sleep.
        .reconnect_delay_callback(move |attempt| {
            if stop.is_cancelled() { Duration::MAX } else { reconnect_delay(attempt) }
        })
        // Of a failed attempt, events give only the kind; the reason stands in the pool of servers.
        .reconnect_to_server_callback(move |servers, _| {
            failures.note_failures(&servers);
            std::future::ready(None)
        })
        .event_callback(move |event| {
            signals.note(&event);
            std::future::ready(())
        })
        .connect(endpoint.servers.clone())
        .await
}

/// What the client library reports in passing. It drops reports when they come too fast, so nothing
/// depends on seeing every one of them: connection counts are read from its statistics.
pub(crate) struct Signals {
    /// Wakes the link: something has changed.
    pub(crate) changed: Notify,
    /// Publications may have been lost, for another reason than a reconnect.
    pub(crate) suspect: AtomicBool,
    last_error: Mutex<Option<String>>,
    metrics: Arc<Metrics>,
    slow_log: Throttle,
}

impl Signals {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            changed: Notify::new(),
            suspect: AtomicBool::new(false),
            last_error: Mutex::new(None),
            metrics,
            slow_log: Throttle::new(LOG_INTERVAL),
        }
    }

    fn note(&self, event: &Event) {
        match event {
            Event::Connected => tracing::info!("broker connection established"),
            Event::Disconnected => {
                tracing::warn!("broker connection lost");
                self.metrics.up.set(0.0);
                *self.last_error.lock() = Some("connection lost".into());
            }
            Event::SlowConsumer(_) => self.note_slow_consumer(),
            Event::LameDuckMode => {
                tracing::warn!("broker is about to close its connections");
                self.suspect.store(true, Ordering::Release);
            }
            Event::ServerError(error) => {
                self.note_error(Trouble::Server, &error.to_string());
                *self.last_error.lock() = Some(error.to_string());
            }
            Event::ClientError(error) => {
                self.note_error(Trouble::Client, &error.to_string());
                self.last_error.lock().get_or_insert_with(|| error.to_string());
            }
            Event::Draining | Event::Closed => {}
        }
        self.changed.notify_one();
    }

    fn note_slow_consumer(&self) {
        self.metrics.slow_consumer.increment(1);
        self.suspect.store(true, Ordering::Release);
        if let Some(suppressed) = self.slow_log.admit(Instant::now()) {
            tracing::warn!(suppressed, "broker subscription overflowed");
        }
    }

    fn note_error(&self, trouble: Trouble, error: &str) {
        self.metrics.note(trouble);
        tracing::debug!(error, "broker error");
    }

    fn note_failures(&self, servers: &[Server]) {
        if let Some(failure) = servers.iter().find_map(|server| server.last_error.clone()) {
            *self.last_error.lock() = Some(failure);
        }
    }
}

/// 50 ms, doubling up to 2 s, of which a random half is left out: nodes that lost the same server
/// shall not all come back at once.
fn reconnect_delay(attempt: usize) -> Duration {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(2);
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let whole = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    // Every RandomState has other keys, which is all the randomness needed here.
    let drawn = RandomState::new().hash_one(attempt) % 1_000;
    whole / 2 + whole.mul_f64(f64::from(u32::try_from(drawn).expect("below 1,000")) / 2_000.0)
}

/// Two unanswered pings and a silent server is given up: 20 to 30 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Commands, mostly envelopes, between our outbox and the socket. Small, because the library counts
/// them and not their bytes; when it is full, our writer waits and our outbox fills.
const CLIENT_CAPACITY: usize = 128;

/// Messages of one partition that our reader has not come to. When it is full, the library drops
/// the newest and reports a slow consumer.
const SUBSCRIPTION_CAPACITY: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_lost_something_makes_suspicious() {
        for event in [Event::SlowConsumer(1), Event::LameDuckMode] {
            let signals = Signals::new(Arc::new(Metrics::new()));

            signals.note(&event);

            assert!(signals.suspect.load(Ordering::Acquire), "{event}");
        }
    }

    #[test]
    fn attempts_spread_out_and_are_never_more_than_two_seconds_apart() {
        let ranges = [(1, 25, 50), (2, 50, 100), (3, 100, 200), (7, 1_000, 2_000)];
        for (attempt, from, to) in ranges.into_iter().chain([(usize::MAX, 1_000, 2_000)]) {
            let delay = reconnect_delay(attempt).as_millis();
            assert!((from..=to).contains(&delay), "attempt {attempt}: {delay} ms");
        }
    }
}
