/// What one tenant may have over the whole cluster; where there is nothing it is not bounded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quotas {
    /// Connections at once.
    pub connections: Option<u32>,
    /// How much a second.
    pub rates: Rates<Option<u32>>,
}

impl Quotas {
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One thing for each rate of a tenant that is bounded over the whole cluster.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rates<T> {
    pub publications: T,
    /// Bytes of payload that are published.
    pub bytes_in: T,
    /// Bytes that clients are sent.
    pub bytes_out: T,
}

impl<T> Rates<T> {
    pub fn map<U>(self, mut of: impl FnMut(T) -> U) -> Rates<U> {
        Rates {
            publications: of(self.publications),
            bytes_in: of(self.bytes_in),
            bytes_out: of(self.bytes_out),
        }
    }

    /// Each with what `other` has for the same.
    pub fn with<U>(self, other: Rates<U>) -> Rates<(T, U)> {
        Rates {
            publications: (self.publications, other.publications),
            bytes_in: (self.bytes_in, other.bytes_in),
            bytes_out: (self.bytes_out, other.bytes_out),
        }
    }

    pub fn as_ref(&self) -> Rates<&T> {
        Rates {
            publications: &self.publications,
            bytes_in: &self.bytes_in,
            bytes_out: &self.bytes_out,
        }
    }

    pub fn into_array(self) -> [T; 3] {
        [self.publications, self.bytes_in, self.bytes_out]
    }
}

impl<T> From<[T; 3]> for Rates<T> {
    fn from([publications, bytes_in, bytes_out]: [T; 3]) -> Self {
        Self { publications, bytes_in, bytes_out }
    }
}
