mod admission;
mod drain;
mod limits;
mod placement;
mod slow;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::Mutex;
use tidewire_broker::Appended;
use tidewire_model::{Deltas, Disconnect, Envelope, Failure, Published, Tenant};

pub(crate) use self::admission::{
    addresses, authenticated, claiming, expired, first_frames, paced, refreshed, rejected, resumed,
    ticket, unjudged_address, waiting,
};
pub(crate) use self::drain::{
    drain_asked, drain_ended, drain_killed, drain_pace, drain_remaining, drain_state,
};
pub(crate) use self::limits::{limited, paused, pinged_too_often, quota_settled, quotas_kept};
pub(crate) use self::placement::{
    misrouted, misrouted_ended, rebalance_asked, rebalance_excess, rebalance_rests, rebalanced,
    redirected,
};
pub(crate) use self::slow::{
    SlowConsumer, Waiting, lagged, overflowed, skipped, told_of_skipping, too_slow,
};

/// The edge's metrics. What a connection needs often is resolved once.
#[derive(Debug)]
pub(crate) struct Metrics {
    received: Counter,
    received_bytes: Counter,
    sent: Counter,
    sent_bytes: Counter,
    publish_ok: Counter,
    publish_seconds: Histogram,
    deltas: Counter,
    delta_full: Counter,
    delta_saved_bytes: Counter,
    unsent: Gauge,
    unfinished: Gauge,
    /// Of tenants that have had a connection, if metrics are kept per tenant.
    tenants: Option<Mutex<HashMap<Tenant, Arc<TenantMetrics>>>>,
}

#[derive(Debug)]
pub(crate) struct TenantMetrics {
    label: String,
    connections: Gauge,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
}

/// How clients reach this edge, for labels.
const WEBSOCKET: &str = "ws";

/// Tenants with series of their own; the rest share one.
const MOST_TENANTS: usize = 500;

impl Metrics {
    pub(crate) fn new(per_tenant: bool) -> Self {
        let messages = |name: &'static str| counter!(name, "transport" => WEBSOCKET);
        Self {
            received: messages("tidewire_messages_received_total"),
            received_bytes: messages("tidewire_messages_received_bytes_total"),
            sent: messages("tidewire_messages_sent_total"),
            sent_bytes: messages("tidewire_messages_sent_bytes_total"),
            publish_ok: counter!("tidewire_publish_total", "source" => "client", "result" => "ok"),
            publish_seconds: histogram!("tidewire_publish_duration_seconds", "source" => "client"),
            deltas: counter!("tidewire_delta_total", "result" => "delta"),
            delta_full: counter!("tidewire_delta_total", "result" => "full"),
            delta_saved_bytes: counter!("tidewire_delta_saved_bytes_total"),
            unsent: gauge!("tidewire_unsent_bytes"),
            unfinished: gauge!("tidewire_unfinished_bytes"),
            tenants: per_tenant.then(Mutex::default),
        }
    }

    /// The tenant's own, where they are kept. Of more than 500 tenants those that come later share
    /// theirs.
    pub(crate) fn tenant(&self, tenant: &Tenant) -> Option<Arc<TenantMetrics>> {
        let mut tenants = self.tenants.as_ref()?.lock();
        if let Some(known) = tenants.get(tenant) {
            return Some(Arc::clone(known));
        }
        if tenants.len() >= MOST_TENANTS {
            return Some(Arc::new(TenantMetrics::new("_other")));
        }
        let new = Arc::new(TenantMetrics::new(tenant.as_str()));
        tenants.insert(tenant.clone(), Arc::clone(&new));
        Some(new)
    }
}

/// What connections of a worker have counted in a turn.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    /// What has come to be unsent, less what is no more, in bytes.
    pub(crate) unsent: i64,
    /// The same of what is held of messages that are not complete.
    pub(crate) unfinished: i64,
    published: u64,
    deltas: Tally,
}

/// Publications for clients that take deltas, by what became of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    deltas: u64,
    full: u64,
    /// Bytes of payload that deltas made unnecessary.
    saved: u64,
}

impl Tally {
    /// Of publications that have been written.
    pub(crate) fn of(publications: &[Arc<Envelope>], deltas: Deltas) -> Self {
        let mut tally = Self::default();
        let mut deltas = deltas;
        for envelope in publications {
            match (deltas, envelope.known_delta()) {
                (Deltas::Unasked, _) => return tally,
                (Deltas::Based(_), Some(delta)) => {
                    tally.deltas += 1;
                    tally.saved += envelope.payload.len().saturating_sub(delta.len()) as u64;
                }
                (Deltas::Baseless(_), _) | (Deltas::Based(_), None) => tally.full += 1,
            }
            deltas = deltas.after_sending();
        }
        tally
    }
}

impl Counts {
    pub(crate) fn tally(&mut self, tally: Tally) {
        self.deltas.deltas += tally.deltas;
        self.deltas.full += tally.full;
        self.deltas.saved += tally.saved;
    }

