use std::io::{self, BufRead};

use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;
use tidewire_broker::{SavedChannel, SavedLog};
use tidewire_store::SavedSession;

use super::line::{ChannelLine, Header, Line, PublicationLine, VERSION};
use super::writer::hexadecimal;
use super::{Legacy, MOST_BYTES};

/// Why a file cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it cannot be read ({0})")]
    Closed(#[from] io::Error),
    #[error("it is larger than {MOST_BYTES} bytes")]
    Large,
    #[error("it is of version {0}, and this program reads version {VERSION}")]
    Version(u64),
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Reads what a writer has written, and when that was if its node had gone.
pub(super) fn read(from: impl BufRead) -> Result<(Legacy, Option<u64>), Unreadable> {
    let mut reader = Reader { from, digest: Context::new(&SHA256), line: Vec::new(), number: 0 };
    let header = reader.header()?;
    let (mut sessions, mut channels) = (Vec::new(), Vec::new());
    reader.rest(&mut sessions, &mut channels)?;
    let log = SavedLog { started_ms: header.started_ms, channels };
    Ok((Legacy { secrets: header.secrets, log, sessions }, header.saved_at_ms))
}

struct Reader<R> {
    from: R,
    /// Of the lines before this one.
    digest: Context,
    line: Vec<u8>,
    number: usize,
}

impl<R: BufRead> Reader<R> {
    fn header(&mut self) -> Result<Header, Unreadable> {
        #[derive(Deserialize)]
        struct Versioned {
            header: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }

        self.advance()?;
        let versioned: Versioned =
            serde_json::from_slice(&self.line).map_err(|_| self.damaged("is no header"))?;
        match versioned.header.version {
            version if version != u64::from(VERSION) => Err(Unreadable::Version(version)),
            _ => match self.parse()? {
                Line::Header(header) => Ok(header),
                _ => Err(self.damaged("is no header")),
            },
        }
    }

    fn rest(
        &mut self,
        sessions: &mut Vec<SavedSession>,
        channels: &mut Vec<SavedChannel>,
    ) -> Result<(), Unreadable> {
        loop {
            self.advance()?;
            match self.parse()? {
                Line::Header(_) => return Err(self.damaged("is a second header")),
                Line::Session(session) => sessions.push(session.decode()),
                Line::Channel(channel) => channels.push(self.channel(channel)?),
                Line::Publication(_) => return Err(self.damaged("belongs to no channel")),
                Line::End(end) => {
                    let digest = hexadecimal(self.digest.clone().finish().as_ref());
                    let is_whole = digest == end.sha256 && self.from.fill_buf()?.is_empty();
                    return if is_whole { Ok(()) } else { Err(self.damaged("ends another file")) };
                }
            }
        }
    }

    fn channel(&mut self, line: ChannelLine) -> Result<SavedChannel, Unreadable> {
        let count = line.publications;
        let channel = line.decode().ok_or_else(|| self.damaged("is no channel"))?;
        let before = channel.top.checked_sub(count);
        let oldest =
            before.ok_or_else(|| self.damaged("has more publications than it numbered"))?;
        let mut publications = Vec::new();
        for index in 1..=count {
            self.advance()?;
            let Line::Publication(publication) = self.parse()? else {
                return Err(self.damaged("is no publication"));
            };
            publications.push(self.publication(publication, &channel, oldest + index)?);
        }
        Ok(SavedChannel { publications, ..channel })
    }

    fn publication(
        &self,
        line: PublicationLine,
        channel: &SavedChannel,
        offset: u64,
    ) -> Result<tidewire_model::Publication, Unreadable> {
        line.decode(channel, offset).ok_or_else(|| self.damaged("is no publication"))
    }

    /// Goes on to the next line.
    fn advance(&mut self) -> Result<(), Unreadable> {
        self.digest.update(&self.line);
        self.line.clear();
        self.number += 1;
        self.from.read_until(b'\n', &mut self.line)?;
        if self.line.ends_with(b"\n") { Ok(()) } else { Err(self.damaged("is not whole")) }
    }

    fn parse(&self) -> Result<Line, Unreadable> {
        serde_json::from_slice(&self.line).map_err(|_| self.damaged("is not of this version"))
    }

    /// Says what is wrong with the line, and nothing of what is in it.
    fn damaged(&self, what: &str) -> Unreadable {
        Unreadable::Damaged(format!("line {} {what}", self.number))
    }
}
