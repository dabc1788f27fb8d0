//! All connections of a swarm, and the loop that drives them.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use tokio::time::Instant;

use super::connection::{Connection, Introduction, Progress};
use super::dialect::{self, Dialect, Member, PUBLISHERS, Wish};
use super::frames;
use super::link::{self, Link};
use super::options::SwarmOptions;

/// Large enough that a burst is one read.
const READ_BYTES: usize = 1 << 18;
const EVENTS: usize = 1_024;
/// Ids of commands before it were used for connecting and subscribing.
const FIRST_ID: u32 = 3;
/// How long nothing may happen while something is awaited.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything that has come so far, over all connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) marks: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

pub(super) struct Swarm {
    dialect: Dialect,
    options: Options,
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    request: Vec<u8>,
    tokens: Vec<String>,
    resume_tokens: Vec<Option<String>>,
    /// The last one only publishes.
    connections: Vec<Option<Connection>>,
    open: usize,
    payload: String,
    pub(super) totals: Totals,
}

struct Options {
    address: SocketAddr,
    publisher_address: SocketAddr,
    channels: u32,
    /// TLS, and whom to trust.
    trust: Option<Arc<ClientConfig>>,
    keeps_resume_tokens: bool,
    /// Then replies would be counted as deliveries, so none is asked for.
    counts_messages: bool,
}

impl Swarm {
    pub(super) fn new(options: &SwarmOptions, tokens: Vec<String>) -> Result<Self> {
        for address in std::iter::once(options.address).chain(options.publisher_address) {
            ensure!(address.ip().is_loopback(), "{address} is not loopback");
        }
        let count = options.connections as usize + 1;
        Ok(Self {
            dialect: options.dialect,
            options: Options {
                address: options.address,
                publisher_address: options.publisher_address.unwrap_or(options.address),
                channels: options.channels,
                trust: options.ca_file.as_deref().map(link::trust).transpose()?,
                keeps_resume_tokens: options.phases.contains(&super::phases::Phase::Drop)
                    && options.dialect == Dialect::Json,
                counts_messages: options.dialect.is_deflated(),
            },
            poll: Poll::new().context("no poll")?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BYTES].into(),
            request: upgrade_request(options),
            tokens,
            resume_tokens: vec![None; count],
            connections: std::iter::repeat_with(|| None).take(count).collect(),
            open: 0,
            payload: dialect::payload(options.payload_bytes as usize),
            totals: Totals::default(),
        })
    }

    /// How many are subscribed, without the one that only publishes.
    pub(super) fn len(&self) -> usize {
        self.connections.len() - 1
    }

    /// Opens those that are not open, so many at a time.
    pub(super) fn open_all(&mut self, concurrency: u32) -> Result<()> {
        let mut next = 0;
        let (mut last, mut last_open) = (Instant::now(), self.open);
        while self.open < self.connections.len() {
            while next < self.connections.len() && next < self.open + concurrency as usize {
                self.start(next)?;
                next += 1;
            }
            self.turn(Some(Duration::from_millis(100)))?;
            if self.open > last_open {
                (last, last_open) = (Instant::now(), self.open);
            }
            ensure!(last.elapsed() < PATIENCE, "only {} connections opened", self.open);
        }
        Ok(())
    }

    fn start(&mut self, index: usize) -> Result<()> {
        let address = if self.is_publisher(index) {
            self.options.publisher_address
        } else {
            self.options.address
        };
        let mut connection = Connection::new(
            Link::start(source(address, index), address, self.options.trust.as_ref())
                .with_context(|| format!("connection {index} cannot be opened"))?,
        );
        self.poll.registry().register(
            &mut connection.link.stream,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.connections[index] = Some(connection);
        Ok(())
    }

    /// Cuts all of them.
    pub(super) fn cut_all(&mut self) {
        for connection in &mut self.connections {
            *connection = None;
        }
        self.open = 0;
    }

    /// Waits, at most so long, for something to happen, and takes it.
    pub(super) fn turn(&mut self, timeout: Option<Duration>) -> Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            outcome => outcome.context("cannot poll")?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.attend(event.token().0, event.is_writable())?;
        }
        self.events = events;
        Ok(())
    }

    fn attend(&mut self, index: usize, is_writable: bool) -> Result<()> {
        let channel = self.channel(index);
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        if !connection.is_open() {
            return self.advance(index, channel);
        }
        if is_writable {
            connection.flush()?;
        }
        let arrival = connection
            .receive(&mut self.buffer)
            .with_context(|| format!("connection {index} broke"))?;
        self.totals.marks += arrival.marks;
        self.totals.messages += arrival.messages;
        self.totals.bytes += arrival.bytes;
        ensure!(!arrival.is_closed, "the server closed connection {index}");
        Ok(())
    }

    fn advance(&mut self, index: usize, channel: u32) -> Result<()> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let token = self.tokens.get(index).map_or("", String::as_str);
        let resume = self.resume_tokens[index].as_deref();
        let member = Member { token, channel, resume };
        let how = Introduction { dialect: self.dialect, request: &self.request, member };
        let progress = connection
            .advance(how, &mut self.buffer)
            .with_context(|| format!("connection {index} did not open"))?;
        if let Progress::Open(heard) = progress {
            self.open += 1;
            if self.options.keeps_resume_tokens {
                self.resume_tokens[index] = Some(resume_token(&heard)?);
            }
        }
        Ok(())
    }

    fn is_publisher(&self, index: usize) -> bool {
        index + 1 == self.connections.len()
    }

    /// The channel a connection is subscribed to.
    pub(super) fn channel(&self, index: usize) -> u32 {
        if self.is_publisher(index) {
            return PUBLISHERS;
        }
        u32::try_from(index).map_or(0, |index| index % self.options.channels)
    }

    /// Publishes so many at once to the first channel, from the connection that does only that.
    pub(super) fn publish_burst(&mut self, count: u32) -> Result<()> {
        let ids: Vec<u32> = if self.options.counts_messages {
            vec![0; count as usize]
        } else {
            (FIRST_ID..FIRST_ID + count).collect()
        };
        self.publish(self.connections.len() - 1, &ids, 0)
    }

    /// One publication to the connection's own channel; `id` as the command's, 0 for no reply.
    pub(super) fn publish_own(&mut self, index: usize, id: u32) -> Result<()> {
        self.publish(index, &[id], self.channel(index))
    }

    /// One publication without reply to a channel nobody is subscribed to.
    pub(super) fn publish_unheard(&mut self, index: usize, id: u32) -> Result<()> {
        let channel = self.channel(index) + self.options.channels;
        self.publish(index, &[id], channel)
    }

    fn publish(&mut self, index: usize, ids: &[u32], channel: u32) -> Result<()> {
        let wishes: Vec<Wish<'_>> =
            ids.iter().map(|id| Wish { channel, payload: &self.payload, id: *id }).collect();
        let mut bytes = Vec::new();
        for content in self.dialect.publish(&wishes) {
            frames::encode(self.dialect.opcode(), &content, &mut bytes);
        }
        let Some(connection) = &mut self.connections[index] else {
            bail!("connection {index} is not there");
        };
        connection.send(&bytes)
    }

    /// Takes what comes until `is_done`.
    pub(super) fn run_until(&mut self, is_done: impl Fn(&Totals) -> bool) -> Result<()> {
        let mut last = Instant::now();
        let mut bytes = self.totals.bytes;
        while !is_done(&self.totals) {
            self.turn(Some(Duration::from_secs(1)))?;
            if self.totals.bytes > bytes {
                (last, bytes) = (Instant::now(), self.totals.bytes);
            }
            ensure!(last.elapsed() < PATIENCE, "nothing comes any more: {:?}", self.totals);
        }
        Ok(())
    }
}

