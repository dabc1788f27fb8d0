use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tidewire_edge::Render;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Seconds, from what a publication takes on one machine to what nobody should wait for.
const LATENCIES: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];
const COUNTS: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 100_000.0];
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Sends logs to standard error: for people on a terminal, as JSON otherwise.
pub(crate) fn start_logging(level: &str, format: LogFormat) -> anyhow::Result<()> {
    // The NATS client tells of every event; what matters of them is told by the broker.
    let filter = EnvFilter::try_new(format!("async_nats=warn,{level}"))?;
    let is_human = match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if is_human {
        logs.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        logs.json().flatten_event(true).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Installs the recorder of metrics and says how to render them. Needs to come before anything
/// that is measured; the upkeep runs on the current runtime until it ends.
pub(crate) fn start_metrics() -> anyhow::Result<(PrometheusHandle, Render)> {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&LATENCIES)?
        .set_buckets_for_metric(Matcher::Full("tidewire_broadcast_recipients".into()), &COUNTS)?
        .set_buckets_for_metric(Matcher::Full("tidewire_recovered_messages".into()), &COUNTS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).context("metrics have a recorder already")?;
    describe();
    let process = metrics_process::Collector::default();
    process.describe();
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("tidewire_node_start_timestamp_seconds").set(since_epoch.as_secs_f64());
    gauge!(
        "tidewire_build_info",
        "version" => env!("CARGO_PKG_VERSION"),
        "commit" => option_env!("TIDEWIRE_COMMIT").unwrap_or("unknown")
    )
    .set(1.0);
    start_alerting_counters();
    let rendered = handle.clone();
    let render = Arc::new(move || {
        process.collect();
        rendered.render()
    });
    Ok((handle, render))
}

/// An alert on an increase needs to see the value before it.
fn start_alerting_counters() {
    counter!("tidewire_connections_misrouted_total").absolute(0);
    gauge!("tidewire_rebalance_resting").increment(0.0);
    counter!("tidewire_messages_dropped_total", "reason" => "broker_gap").absolute(0);
    for outcome in ["moved", "closed", "killed"] {
        counter!("tidewire_drain_connections_total", "outcome" => outcome).absolute(0);
    }
}

/// Histograms keep every sample until somebody drains them; a node that nobody scrapes must not
/// grow for it.
pub(crate) async fn keep_up(handle: PrometheusHandle) {
    let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
    loop {
        upkeep.tick().await;
        handle.run_upkeep();
    }
}

/// One of these is 1.
pub(crate) fn set_state(current: &'static str) {
    for state in ["starting", "ready", "draining", "stopped"] {
        gauge!("tidewire_node_state", "state" => state).set(f64::from(u8::from(state == current)));
    }
}

fn describe() {
    describe_clients();
    describe_workers();
    describe_limits();
    describe_placement();
    describe_engine();
    describe_presence();
    describe_adapters();
}

fn describe_placement() {
    describe_counter!(
        "tidewire_connections_misrouted_total",
        "Connections of tenants that were not at home here."
    );
    describe_gauge!(
        "tidewire_connections_misrouted",
        "Connections of tenants that were not at home here when they came."
    );
    describe_counter!(
        "tidewire_connections_redirected_total",
        "Such connections that were told where their tenant is at home."
    );
    describe_gauge!("tidewire_rebalance_excess", "Clients above this node's share.");
    describe_counter!(
        "tidewire_rebalance_asked_total",
        "Clients asked to go to nodes that have fewer."
    );
    describe_counter!(
        "tidewire_rebalance_clients_total",
        "What became of them: moved, returned to this node, stayed."
    );
    describe_gauge!(
        "tidewire_rebalance_resting",
        "1 while nobody is asked because most stayed or came back."
    );
}

fn describe_adapters() {
    describe_gauge!("tidewire_broker_up", "1 while NATS can be reached.");
    describe_gauge!("tidewire_broker_deaf", "1 while NATS does not bring what others publish.");
    describe_gauge!("tidewire_broker_subscriptions", "Partitions this node receives.");
    describe_counter!("tidewire_broker_messages_total", "Envelopes to and from NATS.");
    describe_counter!("tidewire_broker_bytes_total", "Bytes of envelopes to and from NATS.");
    describe_counter!("tidewire_broker_errors_total", "What went wrong with NATS, by kind.");
    describe_counter!("tidewire_broker_reconnects_total", "Times NATS was lost and found.");
    describe_counter!("tidewire_broker_slow_consumer_total", "Times NATS dropped for us.");
    describe_gauge!("tidewire_store_up", "1 while Redis can be reached.");
    describe_counter!("tidewire_store_errors_total", "Calls of Redis that failed.");
    describe_histogram!("tidewire_store_command_duration_seconds", "How long calls took.");
}

fn describe_clients() {
    describe_gauge!("tidewire_build_info", "What is running; always 1.");
    describe_gauge!("tidewire_node_start_timestamp_seconds", "When the node started.");
    describe_gauge!("tidewire_node_state", "1 for the state the node is in.");
    describe_gauge!("tidewire_handshakes", "Clients whose session is claimed, or waits for that.");
    let first = "Bytes of first frames, of what is more than 8 KiB of one.";
    describe_gauge!("tidewire_first_frames_bytes", first);
    describe_gauge!("tidewire_connections", "Connections with a session.");
    describe_counter!("tidewire_connections_opened_total", "Connections that got a session.");
    describe_counter!("tidewire_connections_rejected_total", "Connections that did not.");
    describe_door();
    describe_memory();
    describe_counter!(
        "tidewire_connections_closed_total",
        "Connections that ended, by close code."
    );
    describe_histogram!("tidewire_connection_duration_seconds", "How long connections lasted.");
    describe_counter!("tidewire_sessions_resumed_total", "Attempts to resume a session.");
    describe_counter!("tidewire_auth_total", "Credentials verified.");
    describe_counter!("tidewire_jwks_fetches_total", "Fetches of issuers' keys.");
    describe_counter!(
        "tidewire_jwks_unknown_kid_total",
        "Tokens that named a key of an issuer that was not known, by whether it was fetched then."
    );
    describe_gauge!("tidewire_jwks_keys", "Keys that issuers have published.");
    describe_gauge!(
        "tidewire_jwks_oldest_success_seconds",
        "Since the keys of the issuer were fetched for which that is longest ago."
    );
    describe_counter!("tidewire_token_refresh_total", "Credentials replaced on live connections.");
    describe_counter!("tidewire_tickets_total", "One-time tickets, by what became of them.");
    let expired = "Connections paused because their credential ran out.";
    describe_counter!("tidewire_tokens_expired_total", expired);
    describe_counter!("tidewire_publish_total", "Publications, by where from and how it went.");
    describe_histogram!("tidewire_publish_duration_seconds", "From accepting to acknowledging.");
    describe_counter!("tidewire_messages_received_total", "Frames from clients.");
    describe_counter!("tidewire_messages_received_bytes_total", "Bytes of frames from clients.");
    describe_counter!("tidewire_messages_sent_total", "Publications and other events to clients.");
    describe_counter!("tidewire_messages_sent_bytes_total", "Bytes of frames to clients.");
    describe_counter!("tidewire_messages_dropped_total", "What was dropped; the log has it.");
    describe_counter!(
        "tidewire_delta_total",
        "Publications sent to clients that take deltas, as one or in full."
    );
    describe_counter!(
        "tidewire_delta_saved_bytes_total",
        "Bytes of payload that clients were spared by deltas."
    );
}

fn describe_workers() {
    describe_counter!(
        "tidewire_fan_out_overflow_total",
        "Channels that a worker had no room for; their subscribers catch up from the log."
    );
    describe_histogram!(
        "tidewire_long_turn_seconds",
        "Turns of a worker in which nobody else was served for more than 2 ms."
    );
    describe_gauge!("tidewire_fan_out_waiting", "What waits in workers to be handed out, by kind.");
    describe_counter!(
        "tidewire_slow_consumers_total",
        "Times clients read too slowly, by what came of it."
    );
    describe_counter!(
        "tidewire_skipped_publications_total",
        "Publications left out for clients that read too slowly, which were told."
    );
    describe_gauge!("tidewire_slow_consumers", "Clients that are slow now.");
    describe_gauge!(
        "tidewire_unfinished_bytes",
        "Bytes held of messages of clients that are not complete, but for first ones."
    );
    describe_counter!(
        "tidewire_excess_controls_total",
        "Times a client sent more pings, or pongs that nobody asked for, than it may."
    );
    describe_gauge!("tidewire_unsent_bytes", "Bytes queued for clients that do not take them yet.");
}

fn describe_door() {
    let paced = "Times a listener waited until it shook hands again: more came than its pace.";
    describe_counter!("tidewire_handshakes_paced_total", paced);
    describe_gauge!("tidewire_addresses", "Addresses whose connections are counted.");
    let unjudged = "Connections of addresses that there was no room to count.";
    describe_counter!("tidewire_unjudged_addresses_total", unjudged);
}

fn describe_memory() {
    describe_gauge!("tidewire_memory_bytes", "Memory there is for the node, and what is used.");
    let pressure =
        "0 at ease, 1 when channels remember less, 2 when nobody new is let in, 3 when nobody is.";
    describe_gauge!("tidewire_memory_pressure", pressure);
}

fn describe_limits() {
    describe_counter!("tidewire_limited_total", "What was refused for a limit, by its key.");
    describe_counter!("tidewire_tenant_limited_total", "The same of each tenant.");
    let unjudged = "Publications of channels that there was no room to judge.";
    describe_counter!("tidewire_unjudged_channels_total", unjudged);
    describe_gauge!("tidewire_paused_connections", "Connections not read for not heeding limits.");
    describe_counter!("tidewire_quota_settles_total", "Parts of tenants' quotas that were leased.");
    let age = "Since the lease of a tenant's quotas that is the oldest was heard of.";
    describe_gauge!("tidewire_quota_age_seconds", age);
    let fallback = "Tenants whose quotas cannot be leased: this node takes its part by number.";
    describe_gauge!("tidewire_quota_fallback", fallback);
}

fn describe_presence() {
    describe_gauge!("tidewire_presence_members", "Members that clients of this node have made.");
    describe_gauge!("tidewire_presence_unsaid", "Members of whom the store is still to be told.");
    describe_gauge!("tidewire_presence_watched_channels", "Channels whose members are watched.");
    describe_gauge!(
        "tidewire_presence_counted_channels",
        "Channels whose subscribers are counted."
    );
    describe_counter!("tidewire_presence_changes_total", "Changes told from here, by kind.");
    describe_counter!("tidewire_presence_stale_total", "Words of members that had moved on.");
    describe_counter!("tidewire_presence_failed_calls_total", "Calls to be repeated.");
    describe_counter!("tidewire_presence_lost_total", "Watched channels that missed a change.");
    describe_counter!("tidewire_presence_swept_total", "Members of dead nodes marked as away.");
    describe_counter!("tidewire_presence_asserted_total", "Members told again, by reason.");
}

fn describe_engine() {
    describe_gauge!("tidewire_channels", "Channels with a subscriber in step.");
    describe_gauge!("tidewire_subscriptions", "Subscribers in step, over all channels.");
    describe_histogram!("tidewire_broadcast_recipients", "Subscribers per publication.");
    describe_counter!("tidewire_deliveries_total", "Publications put into subscribers' queues.");
    describe_counter!("tidewire_gaps_total", "Gaps announced to subscribers.");
    let uncertain = "Publications of durable channels stored, but without enough copies in time.";
    describe_counter!("tidewire_durable_uncertain_total", uncertain);
    describe_counter!("tidewire_forks_total", "Channels compared with a log that failed over.");
    describe_counter!("tidewire_healed_total", "Publications stored again after a failover.");
    let unsure = "Acknowledged publications that could not be compared with the log.";
    describe_counter!("tidewire_heal_abandoned_total", unsure);
    describe_gauge!("tidewire_origin_tail_bytes", "Acknowledged publications remembered.");
    let reach = "How far back, in seconds, all acknowledged publications are remembered.";
    describe_gauge!("tidewire_origin_tail_seconds", reach);
    describe_counter!("tidewire_log_reads_total", "Reads of the log to repair a channel.");
    describe_counter!("tidewire_polled_channels_total", "Channels compared for want of NATS.");
    describe_counter!("tidewire_recover_total", "Subscriptions that named a position.");
    describe_histogram!("tidewire_recovered_messages", "Publications replayed per recovery.");
    describe_counter!("tidewire_api_requests_total", "Requests to the HTTP API.");
    describe_histogram!("tidewire_api_duration_seconds", "How long HTTP requests took.");
    let expiry = "When the certificate that clients are shown expires.";
    describe_gauge!("tidewire_tls_certificate_expiry_timestamp_seconds", expiry);
    describe_counter!("tidewire_tls_reloads_total", "Times a certificate's files were replaced.");
    describe_gauge!("tidewire_drain_state", "1 for the state a drain is in.");
    describe_gauge!("tidewire_drain_rate", "Clients asked to move, per second.");
    describe_gauge!("tidewire_drain_held", "1 while nobody is asked, as nobody could resume.");
    describe_counter!("tidewire_drain_asked_total", "Clients that were asked to move.");
    describe_gauge!("tidewire_drain_remaining", "Connections a draining node still has.");
    describe_counter!("tidewire_drain_connections_total", "How connections left a draining node.");
    describe_gauge!("tidewire_drain_duration_seconds", "How long the drain took.");
    describe_counter!("tidewire_registry_reads_total", "Reads of the registry of tenants.");
    describe_gauge!("tidewire_revocations", "What has been revoked, as this node knows it.");
    describe_gauge!(
        "tidewire_cut_off",
        "1 while something may be revoked that this node cannot learn."
    );
    describe_counter!("tidewire_revocation_reads_total", "Reads of what has been revoked.");
    describe_counter!(
        "tidewire_revoked_connections_total",
        "Clients disconnected because they, or their tenant, were revoked."
    );
    describe_gauge!("tidewire_registry_tenants", "Tenants in the registry, as this node knows it.");
    describe_gauge!("tidewire_registry_unreadable", "Tenants whose newest document is unreadable.");
    describe_counter!("tidewire_admin_requests_total", "Requests to the admin listener.");
    describe_gauge!("tidewire_tenant_connections", "Connections per tenant.");
    describe_counter!("tidewire_tenant_messages_total", "Messages per tenant.");
}
