//! A connection on which anything can be said, and every byte that comes back is kept.

use std::fmt::Debug;
use std::time::Duration;

use tidewire_client::{Codec, ServerEvent};
use tidewire_model::Connected;
use tidewire_protocol::Frame;
use tidewire_transport::{ClientSocket, Limits, Transport as _, client};
use tokio::time::timeout;

use crate::command::{Command, Member, frame};

const PATIENCE: Duration = Duration::from_secs(20);
const LIMITS: Limits = Limits { message_bytes: 16 << 20, fragments: 64 };
/// Numbers of commands of no case.
const CONNECT: u64 = 1_000_000;
const PING: u64 = 1_000_001;
const LAST_PING: u64 = 1_000_002;

pub(crate) struct Socket {
    stream: ClientSocket,
    codec: Codec,
    /// Every byte that came.
    pub(crate) bytes: Vec<u8>,
    /// What it was.
    pub(crate) told: Vec<String>,
    pub(crate) connected: Option<Connected>,
    is_over: bool,
}

impl Socket {
    /// Without a first frame yet; or what was answered instead.
    pub(crate) async fn dial(url: &str, codec: Codec) -> Result<Self, String> {
        let dialled = timeout(PATIENCE, client::connect(url, codec.subprotocol(), LIMITS)).await;
        let stream = dialled.expect("an answer").map_err(|error| format!("{error:?}"))?;
        let (bytes, told) = (Vec::new(), Vec::new());
        Ok(Self { stream, codec, bytes, told, connected: None, is_over: false })
    }

    /// Who has been let in.
    pub(crate) async fn open(url: &str, codec: Codec, token: &str) -> Self {
        let mut socket = Self::dial(url, codec).await.expect("it listens");
        socket.connect(vec![("token", Member::Text(token.into()))]).await;
        assert!(socket.connected.is_some(), "{:?}", socket.told);
        socket.forget();
        socket
    }

    pub(crate) fn forget(&mut self) {
        self.told.clear();
        self.bytes.clear();
    }

    pub(crate) async fn connect(&mut self, members: Vec<(&'static str, Member)>) {
        self.say(&[Command::new("connect", members)], CONNECT);
        self.until(|socket| socket.has_answered(CONNECT)).await;
    }

    /// Says all that in one frame, and waits until everything has its answer, and a ping after it; or until
    /// the connection has ended.
    pub(crate) async fn exchange(&mut self, commands: &[Command]) {
        self.say(commands, 1);
        self.say(&[Command::new("ping", Vec::new())], PING);
        let last = commands.len() as u64;
        self.until(|socket| (1..=last).chain([PING]).all(|id| socket.has_answered(id))).await;
        // What an answer brings with it may come behind it.
        self.say(&[Command::new("ping", Vec::new())], LAST_PING);
        self.until(|socket| socket.has_answered(LAST_PING)).await;
    }

    /// As [`exchange`](Self::exchange), of a frame that lacks its last byte and is none.
    pub(crate) async fn exchange_cut(&mut self, commands: &[Command]) {
        let cut = match frame(self.codec, commands, 1) {
            Frame::Text(bytes) => Frame::Text(bytes.slice(..bytes.len() - 1)),
            Frame::Binary(bytes) => Frame::Binary(bytes.slice(..bytes.len() - 1)),
        };
        self.queue(cut);
        self.until(|_| false).await;
    }

    fn say(&mut self, commands: &[Command], first: u64) {
        self.queue(frame(self.codec, commands, first));
    }

    fn queue(&mut self, frame: Frame) {
        // It may have ended already, which is seen when it is read.
        drop(self.stream.queue(&[frame]));
    }

    fn has_answered(&self, id: u64) -> bool {
        let id = format!("RequestId({id})");
        self.told.iter().any(|told| told.contains(&id))
    }

    /// Reads until `text` has come so often.
    pub(crate) async fn until_heard(&mut self, text: &str, times: usize) {
        self.until(|socket| count(&socket.bytes, text) >= times).await;
        assert!(count(&self.bytes, text) >= times, "{text} does not come: {:?}", self.told);
    }

    /// Reads until it is so, or the connection has ended.
    async fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let reading = async {
            while !self.is_over && !is_so(self) {
                self.read().await;
            }
        };
        if timeout(PATIENCE, reading).await.is_err() {
            unreachable!("it does not come: {:?}", self.told);
        }
    }

    async fn read(&mut self) {
        match self.stream.receive().await {
            Ok(Some(frame)) => {
                self.bytes.extend_from_slice(frame.bytes());
                for event in self.codec.decode(&frame).expect("a node speaks the protocol") {
                    self.note(&event);
                    if let ServerEvent::Connected(connected) = event {
                        self.connected = Some(connected);
                    }
                }
            }
            Ok(None) => {
                let close = self.stream.peer_close().cloned();
                if let Some(close) = &close {
                    self.bytes.extend_from_slice(close.reason.as_bytes());
                }
                self.note(&close);
                self.is_over = true;
            }
            Err(error) => {
                self.note(&error);
                self.is_over = true;
            }
        }
    }

    fn note(&mut self, told: &impl Debug) {
        self.told.push(format!("{told:?}"));
    }
}

pub(crate) fn contains(bytes: &[u8], text: &str) -> bool {
    count(bytes, text) > 0
}

fn count(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
}
