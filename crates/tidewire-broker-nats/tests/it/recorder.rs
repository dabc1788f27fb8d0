//! What the broker counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use parking_lot::Mutex;
use tidewire_broker_nats::{NatsBroker, NatsConfig};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::cluster::node;

/// Keeps every counter and gauge by name and labels, such as `errors{kind=version}`.
#[derive(Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<HashMap<String, Arc<AtomicU64>>>>);

impl Recorded {
    /// Connects a broker that counts here and nowhere else.
    pub(crate) async fn connect(&self, config: NatsConfig, name: &'static str) -> NatsBroker {
        let recorder = self.clone();
        let runtime = Handle::current();
        // The handles are resolved on the thread that connects.
        let connect = move || {
            with_local_recorder(&recorder, || {
                runtime.block_on(NatsBroker::connect(config, node(name)))
            })
        };
        spawn_blocking(connect).await.expect("connecting does not panic").expect("a valid config")
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.0.lock().get(name).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    pub(crate) fn gauge(&self, name: &str) -> f64 {
        f64::from_bits(self.counter(name))
    }

    fn slot(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = match labels.as_slice() {
            [] => key.name().to_owned(),
            labels => format!("{}{{{}}}", key.name(), labels.join(",")),
        };
        self.0.lock().entry(name).or_default().clone()
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.slot(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.slot(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
