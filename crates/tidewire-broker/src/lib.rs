//! The two ports a publication goes through, in-memory implementations of both, and the suites that
//! every implementation passes.
//!
//! The [`Log`] orders and remembers: it assigns each publication the next offset of its channel and
//! keeps the newest. The [`Broker`] carries publications between nodes and promises nothing: it may
//! lose, repeat or reorder, and the node repairs that from the log.

mod broker;
pub mod conformance;
mod draft;
mod event_queue;
mod lineage;
mod log;
mod memory_broker;
mod memory_log;

pub use broker::{Broker, BrokerError, BrokerEvent, News, Notice, Partition};
pub use draft::{DedupeKey, Draft};
pub use event_queue::EventQueue;
pub use lineage::{Lineage, Standing};
pub use log::{Appended, Head, Log, LogError, MAX_PAGE_BYTES, Outcome, Read, Secured, Status};
pub use memory_broker::{MemoryBroker, MemoryNetwork};
pub use memory_log::{MemoryLog, SavedChannel, SavedId, SavedLog, Sources};
pub use tidewire_model::Retention;
