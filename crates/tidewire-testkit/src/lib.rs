//! What tests of several crates need.
//!
//! [`SwitchedLog`] is a log whose failures a test decides, [`IssuerKey`] signs tokens as somebody else's issuer does.
//! [`services`] starts real `redis-server` and `nats-server` processes that live and die with a
//! test. Nothing here is for production: what cannot be set up panics, so that a test fails and does
//! not vanish.

mod issuer_key;
pub mod services;
mod switched_log;
mod switched_presence;

pub use issuer_key::IssuerKey;
pub use switched_log::SwitchedLog;
pub use switched_presence::SwitchedPresence;
