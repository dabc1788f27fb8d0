//! What the crate promises, through its public face.

mod api_key;
mod channel_token;
mod issuer;
mod key_ring;
mod keys;
mod revocations;
mod seal;
mod ticket;
mod token;
mod vault;
