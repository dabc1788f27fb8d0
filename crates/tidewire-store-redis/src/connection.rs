use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, Value};
use tidewire_model::{Incarnation, Random};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::config::{Deployment, InvalidConfig, RedisConfig, Servers, Target};
use crate::copies::Copies;
use crate::error::CallError;
use crate::fence::{FenceId, Fences};
use crate::key::Keys;
use crate::library::{self, Function};
use crate::link::{Established, Link};
use crate::metric::Metrics;
use crate::partition::Partition;
use crate::reply::{Answer, Reply};
use crate::retry::{Retrying, Try};
use crate::simulated;

/// The way to Redis that the log and the stores share. Cloning it is cheap.
///
/// Install a metrics recorder before making it. It must be used from runtimes that outlive it: the
/// connection is driven by the one that happened to make it.
#[derive(Clone)]
pub struct RedisConnection(Arc<Inner>);

struct Inner {
    link: Link,
    keys: Keys,
    fences: Fences,
    copies: Copies,
    permits: Semaphore,
    deadline: Duration,
    random: Random,
    metrics: Metrics,
    /// When the server in use was last doubted for hearsay.
    doubted: Mutex<Option<Instant>>,
    /// Why what answers is not to be relied on, if it is not.
    refused: Mutex<Option<String>>,
}

impl RedisConnection {
    /// Checks the configuration. Connecting is left to the first call.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be right. That Redis cannot be reached is no error here.
    pub fn new(config: RedisConfig) -> Result<Self, InvalidConfig> {
        let target = Target::check(&config)?;
        Ok(Self::to(target, config))
    }

    pub(crate) fn simulated(servers: Arc<dyn simulated::Servers>, random: Random) -> Self {
        let target = Target { servers: Servers::Simulated(servers), address: "simulated".into() };
        let nowhere = RedisConfig::new(Deployment::Cluster { urls: Vec::new() });
        Self::to(target, RedisConfig { random, ..nowhere })
    }

    fn to(target: Target, config: RedisConfig) -> Self {
        let link = Link::new(target.clone(), &config);
        let fences = Fences::new(link.is_cluster());
        let copies = Copies::new(target, &config, fences.count());
        Self(Arc::new(Inner {
            link,
            keys: Keys::new(config.prefix),
            fences,
            copies,
            permits: Semaphore::new(config.max_in_flight.min(Semaphore::MAX_PERMITS)),
            deadline: config.deadline,
            random: config.random,
            metrics: Metrics::new(),
            doubted: Mutex::default(),
            refused: Mutex::default(),
        }))
    }

    /// The servers as configured, without credentials.
    pub fn address(&self) -> &str {
        self.0.link.address()
    }

    /// Whether Redis answers and can be relied on, and if not, why. Takes at most a second.
    /// Cancel-safe.
    pub(crate) async fn health(&self) -> Result<(), CallError> {
        let ping = redis::cmd("PING");
        match timeout(HEALTH_DEADLINE, self.send(&ping)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(CallError::Unanswered("no answer within a second".into())),
        };
        self.0.refused.lock().clone().map_or(Ok(()), |reason| Err(CallError::Refused(reason)))
    }

    /// Takes note of why Redis cannot be relied on, or that nothing speaks against it any more.
    pub(crate) fn refuse(&self, reason: Option<String>) {
        *self.0.refused.lock() = reason;
    }

