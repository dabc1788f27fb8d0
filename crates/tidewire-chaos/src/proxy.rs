//! A link between two processes that can be made bad.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A TCP proxy to one server. Dropping it resets its connections and ends its tasks.
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    rules: watch::Sender<Rules>,
    tracker: TaskTracker,
    until_dropped: CancellationToken,
}

/// What a link does to what passes it. Pairs are for the direction to the server and for the one to
/// the client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// How much later everything arrives, in order.
    pub delay: [Duration; 2],
    /// Nothing arrives, not even the end of a connection, until this is over.
    pub is_black_hole: [bool; 2],
    /// How many bytes pass in a second.
    pub bytes_per_second: [Option<u32>; 2],
    /// New connections are closed at once.
    pub is_refusing: bool,
    /// Of so many answers of the server one does not arrive, and ends its connection.
    pub cut_reply_every: Option<u32>,
    /// Nothing reaches the client any more, once it has said so many things on a connection that is
    /// made under this rule. A WebSocket client says two to have a session: upgrade and `connect`.
    pub mute_after: Option<u32>,
    pub scope: Scope,
}

/// Which connections the rules are for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    #[default]
    All,
    /// Of a Redis replica to its primary: `REPLCONF` was seen in it.
    Replication,
}

/// The two directions of a connection.
#[derive(Clone, Copy, Debug)]
enum Way {
    ToServer,
    ToClient,
}

/// What the connections of a proxy share.
#[derive(Debug)]
struct Link {
    target: Mutex<SocketAddr>,
    rules: watch::Receiver<Rules>,
    /// Counts the resets; connections end when it changes.
    resets: watch::Sender<u32>,
    replies: AtomicU32,
    cut: watch::Sender<u32>,
    open: AtomicUsize,
}

/// One connection.
#[derive(Debug, Default)]
struct Passage {
    is_replication: AtomicBool,
    /// The client has said something that the server has not answered.
    is_asked: AtomicBool,
    said: AtomicU32,
}

/// What is on its way in one direction before reading stops, as in the buffers of a slow network.
const MOST_UNDER_WAY: usize = 8 << 20;
/// The same of a link that passes few bytes in a second: whoever writes more has to wait.
const MOST_WHEN_SLOW: usize = 64 << 10;
const CHUNK: usize = 16 << 10;

impl Proxy {
    /// Listens on a port of the loopback, for connections to `target`, which need not be there yet.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port")?;
        let address = listener.local_addr()?;
        let (rules, watched) = watch::channel(Rules::default());
        let link = Arc::new(Link {
            target: Mutex::new(target),
            rules: watched,
            resets: watch::channel(0).0,
            replies: AtomicU32::new(0),
            cut: watch::channel(0).0,
            open: AtomicUsize::new(0),
        });
        let (tracker, until_dropped) = (TaskTracker::new(), CancellationToken::new());
        let accepting = accept(listener, Arc::clone(&link), tracker.clone());
        let ended = until_dropped.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = accepting => {}
                () = ended.cancelled() => {}
            }
        });
        Ok(Self { address, link, rules, tracker, until_dropped })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets new connections go elsewhere: a server that is started again may have another port.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.link.target.lock() = target;
    }

    pub fn set(&self, rules: Rules) {
        self.rules.send_replace(rules);
    }

    /// Lets everything pass again, what was held back first.
    pub fn heal(&self) {
        self.set(Rules::default());
    }

    /// Ends all connections as a process does that dies: with RST, losing what is under way.
    pub fn reset(&self) {
        self.link.resets.send_modify(|resets| *resets += 1);
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.link.open.load(Ordering::SeqCst)
    }

    /// Answers that did not arrive so far.
    pub fn replies_cut(&self) -> watch::Receiver<u32> {
        self.link.cut.subscribe()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.until_dropped.cancel();
        self.reset();
        self.tracker.close();
    }
}

async fn accept(listener: TcpListener, link: Arc<Link>, tracker: TaskTracker) {
    while let Ok((client, _)) = listener.accept().await {
        if link.rules.borrow().is_refusing {
            abort(&client);
            continue;
        }
        tracker.spawn(pass(client, Arc::clone(&link)));
    }
}

/// Passes one connection on until either side ends it or it is reset.
async fn pass(client: TcpStream, link: Arc<Link>) {
    let mut resets = link.resets.subscribe();
    let target = *link.target.lock();
    let Ok(server) = TcpStream::connect(target).await else {
        abort(&client);
        return;
    };
    link.open.fetch_add(1, Ordering::SeqCst);
    // What is measured are the delays that are asked for.
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let ends = [SockRef::from(&client).try_clone(), SockRef::from(&server).try_clone()];
    let passage = Passage::default();
    let ((client_reads, client_writes), (server_reads, server_writes)) =
        (client.into_split(), server.into_split());
    let up = Pump::new(Way::ToServer, &link, &passage).run(client_reads, server_writes);
    let down = Pump::new(Way::ToClient, &link, &passage).run(server_reads, client_writes);
    let (up, down) = (std::pin::pin!(up), std::pin::pin!(down));
    tokio::select! {
        halves = up => finish(halves),
        halves = down => finish(halves),
        // What closes last closes as a process does that dies.
        _ = resets.changed() => for end in ends.iter().flatten() {
            drop(end.set_linger(Some(Duration::ZERO)));
        },
    }
    link.open.fetch_sub(1, Ordering::SeqCst);
}

