use std::fmt::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// Everything that happened in a run, in order: two runs of one plan are told apart by its digest,
/// and where they part by its text.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    started: Instant,
    hash: Hash,
    /// Only kept for whoever asked for it.
    text: Option<String>,
}

struct Hash(Xxh3);

impl Trace {
    pub(crate) fn new(keeps_text: bool) -> Self {
        let (started, text) = (Instant::now(), keeps_text.then(String::new));
        Self(Arc::new(Mutex::new(Inner { started, hash: Hash(Xxh3::new()), text })))
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let mut inner = self.0.lock();
        let at = inner.started.elapsed().as_secs_f64();
        writeln!(inner.hash, "{at:.6} {what}").expect("a hash takes everything");
        if let Some(text) = &mut inner.text {
            writeln!(text, "{at:.6} {what}").expect("a string takes everything");
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.0.lock().hash.0.digest()
    }

    pub(crate) fn take_text(&self) -> String {
        self.0.lock().text.take().unwrap_or_default()
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
