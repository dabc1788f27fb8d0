use std::collections::HashMap;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use metrics::{counter, gauge};
use tidewire_auth::parse_set;
use tidewire_model::Tenant;
use tidewire_tenant::{KeySource, Tenants};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::queue::Queue;
pub use self::queue::Standing;
use super::{Asked, Fetch, Jwks};

mod queue;

/// How long keys are used that cannot be fetched again.
const STALE: Duration = Duration::from_hours(24);
/// How often it is looked whether tenants have changed, and whose keys are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often keys are fetched.
#[derive(Clone, Copy, Debug)]
pub struct JwksPace {
    /// How long fetched keys are taken for the newest, give or take a tenth, so that not all nodes fetch
    /// at once.
    pub fresh: Duration,
    /// After how long a fetch that failed is repeated; each time twice as long, up to `fresh`.
    pub retry: Duration,
    /// How far apart fetches are that clients have caused, for each issuer.
    pub apart: Duration,
}

impl Default for JwksPace {
    fn default() -> Self {
        Self {
            fresh: Duration::from_mins(10),
            retry: Duration::from_secs(30),
            apart: Duration::from_secs(30),
        }
    }
}

/// Keeps the keys of all issuers.
pub(crate) struct Keeper {
    tenants: Tenants,
    fetch: Fetch,
    pace: JwksPace,
    asked: mpsc::Receiver<Asked>,
    /// When it is looked next whose keys are due: however many ask, not for each of them.
    look_at: Instant,
    /// Of the tenants as they were last looked at.
    version: Option<u64>,
    issuers: HashMap<Tenant, Kept>,
    queue: Queue,
    fetches: FuturesUnordered<BoxFuture<'static, Fetched>>,
}

/// What is known of one tenant's issuer.
struct Kept {
    source: KeySource,
    /// When its keys were last fetched.
    fetched_at: Option<Instant>,
    /// When it was last begun to fetch them.
    begun_at: Option<Instant>,
    next_at: Instant,
    failures: u32,
    /// In the queue, or being fetched.
    is_under_way: bool,
    waiting: Vec<oneshot::Sender<bool>>,
}

struct Fetched {
    tenant: Tenant,
    /// When it began.
    standing: Standing,
    source: KeySource,
    answer: Result<Bytes, String>,
}

