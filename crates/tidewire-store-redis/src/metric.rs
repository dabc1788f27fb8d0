//! What is measured of the calls to Redis.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::error::CallError;
use crate::library::Function;

/// The handles, resolved once: install the recorder before making a connection.
pub(crate) struct Metrics {
    up: Gauge,
    functions: Vec<FunctionMetrics>,
}

struct FunctionMetrics {
    duration: Histogram,
    errors: [Counter; CallError::REASONS.len()],
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let of_function = |function: Function| {
            FunctionMetrics {
            duration: histogram!("tidewire_store_command_duration_seconds", "command" => function.name()),
            errors: CallError::REASONS.map(|reason| {
                counter!("tidewire_store_errors_total", "command" => function.name(), "reason" => reason)
            }),
        }
        };
        let functions = Function::ALL.into_iter().map(of_function).collect();
        Self { up: gauge!("tidewire_store_up"), functions }
    }

    /// Of a connection whose state operators are not shown.
    pub(crate) fn aside() -> Self {
        Self { up: Gauge::noop(), ..Self::new() }
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.set(if up { 1.0 } else { 0.0 });
    }

    /// Counts one call, answered or not.
    pub(crate) fn record<T>(
        &self,
        function: Function,
        took: Duration,
        result: &Result<T, CallError>,
    ) {
        let metrics = &self.functions[function as usize];
        metrics.duration.record(took);
        if let Err(error) = result {
            metrics.errors[error.reason_index()].increment(1);
        }
    }
}
