//! Publications that are written together.

use std::sync::Arc;

use bytes::Bytes;
use tidewire_model::{Deltas, Envelope, Event, Handing, Position, TenantChannel, WhenSlow};
use tidewire_protocol::Protocol;
use tidewire_transport::{Deflate, Prepared, Scratch};

use super::key;
use crate::connection::FRAME_BYTES;
use crate::metrics::Tally;

/// Consecutive publications of one channel, in one epoch, or one of a channel that is sampled.
#[derive(Debug)]
pub(crate) struct Run {
    envelopes: Vec<Arc<Envelope>>,
    bytes: usize,
    when_slow: WhenSlow,
    /// As in the channel's rule.
    key: Option<Arc<str>>,
    is_sampled: bool,
    written: Vec<Written>,
}

/// A run in one of the shared forms.
#[derive(Debug)]
struct Written {
    protocol_index: u8,
    deltas: Deltas,
    prepared: Prepared,
    tally: Tally,
}

/// In which of the shared forms a connection gets publications.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Form {
    pub(crate) protocol_index: u8,
    pub(crate) deflate: Option<Deflate>,
}

/// Publications in one run, and their bytes. A connection with room for one byte more is handed a
/// whole run.
const RUN_PUBLICATIONS: usize = 128;
const RUN_BYTES: usize = 64 * 1_024;

impl Run {
    pub(super) fn new(envelope: Arc<Envelope>, handing: Handing) -> Self {
        let Handing { when_slow, key, sample, .. } = handing;
        Self {
            bytes: envelope.weight(),
            envelopes: vec![envelope],
            when_slow,
            key,
            is_sampled: sample.is_some(),
            written: Vec::new(),
        }
    }

    /// Whether a publication comes right behind, and there is room for it, or is to be instead.
    pub(super) fn takes(&self, envelope: &Envelope) -> bool {
        let (_, last) = self.span();
        if self.is_sampled {
            return true;
        }
        self.envelopes.len() < RUN_PUBLICATIONS
            && self.bytes < RUN_BYTES
            && last.epoch == envelope.position.epoch
            && last.offset + 1 == envelope.position.offset
    }

    /// Adds a publication; returns the one that it takes the place of.
    pub(super) fn push(&mut self, envelope: Arc<Envelope>) -> Option<Arc<Envelope>> {
        self.bytes += envelope.weight();
        self.envelopes.push(envelope);
        let replaced = self.is_sampled.then(|| self.envelopes.swap_remove(0))?;
        self.bytes -= replaced.weight();
        Some(replaced)
    }

    pub(crate) fn channel(&self) -> &TenantChannel {
        &self.envelopes[0].channel
    }

    /// What becomes of it for a client that has to read first.
    pub(crate) fn when_slow(&self) -> WhenSlow {
        self.when_slow
    }

    /// Whether what came before it was left out, for everybody.
    pub(crate) fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// What tells the value of one of its publications from others, if the channel's rule says so.
    pub(crate) fn key_of<'a>(&self, envelope: &'a Envelope) -> Option<&'a str> {
        let name = self.key.as_deref()?;
        envelope.key(|payload| key::member(payload, name))
    }

    /// The first position and the last.
    pub(crate) fn span(&self) -> (Position, Position) {
        (self.envelopes[0].position, self.envelopes[self.envelopes.len() - 1].position)
    }

    /// What it takes in memory, and nearly what it takes to write it to one connection, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.envelopes.len()
    }

    pub(crate) fn envelopes(&self) -> &[Arc<Envelope>] {
        &self.envelopes
    }

    /// The whole run as it is written to sockets, made by the first connection that needs it in this
    /// form, and what deltas there are in it.
    pub(crate) fn wire(
        &mut self,
        form: Form,
        deltas: Deltas,
        protocol: &mut dyn Protocol,
        scratch: &mut Scratch,
    ) -> (Bytes, Tally) {
        let is_it = |written: &Written| {
            (written.protocol_index, written.deltas) == (form.protocol_index, deltas)
        };
        let at = self.written.iter().position(is_it).unwrap_or_else(|| {
            self.written.push(self.write(form.protocol_index, deltas, protocol));
            self.written.len() - 1
        });
        let Written { prepared, tally, .. } = &mut self.written[at];
        (prepared.wire(form.deflate, scratch).clone(), *tally)
    }

    fn write(&self, protocol_index: u8, deltas: Deltas, protocol: &mut dyn Protocol) -> Written {
        let channel = self.channel().channel.clone();
        let publications = self.envelopes.clone();
        let mut frames = Vec::new();
        let event = Event::Publications { channel, publications, deltas };
        protocol.encode(&[event], FRAME_BYTES, &mut frames);
        let tally = Tally::of(&self.envelopes, deltas);
        Written { protocol_index, deltas, prepared: Prepared::new(&frames), tally }
    }
}
