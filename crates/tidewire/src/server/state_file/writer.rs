use std::io::{self, BufWriter, Write};

use aws_lc_rs::digest::{Context, SHA256};

use super::Legacy;
use super::line::{ChannelLine, End, Header, Line, PublicationLine, SessionLine, VERSION};

/// What went into a file.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) channels: usize,
    pub(super) sessions: usize,
    /// Sessions, channels and publications that did not fit.
    pub(super) left_out: usize,
}

/// Writes what fits into `most` bytes: of sessions whatever fits into half of them, of channels those
/// that were used last, of publications the newest of each channel.
pub(super) fn write(
    to: impl Write,
    mut legacy: Legacy,
    saved_at_ms: Option<u64>,
    most: u64,
) -> io::Result<Written> {
    let left_out = fit(&mut legacy, most);
    let Legacy { secrets, log, sessions } = legacy;
    let mut lines = Lines { to: BufWriter::new(to), digest: Context::new(&SHA256), bytes: 0 };
    let started_ms = log.started_ms;
    lines.push(&Line::Header(Header { version: VERSION, saved_at_ms, started_ms, secrets }))?;
    for session in &sessions {
        lines.push(&Line::Session(SessionLine::from(session)))?;
    }
    for channel in &log.channels {
        lines.push(&Line::Channel(ChannelLine::from(channel)))?;
        for publication in &channel.publications {
            lines.push(&Line::Publication(PublicationLine::from(publication)))?;
        }
    }
    let bytes = lines.end()?;
    Ok(Written { bytes, channels: log.channels.len(), sessions: sessions.len(), left_out })
}

/// Leaves out what does not fit, and says how much that is.
fn fit(legacy: &mut Legacy, most: u64) -> usize {
    let before = count(legacy);
    let Legacy { log, sessions, .. } = legacy;
    let mut room = most.saturating_sub(ENDS);
    let half = room / 2;
    let used = keep(sessions, half, |session| cost(&Line::Session(session.into())));
    room -= used;
    log.channels.sort_by_key(|channel| channel.touched);
    let used = keep(&mut log.channels, room, |channel| cost(&Line::Channel(channel.into())));
    log.keep_newest(room - used, |publication| cost(&Line::Publication(publication.into())));
    before - count(legacy)
}

/// Keeps the first that fit into `room`, and says how much of it they take.
fn keep<T>(all: &mut Vec<T>, room: u64, cost: impl Fn(&T) -> u64) -> u64 {
    let mut used = 0;
    let fits = |one: &&T| {
        let needed = used + cost(one);
        let fits = needed <= room;
        used = if fits { needed } else { used };
        fits
    };
    let kept = all.iter().take_while(fits).count();
    all.truncate(kept);
    used
}

fn cost(line: &Line) -> u64 {
    line.encode().len() as u64
}

fn count(legacy: &Legacy) -> usize {
    let publications = legacy.log.channels.iter().map(|channel| channel.publications.len());
    legacy.sessions.len() + legacy.log.channels.len() + publications.sum::<usize>()
}

/// Lines on their way into a file.
struct Lines<W: Write> {
    to: BufWriter<W>,
    digest: Context,
    bytes: u64,
}

impl<W: Write> Lines<W> {
    fn push(&mut self, line: &Line) -> io::Result<()> {
        let line = line.encode();
        self.digest.update(&line);
        self.bytes += line.len() as u64;
        self.to.write_all(&line)
    }

    fn end(mut self) -> io::Result<u64> {
        let end = Line::End(End { sha256: hexadecimal(self.digest.finish().as_ref()) }).encode();
        self.to.write_all(&end)?;
        self.to.flush()?;
        Ok(self.bytes + end.len() as u64)
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// More than header and end take.
const ENDS: u64 = 1_024;
