use std::ops::Deref;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::Publication;

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
}

impl Envelope {
    pub fn new(publication: Publication) -> Self {
        Self { publication, encoded: Default::default() }
    }

    /// The bytes of this publication in `encoding`, made by `encode` if nobody has needed them yet.
    pub fn encoded(
        &self,
        encoding: Encoding,
        encode: impl FnOnce(&Publication) -> Bytes,
    ) -> &Bytes {
        self.encoded[encoding as usize].get_or_init(|| encode(&self.publication))
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
