/// How much of a session is kept for when its connection is gone.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SessionKind {
    /// Nothing: the store is never asked, and whoever comes back begins another session, from
    /// positions of its own.
    None,
    /// Who it is before they are told so, what they are subscribed to shortly after they are.
    #[default]
    Lazy,
    /// The same, and no change of subscriptions is confirmed before the store has it.
    Strict,
}
