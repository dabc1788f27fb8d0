//! The session as a state machine: commands in, effects out.

mod snapshot;

pub use snapshot::{SavedSubscription, Snapshot};
