//! How tasks tell each other that a phase of the run is over.

use std::convert::Infallible;

use tokio::sync::{mpsc, watch};

/// Held by whoever is not done yet, and dropped then: nothing is ever sent.
pub(crate) type Hold = mpsc::Sender<Infallible>;
/// Closed when the last [`Hold`] is dropped.
pub(crate) type Held = mpsc::Receiver<Infallible>;
/// Something that will be known in a later phase.
pub(crate) type Later<T> = watch::Receiver<Option<T>>;

pub(crate) fn hold() -> (Hold, Held) {
    mpsc::channel(1)
}

/// Waits until it is known; `None` if nobody will say any more. Cancel-safe.
pub(crate) async fn known<T: Clone>(later: &mut Later<T>) -> Option<T> {
    later.wait_for(Option::is_some).await.ok()?.clone()
}
