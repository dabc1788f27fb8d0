use std::sync::atomic::{AtomicBool, Ordering};

/// Whether faults still happen: it begins foul and turns fair once.
#[derive(Debug, Default)]
pub(crate) struct Weather(AtomicBool);

impl Weather {
    pub(crate) fn clear_up(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_fair(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
