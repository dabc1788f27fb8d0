use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewire_model::TenantChannel;
use tokio::time::Instant;

use super::process::{Copy, History, Process};
use super::reply::Reply;
use crate::truth::Truth;

/// A primary, its replica, and what stands between them and the nodes.
pub(crate) struct Deployment {
    state: Mutex<State>,
    truth: Arc<Mutex<Truth>>,
}

pub(crate) type ServerId = u64;

struct State {
    started: Instant,
    /// Of the servers' clocks, when the run began.
    unix_ms: u64,
    servers: BTreeMap<ServerId, Process>,
    resolved: ServerId,
    made: ServerId,
    /// The deposed primary that some nodes still follow.
    split: Option<Split>,
    /// Nobody is resolved until then.
    away_until: Instant,
    /// Nodes whose way is cut, and until when.
    cut: BTreeMap<usize, Instant>,
    pause: Option<Pause>,
    replies_to_lose: usize,
    calls_to_lose: usize,
    is_full: bool,
}

struct Split {
    deposed: ServerId,
    followers: BTreeSet<usize>,
}

/// The primary does nothing until then.
#[derive(Clone, Copy)]
pub(crate) struct Pause {
    pub(crate) until: Instant,
    /// Whether a call is performed first, and only its answer held back.
    pub(crate) acts_first: bool,
}

/// A few seconds before the end of an hour, so that hours and the buckets of ids change in a run.
const UNIX_MS: u64 = 1_790_002_800_000 - 4_000;

impl Deployment {
    pub(crate) fn new(truth: Arc<Mutex<Truth>>) -> Self {
        let now = Instant::now();
        let mut state = State {
            started: now,
            unix_ms: UNIX_MS,
            servers: BTreeMap::new(),
            resolved: 0,
            made: 0,
            split: None,
            away_until: now,
            cut: BTreeMap::new(),
            pause: None,
            replies_to_lose: 0,
            calls_to_lose: 0,
            is_full: false,
        };
        state.resolved = state.make(None, Copy::default());
        Self { state: Mutex::new(state), truth }
    }

    /// Whom a node takes for the primary, and its address.
    pub(crate) fn resolve(&self, node: usize) -> Result<(ServerId, String), String> {
        let state = self.state.lock();
        if state.is_cut(node) {
            return Err("connection refused".into());
        }
        let split = state.split.as_ref().filter(|split| split.followers.contains(&node));
        let server = match split {
            Some(split) => split.deposed,
            None if state.away_until > Instant::now() => return Err("no primary".into()),
            None => state.resolved,
        };
        let process = state.servers.get(&server).ok_or("connection refused")?;
        Ok((server, process.address.clone()))
    }

    /// What the sentinels say.
    pub(crate) fn agreed(&self) -> Option<String> {
        let state = self.state.lock();
        let process = state.servers.get(&state.resolved)?;
        (state.away_until <= Instant::now()).then(|| process.address.clone())
    }

    pub(crate) fn reaches(&self, node: usize, server: ServerId) -> bool {
        let state = self.state.lock();
        let is_away = server == state.resolved && state.away_until > Instant::now();
        !state.is_cut(node) && !is_away && state.servers.contains_key(&server)
    }

    /// Performs a command, and notes what it stored. Its caller may have ceased to wait for it.
    pub(crate) fn perform(
        &self,
        server: ServerId,
        command: &[Vec<u8>],
        is_awaited: bool,
    ) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        let elapsed = u64::try_from(state.started.elapsed().as_millis()).expect("not so long");
        let now = state.unix_ms + elapsed;
        let is_current = server == state.resolved;
        let is_full = state.is_full;
        let process = state.servers.get_mut(&server)?;
        let (reply, entries) = if is_full && process.needs_memory(command) {
            (Reply::Error("OOM command not allowed when used memory > 'maxmemory'.".into()), vec![])
        } else {
            process.perform(command, now)
        };
        let mut truth = self.truth.lock();
        truth.ownership.performed(server, command, &reply);
        for (channel, entry) in entries {
            if !is_awaited {
                truth.abandoned(&channel, &entry.name);
            }
            truth.stored(&channel, entry, is_current);
        }
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        Some(bytes)
    }

    pub(crate) fn pause_now(&self) -> Option<Pause> {
        self.state.lock().pause.filter(|pause| pause.until > Instant::now())
    }

    pub(crate) fn is_call_lost(&self) -> bool {
        one_fewer(&mut self.state.lock().calls_to_lose)
    }

    pub(crate) fn is_reply_lost(&self) -> bool {
        one_fewer(&mut self.state.lock().replies_to_lose)
    }

    /// What the primary keeps of a channel, oldest first.
    pub(crate) fn kept(&self, channel: &TenantChannel) -> Vec<(u64, Bytes)> {
        let state = self.state.lock();
        let Some(process) = state.servers.get(&state.resolved) else { return Vec::new() };
        let payload = |mut fields: Vec<Vec<u8>>| Bytes::from(fields.pop().unwrap_or_default());
        let entries = process.entries(&format!("}}:l:{}:{}", channel.tenant, channel.channel));
        entries.into_iter().map(|(offset, fields)| (offset, payload(fields))).collect()
    }
}

