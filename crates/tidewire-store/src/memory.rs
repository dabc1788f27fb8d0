//! In-memory stores: written by the store helper.
pub struct MemorySessionStore;
pub struct MemoryMembership;
