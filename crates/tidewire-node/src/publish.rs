use std::time::Duration;

use tidewire_broker::{Appended, LogError};
use tidewire_model::{ErrorCode, Failure, Limit};
use tokio::sync::oneshot;

/// A publication on its way: resolves when the log has it, or when that has failed.
///
/// Dropping it does not take the publication back.
#[derive(Debug)]
pub struct Publishing(pub(crate) oneshot::Receiver<Result<Appended, Failure>>);

impl Publishing {
    /// Waits for the verdict. The log gives up on a batch after some seconds; what waits behind other
    /// batches of its channel waits for those too, and in a durable channel for copies, two seconds
    /// more at the most.
    pub async fn finish(self) -> Result<Appended, Failure> {
        self.0.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// When whoever was refused because its tenant keeps as much as it may is to come back.
const ROOM_AGAIN: Duration = Duration::from_secs(10);

/// The node is past taking anything.
pub(crate) fn stopped() -> Failure {
    Failure::new(ErrorCode::Unavailable, "the node is stopping; try again elsewhere")
}

/// What a publisher is told whose publication waited behind one that failed.
pub(crate) fn not_begun() -> Failure {
    let message = "a publication before this one could not be kept; try both again, in their order";
    Failure::new(ErrorCode::Unavailable, message)
}

/// What a publisher is told while the log is unreachable that has lost what was acknowledged before.
pub(crate) fn healing() -> Failure {
    let message = "the channel's log cannot be reached to bring back what it has lost; try again";
    Failure::new(ErrorCode::Unavailable, message)
}

/// What a publisher to a durable channel is told when too few copies of its publication are known.
pub(crate) fn not_copied() -> Failure {
    let message = "the publication is stored, but not yet in as many places as its channel asks for; \
                   publish it again with the same id";
    Failure::new(ErrorCode::Timeout, message)
}

/// What a publisher is told when the log could not do it. Names no address: that is the operator's
/// business, and in the log.
pub(crate) fn failure(error: &LogError) -> Failure {
    match error {
        LogError::Timeout { .. } => {
            let message = "the channel's log did not answer in time; whether the publication was \
                           kept is unknown: publish it again with the same id";
            Failure::new(ErrorCode::Timeout, message)
        }
        LogError::Full { most } => {
            let wait_ms = ROOM_AGAIN.as_millis();
            let message = format!(
                "the tenant may keep {most} bytes of publications: again in {wait_ms} ms, once something \
                 has run out"
            );
            let failure = Failure::new(ErrorCode::QuotaExceeded, message);
            failure.retry_after(ROOM_AGAIN).exceeding(Limit::TenantHistoryBytes, *most)
        }
        LogError::Corrupt { .. } => {
            Failure::new(ErrorCode::Internal, "the channel's log cannot be read")
        }
        _ => {
            let message = "the channel's log cannot be reached; try again";
            Failure::new(ErrorCode::Unavailable, message)
        }
    }
}