impl Keeper {
    /// Yields nothing if somebody keeps the keys already.
    pub(crate) fn new(
        jwks: &Jwks,
        tenants: Tenants,
        (fetch, pace): (Fetch, JwksPace),
    ) -> Option<Self> {
        let asked = jwks.asked.lock().take()?;
        Some(Self {
            tenants,
            fetch,
            pace,
            asked,
            look_at: Instant::now(),
            version: None,
            issuers: HashMap::new(),
            queue: Queue::default(),
            fetches: FuturesUnordered::new(),
        })
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = Instant::now();
            if now >= self.look_at {
                self.look_at = now + LOOK_EVERY;
                self.follow_tenants(now);
                self.queue_due(now);
            }
            self.begin(now);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(asked) = self.asked.recv() => self.take(asked, Instant::now()),
                Some(fetched) = self.fetches.next() => self.finish(fetched, Instant::now()),
                () = sleep_until(self.look_at) => {}
            }
        }
    }

    /// Begins with issuers that are new or have moved, and forgets those that are gone.
    fn follow_tenants(&mut self, now: Instant) {
        let version = self.tenants.version();
        if self.version == Some(version) {
            return;
        }
        self.version = Some(version);
        let sources: HashMap<_, _> = self.tenants.key_sources().into_iter().collect();
        self.issuers.retain(|tenant, _| sources.contains_key(tenant));
        for (tenant, source) in sources {
            match self.issuers.get_mut(&tenant) {
                Some(kept) if kept.source == source => {}
                Some(kept) => {
                    // What was published where it is no more is not to be believed.
                    self.tenants.publish(&tenant, &source.issuer, Vec::new());
                    let waiting = std::mem::take(&mut kept.waiting);
                    let is_under_way = kept.is_under_way;
                    *kept = Kept { is_under_way, waiting, ..Kept::new(source, now) };
                }
                None => {
                    self.issuers.insert(tenant, Kept::new(source, now));
                }
            }
        }
    }

    fn queue_due(&mut self, now: Instant) {
        for (tenant, kept) in &mut self.issuers {
            if kept.next_at <= now && !kept.is_under_way {
                kept.is_under_way = true;
                self.queue.push(tenant.clone(), kept.standing());
            }
        }
    }

    /// Begins as many fetches as there may be.
    fn begin(&mut self, now: Instant) {
        while let Some((tenant, standing)) = self.queue.begin() {
            let Some(kept) = self.issuers.get_mut(&tenant) else {
                self.queue.end(standing);
                continue;
            };
            kept.begun_at = Some(now);
            let source = kept.source.clone();
            let answer = (self.fetch)(&source.url, standing);
            self.fetches.push(Box::pin(async move {
                let answer = answer.await;
                Fetched { tenant, standing, source, answer }
            }));
        }
    }

    /// Has somebody wait for the keys, or sends them away if those that are here are as good as new, or
    /// their issuer does not answer.
    fn take(&mut self, asked: Asked, now: Instant) {
        self.follow_tenants(now);
        let Some(kept) = self.issuers.get_mut(&asked.tenant) else { return };
        let is_recent = kept.begun_at.is_some_and(|begun_at| now < begun_at + self.pace.apart);
        if !kept.is_under_way && is_recent {
            return;
        }
        if !kept.is_under_way {
            kept.is_under_way = true;
            self.queue.push(asked.tenant, kept.standing());
        }
        // Whoever waited for one that fails would wait in vain, in the room of those who do not.
        if kept.standing() != Standing::Failing {
            kept.waiting.push(asked.fetched);
        }
    }

    fn finish(&mut self, fetched: Fetched, now: Instant) {
        let Fetched { tenant, standing, source, answer } = fetched;
        self.queue.end(standing);
        let Some(kept) = self.issuers.get_mut(&tenant) else { return };
        kept.is_under_way = false;
        if kept.source != source {
            // It has moved meanwhile, and is due already.
            return;
        }
        let keys = answer.and_then(|text| parse_set(&text).map_err(|error| error.to_string()));
        let usable = keys.and_then(|keys| {
            let none = || "there is no key in it that can be used".to_owned();
            if keys.is_empty() { Err(none()) } else { Ok(keys) }
        });
        let result = match usable {
            Ok(keys) => {
                self.tenants.publish(&tenant, &source.issuer, keys);
                kept.succeed(now, self.pace);
                "ok"
            }
            Err(reason) => {
                let host = source.host();
                tracing::warn!(%tenant, host, reason, "cannot fetch the keys of an issuer");
                if kept.fail(now, self.pace) {
                    tracing::error!(%tenant, host, "the keys of an issuer are too old to be used");
                    self.tenants.publish(&tenant, &source.issuer, Vec::new());
                }
                "failed"
            }
        };
        counter!("tidewire_jwks_fetches_total", "result" => result).increment(1);
        for waiting in kept.waiting.drain(..) {
            // Whoever does not wait any more has gone.
            let _ = waiting.send(result == "ok");
        }
        self.show(now);
    }

    fn show(&self, now: Instant) {
        let keys = self.tenants.ring().read(tidewire_auth::KeyRing::published_keys);
        #[expect(clippy::cast_precision_loss, reason = "a metric; far below 2^53")]
        gauge!("tidewire_jwks_keys").set(keys as f64);
        let ages = self.issuers.values().filter_map(|kept| kept.fetched_at.map(|at| now - at));
        let oldest = ages.max().unwrap_or_default();
        gauge!("tidewire_jwks_oldest_success_seconds").set(oldest.as_secs_f64());
    }
}

impl Kept {
    fn new(source: KeySource, now: Instant) -> Self {
        Self {
            source,
            fetched_at: None,
            begun_at: None,
            next_at: now,
            failures: 0,
            is_under_way: false,
            waiting: Vec::new(),
        }
    }

    fn standing(&self) -> Standing {
        match (self.failures, self.fetched_at) {
            (0, Some(_)) => Standing::Sound,
            (0, None) => Standing::New,
            _ => Standing::Failing,
        }
    }

    fn succeed(&mut self, now: Instant, pace: JwksPace) {
        self.fetched_at = Some(now);
        self.failures = 0;
        self.next_at = now + jittered(pace.fresh);
    }

    /// Says whether the keys that are there have just become too old.
    fn fail(&mut self, now: Instant, pace: JwksPace) -> bool {
        let wait = pace.retry * 2_u32.pow(self.failures.min(5));
        self.failures += 1;
        self.next_at = now + jittered(wait.min(pace.fresh));
        let is_too_old = self.fetched_at.is_some_and(|at| now >= at + STALE);
        if is_too_old {
            self.fetched_at = None;
        }
        is_too_old
    }
}

/// Up to a tenth more or less.
fn jittered(period: Duration) -> Duration {
    let mut byte = [0];
    getrandom::fill(&mut byte).expect("the system has random numbers");
    period.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests;
