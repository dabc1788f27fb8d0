/// Which of those who had a tenant's name one after the other. Those of a node's file are all one.
///
/// A tenant that is removed and added again is another: what was its predecessor's is not its own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Incarnation(pub(crate) u64);

impl Incarnation {
    /// Of a number drawn at random, of which 56 bits are taken.
    pub fn from_random(number: u64) -> Self {
        Self((number >> 8).max(1))
    }

    /// As resume tokens say it.
    pub fn number(self) -> u64 {
        self.0
    }
}
