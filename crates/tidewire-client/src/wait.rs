//! Waiting for what there may not be.

use tokio::time::{Instant, sleep_until};

/// Waits until `at`, or for ever if there is no such time.
pub(crate) async fn reached(at: Option<Instant>) {
    of(at.map(sleep_until)).await;
}

/// Waits for `future`, or for ever if there is none.
pub(crate) async fn of<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