/// Where a connection comes from: an address of the loopback for every thousand.
///
/// The system looks for a free port among half of 28,000 at a time, one by one, and once that half is
/// taken every connection from the same address would search all of it first. The server's port is in
/// the address, so that swarms on several servers do not meet.
fn source(server: SocketAddr, index: usize) -> SocketAddr {
    const CONNECTIONS: usize = 1_000;

    let [high, low] = server.port().to_be_bytes();
    let group = u8::try_from(index / CONNECTIONS + 1).unwrap_or(u8::MAX);
    // Past 127.0, which is where servers listen.
    SocketAddr::from(([127, high.max(1), low, group], 0))
}

fn upgrade_request(options: &SwarmOptions) -> Vec<u8> {
    let path = options.dialect.path();
    let subprotocol = options
        .dialect
        .subprotocol()
        .map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"))
        .unwrap_or_default();
    let extension = if options.dialect.is_deflated() {
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; \
         server_no_context_takeover\r\n"
    } else {
        ""
    };
    // The key is the example's of RFC 6455, section 1.3: any will do.
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         {subprotocol}{extension}\r\n",
        options.address
    )
    .into_bytes()
}

fn resume_token(heard: &[u8]) -> Result<String> {
    let heard = String::from_utf8_lossy(heard);
    let (_, after) = heard.split_once("\"resume_token\":\"").context("no resume token")?;
    let (token, _) = after.split_once('"').context("no end of the resume token")?;
    Ok(token.to_owned())
}
