use std::cell::Cell;
use std::fmt;

use crate::websocket::deflate::{Deflater, Inflater};

/// What the connections of one thread share, so that an idle one holds no buffer.
///
/// Takes its memory as it is first needed: 64 KiB to read into, up to 16 KiB to gather small writes,
/// and what compressing and inflating take.
#[derive(Default)]
pub struct Scratch {
    read: Vec<u8>,
    pub(crate) gather: Vec<u8>,
    pub(crate) inflater: Inflater,
    pub(crate) deflater: Deflater,
}

impl Scratch {
    /// One that sends messages of fewer than `min_bytes` bytes uncompressed, always.
    pub fn new(min_bytes: usize) -> Self {
        Self { deflater: Deflater::new(min_bytes), ..Self::default() }
    }

    /// The buffer to read into, and the inflater for what is read.
    pub(crate) fn reading(&mut self) -> (&mut [u8], &mut Inflater) {
        self.read.resize(READ_BYTES, 0);
        (&mut self.read, &mut self.inflater)
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

/// Lends `used` the scratch that the async sockets of a thread share.
pub(crate) fn with_scratch<R>(used: impl FnOnce(&mut Scratch) -> R) -> R {
    thread_local! {
        static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    }

    let mut scratch = SCRATCH.take().unwrap_or_default();
    let result = used(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}

/// Read at most this much at once.
const READ_BYTES: usize = 64 * 1024;