    /// Sends a command to the primary, or to every primary of a cluster; each answer comes with its
    /// server's address.
    pub(crate) async fn send_to_primaries(
        &self,
        command: &Cmd,
    ) -> Result<Vec<(String, Value)>, CallError> {
        let Inner { link, metrics, .. } = &*self.0;
        let mut connection = link.established(metrics).await.map_err(CallError::Unsent)?;
        match timeout(self.0.deadline, connection.send_to_primaries(command)).await {
            Ok(answers) => answers.map_err(|error| CallError::of_call(&error)),
            Err(_) => Err(CallError::Unanswered(format!("no answer within {:?}", self.0.deadline))),
        }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    pub(crate) fn random(&self) -> &Random {
        &self.0.random
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.0.link.is_cluster()
    }

    pub(crate) fn fence(&self, partition: Partition) -> FenceId {
        self.0.fences.of(partition, &self.0.keys)
    }

    /// The newest incarnation that a server has answered with.
    pub(crate) fn newest_incarnation(&self, fence: &FenceId) -> Incarnation {
        self.0.fences.seen(fence)
    }

    /// Notes what a server answered with. Whether it may be believed.
    pub(crate) fn observe(&self, fence: &FenceId, incarnation: Incarnation) -> bool {
        self.0.fences.observe(fence, incarnation)
    }

    /// Takes a hint that another server has begun `incarnation`: the next call asks anew which one is
    /// the primary, and what is in use stays so until another one has answered. It is not noted as
    /// seen, which would stop every call if it were made up. A cluster's client follows the slots by
    /// itself. The clock here is not asked how likely it is: it may be wrong, and that of Redis as well.
    pub(crate) fn hear_of(&self, fence: &FenceId, incarnation: Incarnation) {
        let is_news = incarnation > self.newest_incarnation(fence);
        if is_news && !self.is_cluster() && self.may_doubt(Instant::now()) {
            self.0.link.doubt();
        }
    }

    fn may_doubt(&self, now: Instant) -> bool {
        let mut doubted = self.0.doubted.lock();
        let may = doubted.is_none_or(|last| now >= last + DOUBT_INTERVAL);
        if may {
            *doubted = Some(now);
        }
        may
    }

    /// Whether anything has asked for copies so far: how many replicas there are matters from then on.
    pub fn expects_copies(&self) -> bool {
        self.0.copies.expected().is_some()
    }

    pub(crate) fn copies(&self) -> &Copies {
        &self.0.copies
    }

    /// Calls a function that may be repeated without harm, and repeats it for as long as a call may
    /// take when the reply is lost.
    pub(crate) async fn call(&self, function: Function, call: &Cmd) -> Result<Reply, CallError> {
        let mut retrying = Retrying::until(Instant::now() + self.0.deadline);
        loop {
            match self.call_once(function, call).await {
                Ok(value) => return Reply::of(value),
                Err(error) => retrying.after(error)?,
            }
            retrying.pause().await?;
        }
    }

    /// Calls a function under the fence, built anew for each try, until a server answers that may
    /// be believed. A call that was not answered is repeated for `budget`, even if it may have
    /// happened: the function is told so. Comes with the life of the log that answered.
    pub(crate) async fn call_fenced(
        &self,
        function: Function,
        fence: &FenceId,
        budget: Duration,
        build: impl Fn(&Try) -> Cmd + Send + Sync,
    ) -> Result<(Incarnation, Reply), CallError> {
        let mut retrying = Retrying::until(Instant::now() + budget);
        loop {
            let started = Instant::now();
            let seen = self.0.fences.seen(fence);
            let call = build(&retrying.next_try(seen, self.random()));
            match self.call_once(function, &call).await.and_then(Answer::of) {
                Ok(Answer::Done { incarnation, reply }) => {
                    if self.observe(fence, incarnation) {
                        return Ok((incarnation, reply));
                    }
                    // Overtaken while it was under way: what a deposed primary did will be lost.
                    retrying.overtaken();
                    self.resolve_again(started);
                }
                Ok(Answer::Behind) => {
                    let raise = retrying.was_behind && self.may_raise(fence).await;
                    retrying.behind(raise);
                    // What is to be raised is what has just been looked at.
                    if !raise {
                        self.resolve_again(started);
                    }
                }
                Ok(Answer::Unknown) => {
                    return Err(CallError::Unanswered("its traces have been trimmed".into()));
                }
                Err(error) => retrying.after(error)?,
            }
            retrying.pause().await?;
        }
    }

    /// Whether the server in use is the primary beyond doubt, and was not raised a moment ago.
    async fn may_raise(&self, fence: &FenceId) -> bool {
        let asking = self.0.link.is_agreed_primary();
        let agreed = timeout(self.0.deadline, asking).await.unwrap_or(false);
        let raise = agreed && self.0.fences.may_raise(fence, Instant::now());
        if raise {
            tracing::warn!(address = self.address(), "raising a redis that is behind its log");
        }
        raise
    }

    async fn call_once(&self, function: Function, call: &Cmd) -> Result<Value, CallError> {
        let started = Instant::now();
        let result = self.take_turn_and_send(call).await;
        self.0.metrics.record(function, started.elapsed(), &result);
        result
    }

    async fn take_turn_and_send(&self, call: &Cmd) -> Result<Value, CallError> {
        let Ok(permit) = timeout(self.0.deadline, self.0.permits.acquire()).await else {
            return Err(CallError::Unsent("too many calls are waiting for redis".into()));
        };
        let _permit = permit.expect("the semaphore is never closed");
        self.send(call).await
    }

    /// The connection all calls share, made now if there is none.
    pub(crate) async fn established(&self) -> Result<Established, CallError> {
        self.0.link.established(&self.0.metrics).await.map_err(CallError::Unsent)
    }

    /// Sends a command once, or twice if the functions were missing.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value, CallError> {
        let mut connection = self.established().await?;
        let sending = async {
            match connection.send(command).await {
                Err(error) if library::is_missing(&error) => {
                    let loaded = connection.load_functions().await;
                    loaded.map_err(|error| CallError::Misplaced(crate::error::reason(&error)))?;
                    connection.send(command).await.map_err(|error| CallError::of_call(&error))
                }
                answer => answer.map_err(|error| CallError::of_call(&error)),
            }
        };
        let answer = timeout(self.0.deadline, sending).await.unwrap_or_else(|_| {
            Err(CallError::Unanswered(format!("no answer within {:?}", self.0.deadline)))
        });
        if let Err(error) = &answer {
            self.judge(error, &connection);
        }
        answer
    }

    /// Lets go of a connection whose errors show that another one is needed. A cluster's follows
    /// the slots by itself.
    fn judge(&self, error: &CallError, connection: &Established) {
        let is_lost = match error {
            CallError::Unsent(_) | CallError::Unanswered(_) => true,
            CallError::Misplaced(_) => !self.is_cluster(),
            CallError::Refused(_) | CallError::Corrupt(_) => false,
        };
        if is_lost {
            self.0.link.discard(connection, &self.0.metrics);
        }
    }

    /// Makes the next try go to a connection that was not there before `started`.
    fn resolve_again(&self, started: Instant) {
        self.0.link.discard_made_before(started, &self.0.metrics);
    }
}

/// Connecting anew costs something, and hearsay nothing.
const DOUBT_INTERVAL: Duration = Duration::from_secs(2);

const HEALTH_DEADLINE: Duration = Duration::from_secs(1);
