use tidewire_model::Deltas;

/// How a run of consecutive publications of one epoch meets a subscription, as
/// [`Session::meet`](crate::Session::meet) says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meeting {
    /// The run is just what comes next, and the subscription's position is now its last: send all of
    /// it.
    InStep {
        /// Whether they may be written as what changed.
        deltas: Deltas,
    },
    /// The client has all of it, or the join is not live: send nothing.
    Nothing,
    /// Offer the publications one by one with [`Session::deliver`](crate::Session::deliver).
    OutOfStep,
}
