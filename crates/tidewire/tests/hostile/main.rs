//! Hostile input against the program itself. Whatever is sent, the answer is the one that is documented,
//! the process takes no more memory than is stated, somebody else's client goes on undisturbed, and
//! the process lives.

mod bystander;
mod credentials;
mod floods;
mod frames;
mod handshakes;
mod memory;
mod payloads;
mod raw;
mod rubbish;
mod victim;
