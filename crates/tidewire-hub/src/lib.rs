//! Who on this node wants which channel, and handing it to them.
//!
//! Two halves that meet in a queue. A shard hands each publication once to every worker of the edge
//! that follows the channel, through the worker's [`Outbox`], without ever waiting for one: a worker
//! whose queue is full loses its places in the channel and is told so, and its subscribers catch up
//! from the log, so that a slow worker costs its own latency and nobody else's, and loses
//! nothing. The worker takes what is in its [`Inbox`], and its [`Hub`] says which of its connections
//! it is for.

mod hub;
mod outbox;

pub use hub::{Hub, Subscriber, Subscribers};
pub use outbox::{Inbox, Outbox, QueueLimits, outbox};
