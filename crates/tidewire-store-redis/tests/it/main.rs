//! The adapters against a real `redis-server`.

mod conformance;
mod failure;
mod lost_reply;
mod redis;