    pub(crate) fn published(
        &mut self,
        took: Duration,
        outcome: &Result<Published, Failure>,
        metrics: &Metrics,
    ) {
        metrics.publish_seconds.record(took);
        match outcome {
            Ok(Published { duplicate: false, .. }) => self.published += 1,
            Ok(_) => published("client", "duplicate"),
            Err(failure) => published("client", failure.code.as_str()),
        }
    }

    /// Adds what was counted to the metrics, and begins anew.
    pub(crate) fn publish(&mut self, metrics: &Metrics) {
        let counters = [
            (&metrics.received, self.received),
            (&metrics.received_bytes, self.received_bytes),
            (&metrics.sent, self.sent),
            (&metrics.sent_bytes, self.sent_bytes),
            (&metrics.publish_ok, self.published),
            (&metrics.deltas, self.deltas.deltas),
            (&metrics.delta_full, self.deltas.full),
            (&metrics.delta_saved_bytes, self.deltas.saved),
        ];
        for (counter, count) in counters {
            if count > 0 {
                counter.increment(count);
            }
        }
        for (gauge, change) in
            [(&metrics.unsent, self.unsent), (&metrics.unfinished, self.unfinished)]
        {
            if change != 0 {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                gauge.increment(change as f64);
            }
        }
        *self = Self::default();
    }
}

fn published(source: &'static str, result: &'static str) {
    counter!("tidewire_publish_total", "source" => source, "result" => result).increment(1);
}

/// Counts a connection that has a session, until it has [`ended`].
pub(crate) fn began(tenant: Option<&TenantMetrics>) {
    counter!("tidewire_connections_opened_total", "transport" => WEBSOCKET).increment(1);
    gauge!("tidewire_connections", "transport" => WEBSOCKET).increment(1.0);
    if let Some(tenant) = tenant {
        tenant.connections.increment(1.0);
    }
}

/// How a connection with a session came to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    ByServer(Disconnect),
    /// The client, or the network, has ended it.
    ByClient,
    /// So it has, after it moved as it was asked to.
    Moved,
}

/// Counts the end of a connection.
pub(crate) fn ended(lasted: Duration, tenant: Option<&TenantMetrics>, end: End) {
    gauge!("tidewire_connections", "transport" => WEBSOCKET).decrement(1.0);
    if let Some(tenant) = tenant {
        tenant.connections.decrement(1.0);
    }
    histogram!("tidewire_connection_duration_seconds", "transport" => WEBSOCKET).record(lasted);
    let (initiator, code) = match end {
        End::ByServer(disconnect) => ("server", disconnect.code().to_string()),
        End::ByClient | End::Moved => ("client", "client".into()),
    };
    counter!(
        "tidewire_connections_closed_total",
        "transport" => WEBSOCKET, "initiator" => initiator, "code" => code
    )
    .increment(1);
    let drained = |outcome: &'static str| {
        counter!("tidewire_drain_connections_total", "outcome" => outcome).increment(1);
    };
    match end {
        End::ByServer(Disconnect::Slow) => too_slow(),
        End::Moved | End::ByServer(Disconnect::Moved) => drained("moved"),
        End::ByServer(Disconnect::Draining) => drained("closed"),
        _ => {}
    }
}

/// Records a turn of a worker that took long.
pub(crate) fn long_turn(took: Duration) {
    histogram!("tidewire_long_turn_seconds").record(took);
}

/// A client was disconnected because it, or its tenant, may not be here any more.
pub(crate) fn revoked() {
    counter!("tidewire_revoked_connections_total").increment(1);
}

pub(crate) fn api_request(code: u16, took: Duration) {
    let code = code.to_string();
    counter!("tidewire_api_requests_total", "api" => "http", "method" => "publish", "code" => code)
        .increment(1);
    histogram!("tidewire_api_duration_seconds", "api" => "http", "method" => "publish")
        .record(took);
}

pub(crate) fn api_published(verdict: &Result<Appended, Failure>) {
    counter!("tidewire_publish_total", "source" => "api", "result" => result_of(verdict))
        .increment(1);
}

impl TenantMetrics {
    fn new(label: &str) -> Self {
        let messages = |direction: &'static str| {
            let tenant = label.to_owned();
            counter!("tidewire_tenant_messages_total", "tenant" => tenant, "direction" => direction)
        };
        Self {
            label: label.to_owned(),
            connections: gauge!("tidewire_tenant_connections", "tenant" => label.to_owned()),
            received: messages("in"),
            sent: messages("out"),
        }
    }
}

fn result_of(verdict: &Result<Appended, Failure>) -> &'static str {
    match verdict {
        Ok(Appended { duplicate: true, .. }) => "duplicate",
        Ok(_) => "ok",
        Err(failure) => failure.code.as_str(),
    }
}
