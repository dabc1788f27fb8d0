//! Who on this node wants which channel, and handing it to them.
//!
//! A [`Hub`] is owned by one task and has no lock. It pushes each publication into the [`Outbox`] of
//! every subscriber without ever waiting for one: whoever's queue is full is taken off the channel
//! and told to catch up from the log, so that a slow client costs its own latency and nobody
//! else's, and loses nothing.

mod hub;
mod outbox;

pub use hub::{Hub, Subscriber};
pub use outbox::{Inbox, Outbox, QueueLimits, outbox};
