//! Several node processes on a real NATS and a real Redis, and many clients that count.

mod cluster;
mod crowd;
mod ledger;
mod scenarios;
