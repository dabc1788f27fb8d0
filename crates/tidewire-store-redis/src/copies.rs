//! Waiting until what was appended is on replicas.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::{FromRedisValue, Value};
use tidewire_broker::Secured;
use tidewire_model::Incarnation;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::config::{RedisConfig, Target};
use crate::connection::RedisConnection;
use crate::error::CallError;
use crate::fence::FenceId;
use crate::library::{self, Function};
use crate::link::{Established, Link};
use crate::metric::Metrics;
use crate::partition::Partition;
use crate::random;
use crate::reply::{Answer, unexpected};

/// Asks for copies, over a connection of its own: `WAIT` keeps whatever follows it waiting.
pub(crate) struct Copies {
    link: Link,
    metrics: Metrics,
    wanted: u32,
    /// Whether there is anything that copies are asked for, so far.
    is_needed: AtomicBool,
    /// Of each fence: one question is under way at a time, and whoever comes meanwhile shares the
    /// next one.
    turns: Vec<Turn>,
}

#[derive(Default)]
struct Turn {
    asked: AtomicU64,
    last: Mutex<Round>,
}

/// A question that was asked for all up to `through`, and what came of it.
struct Round {
    through: u64,
    answer: Result<Count, CallError>,
}

/// How many replicas have all that was stored before it was asked, as this life of the log says.
#[derive(Clone, Copy)]
struct Count {
    by: Incarnation,
    replicas: u32,
}

impl Default for Round {
    fn default() -> Self {
        Self { through: 0, answer: Err(CallError::Unsent("not asked yet".into())) }
    }
}

impl Copies {
    pub(crate) fn new(target: Target, config: &RedisConfig, fences: usize) -> Self {
        Self {
            link: Link::new(target, config),
            metrics: Metrics::aside(),
            wanted: config.durable_copies,
            is_needed: AtomicBool::new(config.expects_copies),
            turns: std::iter::repeat_with(Turn::default).take(fences).collect(),
        }
    }

    /// How many copies are asked for; `None` as long as nothing has asked.
    pub(crate) fn expected(&self) -> Option<u32> {
        self.is_needed.load(Ordering::Relaxed).then_some(self.wanted)
    }
}

impl RedisConnection {
    /// Waits until the replicas that are asked for have all that was stored in `partition` before
    /// this was called, as the life `by` of the log has said.
    ///
    /// `WAIT` tells of what its own connection wrote, on the server that it leads to. So a mark is
    /// written right before it, under the fence: what answers it with the same life is the server
    /// that stored what is asked about, and has replicated that before the mark. It does not matter
    /// over which connection it was stored, or whether this process stored it at all.
    ///
    /// Cancel-safe: another who waits asks instead.
    pub(crate) async fn confirm(
        &self,
        partition: Partition,
        by: Incarnation,
    ) -> Result<Secured, CallError> {
        let copies = self.copies();
        copies.is_needed.store(true, Ordering::Relaxed);
        let wanted = copies.wanted;
        if wanted == 0 {
            return Ok(Secured::Alone);
        }
        let fence = self.fence(partition);
        let turn = &copies.turns[fence.index()];
        let ticket = turn.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = turn.last.lock().await;
        if last.through < ticket {
            let through = turn.asked.load(Ordering::SeqCst);
            *last = Round { through, answer: self.count_copies(&fence, partition).await };
        }
        let count = last.answer.clone()?;
        let reached = if count.by == by { count.replicas } else { 0 };
        Ok(if reached < wanted {
            Secured::Behind { wanted, reached }
        } else {
            Secured::Copied { replicas: reached }
        })
    }

    /// Asks, and once more over another connection if the one at hand led nowhere.
    async fn count_copies(
        &self,
        fence: &FenceId,
        partition: Partition,
    ) -> Result<Count, CallError> {
        match self.try_count(fence, partition).await {
            Err(CallError::Unanswered(_) | CallError::Misplaced(_)) => {
                self.try_count(fence, partition).await
            }
            answer => answer,
        }
    }

    async fn try_count(&self, fence: &FenceId, partition: Partition) -> Result<Count, CallError> {
        let Copies { link, metrics, .. } = self.copies();
        let started = Instant::now();
        let mut connection = link.established(metrics).await.map_err(CallError::Unsent)?;
        let asking = self.ask(&mut connection, fence, partition);
        let limit = self.deadline() + PATIENCE;
        let count = timeout(limit, asking).await.unwrap_or_else(|_| {
            Err(CallError::Unanswered(format!("no answer about copies within {limit:?}")))
        });
        metrics.record(Function::Mark, started.elapsed(), &count);
        if let Err(error) = &count
            && !matches!(error, CallError::Refused(_))
        {
            link.discard(&connection, metrics);
        }
        count
    }

    async fn ask(
        &self,
        connection: &mut Established,
        fence: &FenceId,
        partition: Partition,
    ) -> Result<Count, CallError> {
        let mut mark = Function::Mark.call(&[fence.key.as_str(), &fence.mark()]);
        mark.arg(self.newest_incarnation(fence).as_str())
            .arg(&random::nonce(self.random()))
            .arg(0)
            .arg(MARK_TTL_MS);
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.copies().wanted)
            .arg(u64::try_from(PATIENCE.as_millis()).expect("some milliseconds"));
        let both = [&mark, &wait];
        let answers = match connection.send_both(both, partition.slot()).await {
            Err(error) if library::is_missing(&error) => {
                connection.load_functions().await.map_err(|error| CallError::of_call(&error))?;
                connection.send_both(both, partition.slot()).await
            }
            answers => answers,
        };
        let [marked, reached] = answers.map_err(|error| CallError::of_call(&error))?;
        let by = self.life_of(fence, marked)?;
        let replicas = u32::from_redis_value(reached);
        Ok(Count { by, replicas: replicas.map_err(|_| unexpected("a count of replicas"))? })
    }

    fn life_of(&self, fence: &FenceId, marked: Value) -> Result<Incarnation, CallError> {
        match Answer::of(marked)? {
            Answer::Done { incarnation, .. } if self.observe(fence, incarnation) => Ok(incarnation),
            _ => Err(CallError::Misplaced("redis is behind what has been seen of its log".into())),
        }
    }
}

/// How long Redis waits for its replicas.
const PATIENCE: Duration = Duration::from_millis(50);

/// What was written to wait for it is of no other use.
const MARK_TTL_MS: u32 = 60_000;
