use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidewire_broker::{Draft, Head, Log, LogError, MemoryLog, Outcome, Read, Retention, Secured};
use tidewire_model::{
    Epoch, HistoryPage, HistoryQuery, Incarnation, LiveRules, Since, TenantChannel,
};
use tokio::sync::{Semaphore, watch};

/// A log in memory that can be switched off, and made to keep whoever asks waiting.
pub struct SwitchedLog {
    log: MemoryLog,
    is_down: AtomicBool,
    is_held: watch::Sender<bool>,
    are_reads_held: watch::Sender<bool>,
    /// For those who may go though the others are held.
    exceptions: Semaphore,
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
    comparisons: AtomicUsize,
    reads: AtomicUsize,
    appended: Mutex<Vec<(TenantChannel, usize)>>,
    copies: watch::Sender<Option<Secured>>,
    deposed: Mutex<Option<Deposed>>,
}

/// What is read from instead of the log.
struct Deposed {
    log: Arc<MemoryLog>,
    /// Whether the first hint ends that.
    ends: bool,
    hints: usize,
}

impl SwitchedLog {
    /// Keeps `size` publications of each channel.
    pub fn new(size: usize) -> Self {
        let log = MemoryLog::new(Retention { size, ..Retention::default() });
        Self {
            log,
            is_down: AtomicBool::new(false),
            is_held: watch::Sender::new(false),
            are_reads_held: watch::Sender::new(false),
            exceptions: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            most_waiting: AtomicUsize::new(0),
            comparisons: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            appended: Mutex::default(),
            copies: watch::Sender::new(Some(Secured::Alone)),
            deposed: Mutex::default(),
        }
    }

    /// Keeps of a channel what the rules say.
    #[must_use]
    pub fn with_rules(self, rules: impl Into<LiveRules>) -> Self {
        Self { log: self.log.with_rules(rules), ..self }
    }

    /// The log itself, which does not know of switches.
    pub fn inner(&self) -> &MemoryLog {
        &self.log
    }

    pub fn switch(&self, on: bool) {
        self.is_down.store(!on, Ordering::SeqCst);
    }

    /// Keeps appends and pages waiting, or lets them go.
    pub fn hold(&self, is_held: bool) {
        self.is_held.send_replace(is_held);
    }

    /// Keeps those waiting who read a channel to join it, or lets them go.
    pub fn hold_reads(&self, are_held: bool) {
        self.are_reads_held.send_replace(are_held);
    }

    /// Lets the first of those go that are kept waiting, and holds the others on.
    pub fn let_one_go(&self) {
        self.exceptions.add_permits(1);
    }

    /// Appends and pages that wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The most that ever waited at once.
    pub fn most_waiting(&self) -> usize {
        self.most_waiting.load(Ordering::SeqCst)
    }

    /// How often somebody asked how far channels had got.
    pub fn comparisons(&self) -> usize {
        self.comparisons.load(Ordering::SeqCst)
    }

    /// How often somebody read a channel.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// How many drafts were appended to which channel, in the order of the calls.
    pub fn appended(&self) -> Vec<(TenantChannel, usize)> {
        self.appended.lock().clone()
    }

    /// What becomes of copies from now on; `None` keeps those waiting who ask.
    pub fn set_copies(&self, secured: Option<Secured>) {
        self.copies.send_replace(secured);
    }

    /// Has `log` read from from now on, as if that were a primary that another has replaced: until
    /// somebody hears of a newer life, if that `ends` it.
    pub fn depose(&self, log: MemoryLog, ends: bool) {
        let log = Arc::new(log);
        *self.deposed.lock() = Some(Deposed { log, ends, hints: 0 });
    }

    /// How often somebody has heard of a newer life than that of the log that is read from.
    pub fn hints(&self) -> usize {
        self.deposed.lock().as_ref().map_or(0, |deposed| deposed.hints)
    }

    async fn pass(&self) {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_waiting.fetch_max(waiting, Ordering::SeqCst);
        let mut is_held = self.is_held.subscribe();
        tokio::select! {
            biased;
            exception = self.exceptions.acquire() => exception.expect("it is not closed").forget(),
            free = is_held.wait_for(|is_held| !is_held) => drop(free.expect("the log is there")),
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn reached(&self) -> Result<&MemoryLog, LogError> {
        if self.is_down.load(Ordering::SeqCst) {
            let (address, reason) = ("memory".into(), "switched off".into());
            return Err(LogError::Unavailable { address, reason });
        }
        Ok(&self.log)
    }
}

#[async_trait]
impl Log for SwitchedLog {
    async fn append_in(
        &self,
        channel: &TenantChannel,
        epoch: Option<Epoch>,
        drafts: &[Draft],
    ) -> Result<Outcome, LogError> {
        self.appended.lock().push((channel.clone(), drafts.len()));
        self.pass().await;
        self.reached()?.append_in(channel, epoch, drafts).await
    }

    async fn read(
        &self,
        channel: &TenantChannel,
        since: Since,
        limit: usize,
    ) -> Result<Read, LogError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let mut are_held = self.are_reads_held.subscribe();
        drop(are_held.wait_for(|are_held| !are_held).await.expect("the log is there"));
        let log = self.reached()?;
        let deposed = self.deposed.lock().as_ref().map(|deposed| Arc::clone(&deposed.log));
        deposed.as_deref().unwrap_or(log).read(channel, since, limit).await
    }

    async fn page(
        &self,
        channel: &TenantChannel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, LogError> {
        self.pass().await;
        self.reached()?.page(channel, query).await
    }

    async fn heads(&self, channels: &[TenantChannel]) -> Result<Vec<Head>, LogError> {
        self.comparisons.fetch_add(1, Ordering::SeqCst);
        self.reached()?.heads(channels).await
    }

    async fn incarnation(&self, channel: &TenantChannel) -> Result<Incarnation, LogError> {
        self.reached()?.incarnation(channel).await
    }

    fn hear_of(&self, _channel: &TenantChannel, _incarnation: Incarnation) {
        let mut deposed = self.deposed.lock();
        if let Some(deposed) = &mut *deposed {
            deposed.hints += 1;
        }
        deposed.take_if(|deposed| deposed.ends);
    }

    async fn confirm(
        &self,
        _channel: &TenantChannel,
        _by: Incarnation,
    ) -> Result<Secured, LogError> {
        let mut copies = self.copies.subscribe();
        let known = copies.wait_for(Option::is_some).await.expect("the log is there");
        Ok(known.expect("it is some"))
    }

    async fn health(&self) -> Result<(), LogError> {
        self.reached().map(drop)
    }
}
