//! What a client does with servers that refuse, vanish and set it back.

mod coming_back;
mod deltas;
mod moving;
mod peer;
mod presence;
mod publishing;
mod renewing;
mod subscribing;
mod tickets;
