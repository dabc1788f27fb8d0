use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::ChannelRules;

/// Something that is replaced as a whole while others read it: a cheap handle, of which all clones
/// show the same.
///
/// Reading never waits. Replacing is one store: of those who replace at once the last stands, so
/// whoever changes what is there needs to be the only one.
pub struct Live<T>(Arc<ArcSwap<T>>);

/// How the channels of tenants are treated now.
pub type LiveRules = Live<ChannelRules>;

impl<T> Live<T> {
    pub fn new(value: T) -> Self {
        Self::from(Arc::new(value))
    }

    /// What is there now, to be kept as long as one likes.
    pub fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Looks at what is there now: cheaper than [`load`](Self::load), and for moments only.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.load())
    }

    pub fn replace(&self, value: T) {
        self.0.store(Arc::new(value));
    }

    /// For an owner that asks again and again.
    pub fn reader(&self) -> Reader<T> {
        Reader { cache: Cache::new(Arc::clone(&self.0)), seen: self.load() }
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Default> Default for Live<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> From<Arc<T>> for Live<T> {
    fn from(value: Arc<T>) -> Self {
        Self(Arc::new(ArcSwap::new(value)))
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load().fmt(f)
    }
}

/// What a [`Live`] had at the last [`look`](Self::look), so that it stays the same in between.
pub struct Reader<T> {
    cache: Cache<Arc<ArcSwap<T>>, Arc<T>>,
    seen: Arc<T>,
}

impl<T> Reader<T> {
    /// Takes what is there now, and says whether that is another. If it is the same, it costs one
    /// atomic load.
    pub fn look(&mut self) -> bool {
        let now = self.cache.load();
        let is_another = !Arc::ptr_eq(now, &self.seen);
        if is_another {
            self.seen = Arc::clone(now);
        }
        is_another
    }
}

impl<T> Deref for Reader<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.seen
    }
}

impl<T: fmt::Debug> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seen.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handle_sees_a_replacement() {
        let live = Live::new(1);
        let other = live.clone();

        live.replace(2);

        assert_eq!((*other.load(), other.read(|value| *value)), (2, 2));
    }

    #[test]
    fn a_reader_sees_a_replacement_at_its_next_look() {
        let live = Live::new(1);
        let mut reader = live.reader();

        live.replace(2);
        let before = *reader;
        let looks = [reader.look(), reader.look()];

        assert_eq!((before, *reader), (1, 2));
        assert_eq!(looks, [true, false]);
    }
}