/// What goes wrong.
impl Deployment {
    /// The primary dies, and after a while a replica that was `lag` behind takes its place; or it
    /// comes back itself, without what it had not written to its disk.
    pub(crate) fn replace(&self, lag: Duration, away: Duration, is_same: bool) {
        let mut state = self.state.lock();
        let Some(old) = state.servers.get(&state.resolved) else { return };
        let (data, address) = (old.replicated(lag), old.address.clone());
        let resolved = state.resolved;
        state.servers.remove(&resolved);
        state.away_until = Instant::now() + away;
        self.crown(&mut state, is_same.then_some(address), data);
    }

    /// The primary comes back with nothing.
    pub(crate) fn empty(&self) {
        let mut state = self.state.lock();
        let resolved = state.resolved;
        state.servers.remove(&resolved);
        self.truth.lock().emptied();
        self.crown(&mut state, None, Copy::default());
    }

    /// A replica that is `lag` behind takes the primary's place, and some nodes go on with the
    /// primary.
    pub(crate) fn split(&self, lag: Duration, followers: &BTreeSet<usize>) {
        let mut state = self.state.lock();
        let Some(old) = state.servers.get(&state.resolved) else { return };
        let data = old.replicated(lag);
        state.end_split();
        let (deposed, followers) = (state.resolved, followers.clone());
        state.split = Some(Split { deposed, followers });
        self.crown(&mut state, None, data);
    }

    pub(crate) fn end_split(&self) {
        self.state.lock().end_split();
    }

    fn crown(&self, state: &mut State, address: Option<String>, data: Copy) {
        state.resolved = state.make(address, data);
        let history: History = state.servers[&state.resolved].history();
        self.truth.lock().replaced(history);
    }

    pub(crate) fn pause(&self, pause: Pause) {
        self.state.lock().pause = Some(pause);
    }

    pub(crate) fn cut(&self, node: usize, length: Duration) {
        self.state.lock().cut.insert(node, Instant::now() + length);
    }

    pub(crate) fn lose_replies(&self, count: usize) {
        self.state.lock().replies_to_lose = count;
    }

    pub(crate) fn lose_calls(&self, count: usize) {
        self.state.lock().calls_to_lose = count;
    }

    pub(crate) fn fill(&self, is_full: bool) {
        self.state.lock().is_full = is_full;
    }

    pub(crate) fn flush_functions(&self) {
        self.state.lock().servers.values_mut().for_each(Process::flush_functions);
    }

    /// Sets the primary's clock.
    pub(crate) fn skew(&self, skew_ms: i64) {
        let mut state = self.state.lock();
        let resolved = state.resolved;
        if let Some(process) = state.servers.get_mut(&resolved) {
            process.skew_ms = skew_ms;
        }
    }
}

impl State {
    fn make(&mut self, address: Option<String>, data: Copy) -> ServerId {
        self.made += 1;
        let number = self.made;
        let run_id = format!("{:040x}", u128::from(number) * 0x1234_5678_9abc_def1_2345_6789);
        let address = address.unwrap_or_else(|| format!("redis-{number}:6379"));
        self.servers.insert(number, Process::new(address, run_id, data));
        number
    }

    fn end_split(&mut self) {
        if let Some(split) = self.split.take() {
            self.servers.remove(&split.deposed);
        }
    }

    fn is_cut(&self, node: usize) -> bool {
        self.cut.get(&node).is_some_and(|until| *until > Instant::now())
    }
}

fn one_fewer(count: &mut usize) -> bool {
    let is_some = *count > 0;
    *count = count.saturating_sub(1);
    is_some
}
