use std::collections::HashMap;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tidewire_auth::Verifier;
use tidewire_broker::Appended;
use tidewire_model::{Disconnect, Event, Failure, Tenant};
use tidewire_protocol::Frame;
use tokio::time::Instant;

/// The edge's metrics. What a connection needs often is resolved once per connection.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Empty unless metrics are kept per tenant.
    tenants: HashMap<Tenant, TenantMetrics>,
}

#[derive(Clone, Debug)]
struct TenantMetrics {
    connections: Gauge,
    received: Counter,
    sent: Counter,
}

/// Tenants with series of their own; the rest share one.
const MOST_TENANTS: usize = 500;

impl Metrics {
    pub(crate) fn new(per_tenant: bool, verifier: &Verifier) -> Self {
        let tenants = verifier.ring().tenants().filter(|_| per_tenant).enumerate();
        let tenants = tenants
            .map(|(index, tenant)| {
                let label = if index < MOST_TENANTS { tenant.as_str() } else { "_other" };
                (tenant.clone(), TenantMetrics::new(label))
            })
            .collect();
        Self { tenants }
    }

    /// Counts a connection that begins, until it has [`ConnectionMetrics::ended`].
    pub(crate) fn connection(&self, transport: &'static str, tenant: &Tenant) -> ConnectionMetrics {
        ConnectionMetrics::new(transport, self.tenants.get(tenant).cloned())
    }
}

pub(crate) fn rejected(reason: &'static str) {
    counter!("tidewire_connections_rejected_total", "transport" => "ws", "reason" => reason)
        .increment(1);
}

pub(crate) fn authenticated(method: &'static str, result: &'static str) {
    counter!("tidewire_auth_total", "method" => method, "result" => result).increment(1);
}

pub(crate) fn resumed(result: &'static str) {
    counter!("tidewire_sessions_resumed_total", "result" => result).increment(1);
}

pub(crate) fn refreshed(is_ok: bool) {
    let result = if is_ok { "ok" } else { "invalid" };
    counter!("tidewire_token_refresh_total", "result" => result).increment(1);
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

#[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
pub(crate) fn drain_remaining(connections: usize) {
    gauge!("tidewire_drain_remaining").set(connections as f64);
}

pub(crate) fn drain_killed(connections: usize) {
    counter!("tidewire_drain_connections_total", "outcome" => "killed")
        .increment(connections as u64);
}

pub(crate) fn drain_ended(took: Duration) {
    drain_remaining(0);
    gauge!("tidewire_drain_duration_seconds").set(took.as_secs_f64());
}

impl TenantMetrics {
    fn new(label: &str) -> Self {
        let messages = |direction: &'static str| {
            let tenant = label.to_owned();
            counter!("tidewire_tenant_messages_total", "tenant" => tenant, "direction" => direction)
        };
        Self {
            connections: gauge!("tidewire_tenant_connections", "tenant" => label.to_owned()),
            received: messages("in"),
            sent: messages("out"),
        }
    }
}

pub(crate) fn lagged() {
    counter!("tidewire_slow_consumers_total", "action" => "lag").increment(1);
}

/// One connection's handles.
#[derive(Debug)]
pub(crate) struct ConnectionMetrics {
    transport: &'static str,
    since: Instant,
    connections: Gauge,
    received: Counter,
    received_bytes: Counter,
    sent: Counter,
    sent_bytes: Counter,
    publish_ok: Counter,
    publish_seconds: Histogram,
    tenant: Option<TenantMetrics>,
}

impl ConnectionMetrics {
    fn new(transport: &'static str, tenant: Option<TenantMetrics>) -> Self {
        counter!("tidewire_connections_opened_total", "transport" => transport).increment(1);
        let connections = gauge!("tidewire_connections", "transport" => transport);
        connections.increment(1.0);
        if let Some(tenant) = &tenant {
            tenant.connections.increment(1.0);
        }
        Self {
            transport,
            since: Instant::now(),
            connections,
            received: counter!("tidewire_messages_received_total", "transport" => transport),
            received_bytes: counter!("tidewire_messages_received_bytes_total", "transport" => transport),
            sent: counter!("tidewire_messages_sent_total", "transport" => transport),
            sent_bytes: counter!("tidewire_messages_sent_bytes_total", "transport" => transport),
            publish_ok: counter!("tidewire_publish_total", "source" => "client", "result" => "ok"),
            publish_seconds: histogram!("tidewire_publish_duration_seconds", "source" => "client"),
            tenant,
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.increment(1);
        self.received_bytes.increment(bytes as u64);
        if let Some(tenant) = &self.tenant {
            tenant.received.increment(1);
        }
    }

    pub(crate) fn sent(&self, events: &[Event], frames: &[Frame]) {
        let count = events.iter().map(|event| match event {
            Event::Publications { publications, .. } => publications.len() as u64,
            _ => 1,
        });
        let count = count.sum();
        self.sent.increment(count);
        self.sent_bytes.increment(frames.iter().map(|frame| frame.bytes().len() as u64).sum());
        if let Some(tenant) = &self.tenant {
            tenant.sent.increment(count);
        }
    }

    pub(crate) fn published(&self, took: Duration, verdict: &Result<Appended, Failure>) {
        self.publish_seconds.record(took);
        match verdict {
            Ok(Appended { duplicate: false, .. }) => self.publish_ok.increment(1),
            verdict => {
                let result = result_of(verdict);
                counter!("tidewire_publish_total", "source" => "client", "result" => result)
                    .increment(1);
            }
        }
    }

    /// Counts the end: `None` when the client, or the network, has ended it.
    pub(crate) fn ended(&self, disconnect: Option<Disconnect>) {
        self.connections.decrement(1.0);
        if let Some(tenant) = &self.tenant {
            tenant.connections.decrement(1.0);
        }
        histogram!("tidewire_connection_duration_seconds", "transport" => self.transport)
            .record(self.since.elapsed());
        let initiator = if disconnect.is_some() { "server" } else { "client" };
        let code = disconnect.map_or("client".into(), |disconnect| disconnect.code().to_string());
        counter!(
            "tidewire_connections_closed_total",
            "transport" => self.transport, "initiator" => initiator, "code" => code
        )
        .increment(1);
        match disconnect {
            Some(Disconnect::Slow) => {
                counter!("tidewire_slow_consumers_total", "action" => "disconnect").increment(1);
            }
            Some(Disconnect::Moved) => {
                counter!("tidewire_drain_connections_total", "outcome" => "moved").increment(1);
            }
            Some(Disconnect::Draining) => {
                counter!("tidewire_drain_connections_total", "outcome" => "closed").increment(1);
            }
            _ => {}
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