/// Closes what a pump has ended with: the other pump closes the rest when it is dropped.
fn finish((reads, writes): (OwnedReadHalf, OwnedWriteHalf)) {
    drop((reads, writes));
}

/// Closes with RST.
fn abort(stream: &TcpStream) {
    // Without it the other side sees an orderly end, which is a fault too.
    drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
}

/// One direction of one connection.
struct Pump<'a> {
    way: Way,
    link: &'a Link,
    passage: &'a Passage,
    rules: watch::Receiver<Rules>,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    bytes_under_way: usize,
}

impl<'a> Pump<'a> {
    fn new(way: Way, link: &'a Link, passage: &'a Passage) -> Self {
        let rules = link.rules.clone();
        Self { way, link, passage, rules, under_way: VecDeque::new(), bytes_under_way: 0 }
    }

    /// Passes bytes on until there are no more, or until one of the sides is gone.
    async fn run(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
    ) -> (OwnedReadHalf, OwnedWriteHalf) {
        let mut chunk = vec![0; CHUNK];
        let mut has_ended = false;
        while !has_ended || !self.under_way.is_empty() {
            let rules = self.rules();
            if rules.is_black_hole {
                if self.rules.changed().await.is_err() {
                    break;
                }
                continue;
            }
            let due = self.under_way.front().map(|(due, _)| *due);
            let most = rules.bytes_per_second.map_or(MOST_UNDER_WAY, |_| MOST_WHEN_SLOW);
            let is_full = self.bytes_under_way >= most;
            tokio::select! {
                read = from.read(&mut chunk), if !has_ended && !is_full => {
                    let Ok(length @ 1..) = read else {
                        has_ended = true;
                        continue;
                    };
                    if !self.take(&chunk[..length], rules.delay) {
                        break;
                    }
                }
                () = reached(due) => {
                    if !self.give(&mut to, rules.bytes_per_second).await {
                        break;
                    }
                }
                changed = self.rules.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
        }
        (from, to)
    }

    /// Takes what was read; says whether the connection goes on.
    fn take(&mut self, bytes: &[u8], delay: Duration) -> bool {
        match self.way {
            Way::ToServer => {
                self.passage.is_asked.store(true, Ordering::SeqCst);
                self.passage.said.fetch_add(1, Ordering::SeqCst);
                if bytes.windows(REPLCONF.len()).any(|window| window == REPLCONF) {
                    self.passage.is_replication.store(true, Ordering::SeqCst);
                }
            }
            Way::ToClient if self.is_reply_cut() => return false,
            Way::ToClient => {}
        }
        self.under_way.push_back((Instant::now() + delay, bytes.to_vec()));
        self.bytes_under_way += bytes.len();
        true
    }

    /// Passes on what is due; says whether the connection goes on.
    async fn give(&mut self, to: &mut OwnedWriteHalf, bytes_per_second: Option<u32>) -> bool {
        let Some((_, bytes)) = self.under_way.pop_front() else { return true };
        self.bytes_under_way -= bytes.len();
        let Some(bytes_per_second) = bytes_per_second else {
            return to.write_all(&bytes).await.is_ok();
        };
        for drop_of_bytes in bytes.chunks((bytes_per_second / 20).max(1) as usize) {
            if to.write_all(drop_of_bytes).await.is_err() {
                return false;
            }
            let bytes = u32::try_from(drop_of_bytes.len()).expect("a chunk is small");
            sleep(Duration::from_secs(1) * bytes / bytes_per_second).await;
        }
        true
    }

    fn is_reply_cut(&self) -> bool {
        let Some(every) = self.rules.borrow().cut_reply_every else { return false };
        if self.passage.is_replication.load(Ordering::SeqCst) {
            return false;
        }
        if !self.passage.is_asked.swap(false, Ordering::SeqCst) {
            return false;
        }
        let is_cut = (self.link.replies.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(every);
        if is_cut {
            self.link.cut.send_modify(|cut| *cut += 1);
        }
        is_cut
    }

    /// The rules for this direction of this connection, as they are now.
    fn rules(&mut self) -> OneWay {
        let rules = self.rules.borrow_and_update();
        let is_meant = match rules.scope {
            Scope::All => true,
            Scope::Replication => self.passage.is_replication.load(Ordering::SeqCst),
        };
        if !is_meant {
            return OneWay::default();
        }
        let is_mute = matches!(self.way, Way::ToClient)
            && rules
                .mute_after
                .is_some_and(|most| self.passage.said.load(Ordering::SeqCst) >= most);
        let way = self.way as usize;
        OneWay {
            delay: rules.delay[way],
            is_black_hole: rules.is_black_hole[way] || is_mute,
            bytes_per_second: rules.bytes_per_second[way],
        }
    }
}

/// The part of [`Rules`] that is for one direction.
#[derive(Clone, Copy, Debug, Default)]
struct OneWay {
    delay: Duration,
    is_black_hole: bool,
    bytes_per_second: Option<u32>,
}

/// What only a replica says to its primary.
const REPLCONF: &[u8] = b"REPLCONF";

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
