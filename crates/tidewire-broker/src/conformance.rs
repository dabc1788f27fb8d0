//! The suites every adapter passes: one async function per promise of a port.
//!
//! An adapter's tests name a function that makes its implementation, and get one test per promise
//! from a macro, so that none can be left out.

pub mod broker;
pub mod log;
