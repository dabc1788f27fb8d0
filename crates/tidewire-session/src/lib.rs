//! The session as a state machine: commands in, effects out.
//!
//! A [`Session`] is one client's identity and subscriptions. It is told what happened and answers
//! with [`Effect`]s to perform and [`Event`](tidewire_model::Event)s to send; it performs nothing,
//! reads no clock and waits for nobody, so every rule in it is tested with values.
//!
//! What it guards: a client is handed the publications of a channel in offset order, without one
//! twice and without a silent hole, whatever the node, a failover or its own slowness do.

mod effect;
mod limits;
mod meeting;
mod session;
mod snapshot;
mod subscription;
mod subscriptions;

pub use effect::{Effect, Outputs, Wish};
pub use limits::Limits;
pub use meeting::Meeting;
pub use session::Session;
pub use snapshot::{SavedMember, SavedPresence, SavedSubscription, Snapshot};
