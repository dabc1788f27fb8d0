use tidewire_model::{ErrorCode, Failure, Limit};

/// What one session may have and ask. All sessions of a node share one of these.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Subscriptions at once.
    pub subscriptions: usize,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// Publications of one history page; a larger wish is cut to this.
    pub page: u32,
    /// Joins awaiting an answer at once; further ones wait their turn, so that a session that
    /// resumes with many channels catches up with a few at a time.
    pub joins_in_flight: usize,
    /// Publications of one channel that a client which comes back is sent of what it missed, in pages,
    /// before the rest is left out.
    pub replay_each: u32,
    /// The same of all its channels together.
    pub replay_all: u32,
    /// The same in bytes of payload.
    pub replay_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            subscriptions: 512,
            payload_bytes: 64 * 1_024,
            page: 1_000,
            joins_in_flight: 4,
            replay_each: 1_000,
            replay_all: 10_000,
            replay_bytes: 4 << 20,
        }
    }
}

impl Limits {
    pub(crate) fn too_many_subscriptions(&self) -> Failure {
        let most = self.subscriptions;
        let message = format!("a connection may have {most} subscriptions");
        Failure::new(ErrorCode::LimitExceeded, message)
            .exceeding(Limit::ConnectionSubscriptions, most as u64)
    }

    pub(crate) fn too_large(&self, bytes: usize) -> Failure {
        let most = self.payload_bytes;
        let message = format!("payload has {bytes} bytes, at most {most} are allowed");
        Failure::new(ErrorCode::PayloadTooLarge, message)
            .exceeding(Limit::PayloadBytes, most as u64)
    }
}
