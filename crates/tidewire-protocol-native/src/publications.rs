//! The path of publications to clients, the same for both encodings.
//!
//! What an [`Envelope`] keeps is the whole frame that holds this one publication. Sending it alone
//! shares those bytes; sending it in a batch copies its item out of them, behind a head that names
//! channel and epoch. What it keeps for those who take deltas is the delta itself, which each of the
//! encodings puts into an item when it is needed.

use std::sync::Arc;

use bytes::Bytes;
use tidewire_model::{Channel, Deltas, Encoding, Envelope, Epoch, Event, Publication, RequestId};
use tidewire_protocol::Frame;

use crate::assembly::{Assembly, Framing};
use crate::fossil;

/// How one of the encodings writes events.
pub(crate) trait EventWriter {
    const FRAMING: Framing;
    const ENCODING: Encoding;

    /// What stands before the items of a batch.
    fn head(channel: &Channel, epoch: Epoch) -> Vec<u8>;

    fn item(publication: &Publication, content: Content<'_>) -> Vec<u8>;

    /// Appends a batch as a part of a frame.
    fn push_batch(out: &mut Vec<u8>, head: &[u8], items: &[&[u8]]);

    /// Finds the item in what `push_batch` wrote for `head` and a single item.
    fn only_item<'a>(batch: &'a [u8], head: &[u8]) -> &'a [u8];

    fn push_event(assembly: &mut Assembly<'_>, event: &Event);
}

/// In what form an item holds its payload.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// For a client that gets no deltas.
    Plain,
    /// In full, for a client that applies the next delta to it.
    Base,
    /// As what changed since the payload before.
    Delta(&'a Bytes),
}

/// The server's half of [`Protocol::encode`](tidewire_protocol::Protocol::encode).
pub(crate) fn encode<W: EventWriter>(events: &[Event], soft_limit: usize, frames: &mut Vec<Frame>) {
    if let [Event::Publications { publications, deltas: Deltas::Unasked, .. }] = events
        && let [envelope] = publications.as_slice()
    {
        frames.push(W::FRAMING.frame(alone::<W>(envelope).clone()));
        return;
    }
    let mut assembly = Assembly::new(W::FRAMING, soft_limit, frames);
    for event in events.iter().filter(|event| !is_unwanted(event)) {
        W::push_event(&mut assembly, event);
    }
    assembly.finish();
}

/// Whether an event is nothing but the reply to a command that asked for none. What it changed
/// (a subscription, the connection itself) is told all the same, without an id.
fn is_unwanted(event: &Event) -> bool {
    match event {
        Event::Published { request, .. }
        | Event::History { request, .. }
        | Event::Entered { request, .. }
        | Event::Left { request, .. }
        | Event::Members { request, .. }
        | Event::Pong { request }
        | Event::Refreshed { request, .. } => *request == RequestId(0),
        _ => false,
    }
}

/// Appends publications of one channel as batches: as many as they have epochs, or more where the
/// soft limit asks for it.
pub(crate) fn push_publications<W: EventWriter>(
    assembly: &mut Assembly<'_>,
    publications: &[Arc<Envelope>],
    deltas: Deltas,
) {
    let together = |a: &Arc<Envelope>, b: &Arc<Envelope>| {
        a.position.epoch == b.position.epoch && a.channel.channel == b.channel.channel
    };
    let mut deltas = deltas;
    for run in publications.chunk_by(together) {
        let Some(first) = run.first() else { continue };
        let head = W::head(&first.channel.channel, first.position.epoch);
        if deltas == Deltas::Unasked {
            let items: Vec<_> =
                run.iter().map(|envelope| W::only_item(alone::<W>(envelope), &head)).collect();
            push_run::<W>(assembly, &head, &items);
        } else {
            let items = items_of::<W>(run, deltas);
            let items: Vec<_> = items.iter().map(Vec::as_slice).collect();
            push_run::<W>(assembly, &head, &items);
        }
        // What another epoch begins with has no base.
        deltas = deltas.after_gap();
    }
}

/// The items of a client that takes deltas.
fn items_of<W: EventWriter>(run: &[Arc<Envelope>], deltas: Deltas) -> Vec<Vec<u8>> {
    for (previous, envelope) in run.iter().zip(&run[1..]) {
        envelope.follow(previous);
    }
    let mut deltas = deltas;
    let items = run.iter().map(|envelope| {
        let has_base = matches!(deltas, Deltas::Based(_));
        deltas = deltas.after_sending();
        let delta = has_base.then(|| envelope.delta(fossil::delta)).flatten();
        W::item(envelope, delta.map_or(Content::Base, Content::Delta))
    });
    items.collect()
}

fn push_run<W: EventWriter>(assembly: &mut Assembly<'_>, head: &[u8], items: &[&[u8]]) {
    let soft_limit = assembly.soft_limit();
    let mut rest = items;
    while !rest.is_empty() {
        let out = assembly.part();
        let room = soft_limit.saturating_sub(out.len() + head.len());
        let (batch, later) = rest.split_at(fitting(rest, room));
        W::push_batch(out, head, batch);
        rest = later;
    }
}

/// How many of `items` it takes to fill `room`: at least one, and the last may overlap.
fn fitting(items: &[&[u8]], room: usize) -> usize {
    let mut filled = 0;
    let before = items.iter().position(|item| {
        filled += item.len();
        filled >= room
    });
    before.map_or(items.len(), |last| last + 1)
}

/// The frame that holds this publication and nothing else.
fn alone<W: EventWriter>(envelope: &Envelope) -> &Bytes {
    envelope.encoded(W::ENCODING, |publication| {
        let head = W::head(&publication.channel.channel, publication.position.epoch);
        let item = W::item(publication, Content::Plain);
        let mut out = Vec::with_capacity(head.len() + item.len() + 16);
        W::push_batch(&mut out, &head, &[&item]);
        out.into()
    })
}
