//! A client that keeps to nothing.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::victim::{PATIENCE, Victim};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
/// Lengths that say how many bytes of length follow (RFC 6455 section 5.2).
const TWO_BYTES: u8 = 0x7e;
const EIGHT_BYTES: u8 = 0x7f;
/// Answers are shorter.
const MOST: usize = 4 << 20;

/// What was sent back in one frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// `None` if it is no close frame, or has no code.
    pub(crate) fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk().filter(|_| self.opcode == CLOSE & 0x0f)?;
        Some(u16::from_be_bytes(*code))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

pub(crate) struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    pub(crate) async fn open(victim: &Victim) -> Self {
        let stream = TcpStream::connect(victim.clients).await.expect("it listens");
        Self { stream, unread: Vec::new() }
    }

    /// A WebSocket, without a first frame yet.
    pub(crate) async fn upgraded(victim: &Victim) -> Self {
        Self::upgraded_with(victim, "").await
    }

    /// With further headers, each with its end of line.
    pub(crate) async fn upgraded_with(victim: &Victim, headers: &str) -> Self {
        let mut raw = Self::open(victim).await;
        let request = format!(
            "GET /v1/acme/ws HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n"
        );
        raw.send(request.as_bytes()).await.expect("it reads");
        assert_eq!(raw.status().await, Some(101));
        raw
    }

    /// A client that has been let in.
    pub(crate) async fn connected(victim: &Victim, user: &str) -> Self {
        Self::connected_with(victim, &victim.token(user)).await
    }

    pub(crate) async fn connected_with(victim: &Victim, token: &str) -> Self {
        let mut raw = Self::upgraded(victim).await;
        raw.say(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)).await;
        let answer = raw.frame().await.expect("an answer");
        assert!(answer.text().contains("\"connected\""), "{}", answer.text());
        raw
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await?
    }

    /// Sends a text frame to somebody who is still there.
    pub(crate) async fn say(&mut self, text: &str) {
        self.send(&frame(TEXT, text.as_bytes())).await.expect("it reads");
    }

    /// The status of the answer, whose headers are read over. `None` if there is none.
    pub(crate) async fn status(&mut self) -> Option<u16> {
        let end = loop {
            let end = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => self.read().await?,
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
    }

    /// The next frame. `None` once the connection has ended.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, size)) = parse(&self.unread) {
                self.unread.drain(..size);
                return Some(frame);
            }
            self.read().await?;
        }
    }

    /// Sends the same over and over for a while, and reads all that comes meanwhile.
    pub(crate) async fn flood(&mut self, bytes: &[u8], duration: Duration) {
        // It may be let go before.
        drop(timeout(duration, self.flood_on(bytes)).await);
    }

    async fn flood_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        loop {
            let ready = self.stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
            if ready.is_readable() {
                self.unread.clear();
                match self.stream.try_read_buf(&mut self.unread) {
                    Ok(0) => return Ok(()),
                    read => not_now(read)?,
                };
            }
            if ready.is_writable() {
                let written = not_now(self.stream.try_write(left))?;
                left = &left[written..];
                left = if left.is_empty() { bytes } else { left };
            }
        }
    }

    /// Sends the same over and over until it is told to go; returns the code, and how many frames came
    /// before.
    pub(crate) async fn flood_to_the_end(&mut self, bytes: &[u8]) -> (Option<u16>, usize) {
        timeout(2 * PATIENCE, self.flood_and_count(bytes)).await.expect("it is let go")
    }

    async fn flood_and_count(&mut self, bytes: &[u8]) -> (Option<u16>, usize) {
        let (mut left, mut frames) = (bytes, 0);
        loop {
            let ready = self.stream.ready(Interest::READABLE | Interest::WRITABLE).await;
            let ready = ready.expect("a socket");
            if ready.is_readable() {
                let read = not_now(self.stream.try_read_buf(&mut self.unread));
                if let Some(close) = self.forget_frames(&mut frames) {
                    return (close.close_code(), frames);
                }
                if read.is_err() || ready.is_read_closed() {
                    return (None, frames);
                }
            }
            if ready.is_writable() {
                // Whether it is over is read.
                let written = self.stream.try_write(left).unwrap_or_default();
                left = &left[written..];
                left = if left.is_empty() { bytes } else { left };
            }
        }
    }

    /// Counts and forgets the frames that have come, up to a close frame.
    fn forget_frames(&mut self, count: &mut usize) -> Option<Frame> {
        while let Some((frame, size)) = parse(&self.unread) {
            if frame.opcode == CLOSE & 0x0f {
                return Some(frame);
            }
            self.unread.drain(..size);
            *count += 1;
        }
        None
    }

    /// Sends the same so many times, or until it is let go, and reads nothing.
    pub(crate) async fn send_often(&mut self, bytes: &[u8], times: usize) {
        for _ in 0..times {
            if self.send(bytes).await.is_err() {
                return;
            }
        }
    }

    /// Reads on to the close frame and returns its code. `None` if the connection ended without.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        loop {
            let frame = self.frame().await?;
            if frame.opcode == CLOSE & 0x0f {
                return frame.close_code();
            }
        }
    }

    async fn read(&mut self) -> Option<()> {
        assert!(self.unread.len() < MOST, "an answer of that size was not expected");
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await;
        // Who is cut off may see a reset instead of an end.
        (read.expect("an answer or an end").unwrap_or(0) > 0).then_some(())
    }
}

/// A whole frame, masked by zeros, which leave the payload as it is. `first` is its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

/// The header of a frame that announces a payload of `size` bytes.
pub(crate) fn header(first: u8, size: u64) -> Vec<u8> {
    let mut header = vec![first];
    match (u8::try_from(size), u16::try_from(size)) {
        (Ok(size), _) if size < 126 => header.push(MASKED | size),
        (_, Ok(size)) => {
            header.push(MASKED | TWO_BYTES);
            header.extend(size.to_be_bytes());
        }
        _ => {
            header.push(MASKED | EIGHT_BYTES);
            header.extend(size.to_be_bytes());
        }
    }
    header.extend([0; 4]);
    header
}

/// What has been done, which is nothing if it was not possible yet.
fn not_now(done: io::Result<usize>) -> io::Result<usize> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        done => done,
    }
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (size, start) = match bytes.get(1)? & 0x7f {
        TWO_BYTES => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        EIGHT_BYTES => {
            (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10)
        }
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(start..start + size)?.to_vec();
    Some((Frame { opcode: bytes[0] & 0x0f, payload }, start + size))
}
