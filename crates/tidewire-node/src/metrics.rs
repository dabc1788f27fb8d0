use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use tidewire_model::{Joined, Recovery};

/// The engine's metrics, resolved once: a look-up hashes its labels each time.
pub(crate) struct Metrics {
    pub(crate) repair_reads: Counter,
    pub(crate) gaps: Counter,
    pub(crate) polled: Counter,
    /// Publications of another class than the channel has here: two nodes' rules differ.
    pub(crate) misclassified: Counter,
    /// Publications of channels that there was no room to judge.
    pub(crate) unjudged: Counter,
    /// Publications of durable channels that were kept and not acknowledged.
    pub(crate) uncertain: Counter,
    recipients: Histogram,
    sent: Counter,
    recovered_full: Counter,
    recovered_gap: Counter,
    recovered_publications: Histogram,
    channels: Gauge,
    subscriptions: Gauge,
    pub(crate) forks: Counter,
    pub(crate) healed: Counter,
    pub(crate) heals_abandoned: Counter,
    tail_bytes: Gauge,
    tail_seconds: Gauge,
    members: Gauge,
    unsaid: Gauge,
    watched: Gauge,
    counted: Gauge,
}

impl Metrics {
    /// The gauges are this shard's share; a scrape sees them apart by the `shard` label.
    pub(crate) fn new(shard: usize) -> Self {
        let shard = shard.to_string();
        Self {
            repair_reads: metrics::counter!("tidewire_log_reads_total", "reason" => "repair"),
            gaps: metrics::counter!("tidewire_gaps_total"),
            polled: metrics::counter!("tidewire_polled_channels_total"),
            misclassified: metrics::counter!("tidewire_messages_dropped_total", "reason" => "class"),
            unjudged: metrics::counter!("tidewire_unjudged_channels_total"),
            uncertain: metrics::counter!("tidewire_durable_uncertain_total"),
            recipients: metrics::histogram!("tidewire_broadcast_recipients"),
            sent: metrics::counter!("tidewire_deliveries_total"),
            recovered_full: metrics::counter!("tidewire_recover_total", "result" => "full"),
            recovered_gap: metrics::counter!("tidewire_recover_total", "result" => "gap"),
            recovered_publications: metrics::histogram!("tidewire_recovered_messages"),
            channels: metrics::gauge!("tidewire_channels", "shard" => shard.clone()),
            subscriptions: metrics::gauge!("tidewire_subscriptions", "shard" => shard.clone()),
            forks: metrics::counter!("tidewire_forks_total"),
            healed: metrics::counter!("tidewire_healed_total"),
            heals_abandoned: metrics::counter!("tidewire_heal_abandoned_total"),
            tail_bytes: metrics::gauge!("tidewire_origin_tail_bytes", "shard" => shard.clone()),
            tail_seconds: metrics::gauge!("tidewire_origin_tail_seconds", "shard" => shard.clone()),
            members: metrics::gauge!("tidewire_presence_members", "shard" => shard.clone()),
            unsaid: metrics::gauge!("tidewire_presence_unsaid", "shard" => shard.clone()),
            watched: metrics::gauge!("tidewire_presence_watched_channels", "shard" => shard.clone()),
            counted: metrics::gauge!("tidewire_presence_counted_channels", "shard" => shard),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
    pub(crate) fn delivered(&self, recipients: usize) {
        self.recipients.record(recipients as f64);
        self.sent.increment(recipients as u64);
    }

    #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
    pub(crate) fn recovered(&self, joined: &Joined) {
        match joined.recovery {
            Recovery::NotAsked => return,
            Recovery::Recovered | Recovery::Rewound => self.recovered_full.increment(1),
            Recovery::Failed(_) => self.recovered_gap.increment(1),
        }
        self.recovered_publications.record(joined.missed.len() as f64);
    }

    #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
    pub(crate) fn subscriptions(&self, channels: usize, subscriptions: usize) {
        self.channels.set(channels as f64);
        self.subscriptions.set(subscriptions as f64);
    }

    /// How many members are here, how many of them the store has not been told of, and how many channels
    /// somebody here watches.
    #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
    pub(crate) fn presence(&self, [members, unsaid, watched, counted]: [usize; 4]) {
        self.members.set(members as f64);
        self.unsaid.set(unsaid as f64);
        self.watched.set(watched as f64);
        self.counted.set(counted as f64);
    }

    /// How much of what was acknowledged is remembered, and how far back that is all of it.
    #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
    pub(crate) fn tail(&self, bytes: usize, reaches_back: Duration) {
        self.tail_bytes.set(bytes as f64);
        self.tail_seconds.set(reaches_back.as_secs_f64());
    }
}
