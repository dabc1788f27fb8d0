//! Tenants: who they are, what proves it, and how they are treated.
//!
//! Start from [`Tenants`], which all parts of a node share. Nothing here performs I/O or reads a
//! clock.

mod table;

pub use table::{TenantDetails, Tenants};
