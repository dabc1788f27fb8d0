//! One connection: a socket and where it stands.

use std::io::{ErrorKind, Read as _, Write as _};

use anyhow::{Context as _, Result, bail, ensure};

use super::dialect::{Cue, Dialect, MARK, Member};
use super::frames::{self, Seen, Walker};
use super::link::Link;

pub(super) struct Connection {
    pub(super) link: Link,
    state: State,
    walker: Walker,
    /// The last byte that came, in case a mark straddles two reads.
    last: u8,
    /// What the socket would not take yet.
    unsent: Vec<u8>,
}

/// States are named by what they await.
enum State {
    Writable,
    Response(Vec<u8>),
    Cue { step: usize, heard: Vec<u8> },
    Publications,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival {
    pub(super) marks: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) is_closed: bool,
}

/// What has come of an opening connection.
pub(super) enum Progress {
    Opening,
    /// Everything the server said after the upgrade.
    Open(Vec<u8>),
}

/// How a connection introduces itself.
#[derive(Clone, Copy)]
pub(super) struct Introduction<'a> {
    pub(super) dialect: Dialect,
    pub(super) request: &'a [u8],
    pub(super) member: Member<'a>,
}

impl Connection {
    pub(super) fn new(link: Link) -> Self {
        let unsent = Vec::new();
        Self { link, state: State::Writable, walker: Walker::default(), last: 0, unsent }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Publications)
    }

    /// Takes the opening as far as it goes now.
    pub(super) fn advance(&mut self, how: Introduction<'_>, buffer: &mut [u8]) -> Result<Progress> {
        if matches!(self.state, State::Writable) {
            if let Some(error) = self.link.stream.take_error()? {
                return Err(error).context("cannot connect");
            }
            if self.link.stream.peer_addr().is_err() {
                return Ok(Progress::Opening);
            }
            self.send(how.request)?;
            self.state = State::Response(Vec::new());
        }
        // With TLS nothing is taken before the handshake is over.
        self.flush()?;
        let len = match self.link.read(buffer) {
            Ok(0) => bail!("the server hung up: {}", self.heard()),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Opening),
            Err(error) => return Err(error).context("cannot read"),
        };
        match &mut self.state {
            State::Response(heard) | State::Cue { heard, .. } => {
                heard.extend_from_slice(&buffer[..len]);
            }
            State::Writable | State::Publications => {}
        }
        self.finish_upgrade(how.dialect)?;
        self.answer_cues(how)
    }

    fn finish_upgrade(&mut self, dialect: Dialect) -> Result<()> {
        let State::Response(heard) = &mut self.state else { return Ok(()) };
        let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(());
        };
        ensure!(
            heard.starts_with(b"HTTP/1.1 101"),
            "not upgraded: {}",
            String::from_utf8_lossy(heard)
        );
        let is_granted = String::from_utf8_lossy(&heard[..end]).contains("permessage-deflate");
        ensure!(
            is_granted || !dialect.is_deflated(),
            "the server does not grant permessage-deflate"
        );
        let heard = heard.split_off(end + 4);
        self.state = State::Cue { step: 0, heard };
        Ok(())
    }

    fn answer_cues(&mut self, how: Introduction<'_>) -> Result<Progress> {
        loop {
            let State::Cue { step, heard } = &mut self.state else { return Ok(Progress::Opening) };
            let step = *step;
            let Some(cue) = how.dialect.cue(step, how.member.channel) else {
                let heard = std::mem::take(heard);
                let seen = self.walker.walk(&heard);
                ensure!(seen.closes == 0, "closed: {}", String::from_utf8_lossy(&heard));
                self.state = State::Publications;
                return Ok(Progress::Open(heard));
            };
            if !is_given(&cue, heard) {
                ensure!(
                    !heard.windows(8).any(|part| part == b"\"error\":"),
                    "refused: {}",
                    String::from_utf8_lossy(heard)
                );
                return Ok(Progress::Opening);
            }
            self.state = State::Cue { step: step + 1, heard: std::mem::take(heard) };
            if let Some(content) = how.dialect.say(step, how.member) {
                let mut frame = Vec::new();
                frames::encode(how.dialect.opcode(), &content, &mut frame);
                self.send(&frame)?;
            }
        }
    }

    /// Reads once: edge-triggered polling tells of whatever comes after a read that did not fill the
    /// buffer.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<Arrival> {
        let mut arrival = Arrival::default();
        loop {
            let len = match self.link.read(buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(arrival),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot read"),
            };
            let bytes = &buffer[..len];
            let Some(last) = bytes.last() else {
                arrival.is_closed = true;
                return Ok(arrival);
            };
            arrival.marks += frames::count_marks(self.last, bytes, MARK);
            self.last = *last;
            arrival.bytes += len as u64;
            let Seen { messages, pings, closes } = self.walker.walk(bytes);
            arrival.messages += messages;
            arrival.is_closed |= closes > 0;
            if pings > 0 {
                self.send(&frames::pong())?;
            }
            if len < buffer.len() && self.link.is_plain() {
                return Ok(arrival);
            }
        }
    }

    /// Writes what the socket takes and keeps the rest.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.flush()
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.link.write(&self.unsent) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot write"),
            }
        }
        // Twenty thousand idle connections need no buffer each.
        self.unsent = Vec::new();
        Ok(())
    }

    fn heard(&self) -> String {
        match &self.state {
            State::Response(heard) | State::Cue { heard, .. } => {
                String::from_utf8_lossy(heard).into_owned()
            }
            State::Writable | State::Publications => "nothing heard".to_owned(),
        }
    }
}

fn is_given(cue: &Cue, heard: &[u8]) -> bool {
    match cue {
        Cue::Bytes(bytes) => {
            bytes.is_empty() || heard.windows(bytes.len()).any(|part| part == bytes)
        }
        Cue::Messages(count) => Walker::default().walk(heard).messages >= *count,
    }
}
