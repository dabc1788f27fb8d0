//! What a person sees while it runs: on a terminal a bar, elsewhere a line a second.

use std::io::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Load;
use crate::latency::Percentiles;
use crate::plan::Plan;
use crate::tally::Tally;

/// One second of publishing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Second {
    /// Counted from one, at the beginning of the warm-up.
    pub(crate) number: u32,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) latency: Percentiles,
    /// Up to now.
    #[serde(skip)]
    published_in_all: u64,
    #[serde(skip)]
    delivered_in_all: u64,
}

impl Second {
    /// What happened since the `last`.
    pub(crate) fn take(tally: &Tally, last: Option<&Self>) -> Self {
        let latency: Histogram<u64> = tally.latencies.take_second();
        let (published_in_all, delivered_in_all) =
            (tally.published.value(), tally.delivered.value());
        Self {
            number: last.map_or(0, |last| last.number) + 1,
            published: published_in_all - last.map_or(0, |last| last.published_in_all),
            delivered: delivered_in_all - last.map_or(0, |last| last.delivered_in_all),
            latency: Percentiles::from(&latency),
            published_in_all,
            delivered_in_all,
        }
    }
}

pub(crate) struct Progress {
    bar: ProgressBar,
    is_quiet: bool,
}

impl Progress {
    pub(crate) fn new(plan: &Plan) -> Self {
        let bar = if plan.is_quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(u64::from(plan.load.clients + plan.load.publishers))
        };
        bar.set_style(style("connecting {bar:30} {pos}/{len} ready"));
        Self { bar, is_quiet: plan.is_quiet }
    }

    pub(crate) fn show_connected(&self, tally: &Tally) {
        self.bar.set_position(tally.ready.value());
    }

    pub(crate) fn show(&self, second: &Second, load: &Load) {
        if second.number == 1 {
            self.bar.set_style(style("publishing {bar:30} {pos}/{len} s"));
            self.bar.set_length((load.warmup + load.duration).into());
        }
        self.bar.set_position(second.number.into());
        let Second { number, published, delivered, latency, .. } = second;
        let (p50, p99, max) = (in_ms(latency.p50_us), in_ms(latency.p99_us), in_ms(latency.max_us));
        let phase = if *number <= load.warmup { " (warm-up)" } else { "" };
        self.say(&format!(
            "{number:>4} s  published {published:>7}  delivered {delivered:>8}  latency p50 {p50}, \
             p99 {p99}, max {max}{phase}"
        ));
    }

    /// Says one line, above the bar if there is one.
    pub(crate) fn say(&self, line: &str) {
        if self.is_quiet {
            return;
        }
        if self.bar.is_hidden() {
            // There is nobody left to tell that standard error cannot be written to.
            drop(writeln!(std::io::stderr().lock(), "{line}"));
        } else {
            self.bar.println(line);
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}

/// Microseconds as milliseconds, to three digits or so.
pub(crate) fn in_ms(microseconds: u64) -> String {
    let ms = Duration::from_micros(microseconds).as_secs_f64() * 1_000.0;
    match microseconds {
        0..10_000 => format!("{ms:.2} ms"),
        10_000..100_000 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_digits_or_so() {
        assert_eq!(in_ms(0), "0.00 ms");
        assert_eq!(in_ms(1_234), "1.23 ms");
        assert_eq!(in_ms(12_345), "12.3 ms");
        assert_eq!(in_ms(1_234_567), "1235 ms");
    }
}
