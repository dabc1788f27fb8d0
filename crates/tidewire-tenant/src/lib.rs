//! Tenants: who they are, what proves it, and how they are treated.
//!
//! Start from [`Tenants`], which all parts of a node share; then [`document::Tenant`], one as it is
//! written down, [`check()`], which makes a [`Definition`] of it, and [`parse`], which takes one that
//! came from elsewhere. Nothing here performs I/O or reads a clock.

mod address;
mod check;
mod cookie;
pub mod document;
mod edit;
mod incarnation;
mod key_source;
mod limits;
mod origins;
mod period;
mod problem;
mod rules;
mod secret;
mod stored;
mod table;
mod wire;

pub use address::{InvalidAddress, check_address};
pub use check::{Definition, check};
pub use cookie::{CookieName, InvalidCookieName};
pub use edit::{EditError, KeyList, add_key, remove_key, rotate_api_key};
pub use incarnation::Incarnation;
pub use key_source::{InvalidKeySource, KeySource};
pub use limits::OwnLimits;
pub use origins::{InvalidOrigin, Origins};
pub use period::{InvalidPeriod, Period};
pub use problem::{Problem, Problems};
pub use secret::{MASK, Secret};
pub use stored::{at_rest, complete, masked};
pub use table::{Applied, Change, DEFAULT_HOMES, TenantDetails, Tenants};
pub use wire::{MAX_DOCUMENT_BYTES, open, parse, seal};
