use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use crate::{Payload, Publication};

/// A form in which a publication is sent to many clients alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    NativeJson,
    NativeProtobuf,
}

impl Encoding {
    const COUNT: usize = 2;
}

/// A publication and, once somebody has needed them, its shared encodings.
///
/// The first subscriber that needs an encoding makes it on its own task; the rest clone a pointer.
/// Shared as `Arc<Envelope>` between all subscribers of a node.
#[derive(Debug)]
pub struct Envelope {
    publication: Publication,
    encoded: [OnceLock<Bytes>; Encoding::COUNT],
    /// The publication before it, for as long as somebody else remembers that.
    previous: OnceLock<Weak<Envelope>>,
    delta: OnceLock<Option<Box<Bytes>>>,
    key: OnceLock<Option<Box<str>>>,
}

impl Envelope {
    pub fn new(publication: Publication) -> Self {
        Self {
            publication,
            encoded: Default::default(),
            previous: OnceLock::new(),
            delta: OnceLock::new(),
            key: OnceLock::new(),
        }
    }

    /// The bytes of this publication in `encoding`, made by `encode` if nobody has needed them yet.
    pub fn encoded(
        &self,
        encoding: Encoding,
        encode: impl FnOnce(&Publication) -> Bytes,
    ) -> &Bytes {
        self.encoded[encoding as usize].get_or_init(|| encode(&self.publication))
    }

    /// Takes note of a publication that may be the one before this in its channel and epoch.
    ///
    /// It is not kept alive for that: a channel's payloads live as long as they would without this.
    pub fn follow(&self, previous: &Arc<Self>) {
        let is_previous = previous.position.epoch == self.position.epoch
            && previous.position.offset + 1 == self.position.offset
            && previous.channel == self.channel;
        if is_previous {
            self.previous.get_or_init(|| Arc::downgrade(previous));
        }
    }

    /// What changed since the publication before, made by `encode` from that payload and this one if
    /// nobody has needed it yet. `None` if that is not known, or not worth it.
    pub fn delta(
        &self,
        encode: impl FnOnce(&Payload, &Payload) -> Option<Bytes>,
    ) -> Option<&Bytes> {
        if self.delta.get().is_none() {
            let previous = self.previous.get()?.upgrade()?;
            self.delta.get_or_init(|| encode(&previous.payload, &self.payload).map(Box::new));
        }
        self.known_delta()
    }

    /// What changed since the publication before, if somebody has needed it already.
    pub fn known_delta(&self) -> Option<&Bytes> {
        self.delta.get()?.as_deref()
    }

    /// What tells its value from others of the channel, read from the payload by `read` if nobody has
    /// needed it yet.
    pub fn key(&self, read: impl FnOnce(&Payload) -> Option<Box<str>>) -> Option<&str> {
        self.key.get_or_init(|| read(&self.payload)).as_deref()
    }

    /// What it takes in a queue, in bytes: the payload and a fixed allowance for everything else.
    pub fn weight(&self) -> usize {
        const ALLOWANCE: usize = 128;
        self.publication.payload.len() + ALLOWANCE
    }
}

impl Deref for Envelope {
    type Target = Publication;

    fn deref(&self) -> &Publication {
        &self.publication
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, Incarnation, Position, Tenant, TenantChannel};

    #[test]
    fn the_publication_right_before_it_is_what_a_delta_is_made_from() {
        let (first, second) = (envelope(1, 7, "old"), envelope(1, 8, "new"));
        second.follow(&first);

        let delta =
            second.delta(|base, whole| Some([&base.bytes()[..], whole.bytes()].concat().into()));

        assert_eq!(delta, Some(&Bytes::from("oldnew")));
        assert_eq!(second.delta(|_, _| unreachable!("it is known")), delta);
        assert_eq!(second.known_delta(), delta);
    }

    #[test]
    fn what_is_not_worth_a_delta_is_tried_once() {
        let (first, second) = (envelope(1, 7, "old"), envelope(1, 8, "new"));
        second.follow(&first);

        assert_eq!(second.delta(|_, _| None), None);
        assert_eq!(second.delta(|_, _| unreachable!("it is known")), None);
    }

    #[test]
    fn nothing_else_is_followed() {
        let others = [envelope(1, 6, ""), envelope(1, 8, ""), envelope(2, 7, "")];
        for other in others {
            let envelope = envelope(1, 8, "new");
            envelope.follow(&other);

            assert_eq!(envelope.delta(|_, _| Some(Bytes::new())), None);
        }
    }

    #[test]
    fn the_publication_before_is_not_kept_for_it() {
        let (first, second) = (envelope(1, 7, "old"), envelope(1, 8, "new"));
        second.follow(&first);
        let first = Arc::into_inner(first);

        assert!(first.is_some());
        drop(first);
        assert_eq!(second.delta(|_, _| Some(Bytes::new())), None);
    }

    fn envelope(life: u32, offset: u64, payload: &'static str) -> Arc<Envelope> {
        let channel = Channel::parse("room:42").expect("valid");
        let tenant = Tenant::parse("demo").expect("valid");
        Arc::new(Envelope::new(Publication {
            channel: TenantChannel::new(tenant, channel),
            position: Position::new(Incarnation::ZERO.epoch(life), offset),
            id: None,
            time_ms: 0,
            publisher: None,
            payload: Payload::binary(payload.into()),
        }))
    }
}
