use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::key::sha256;

/// A credential that is of use once, for a short while, and says nothing: 128 random bits.
///
/// As text it is 22 characters of base64url, so that it may stand where it can be seen.
#[derive(Clone, Eq, PartialEq)]
pub struct Ticket([u8; BYTES]);

const BYTES: usize = 16;
const TEXT_BYTES: usize = 22;

impl Ticket {
    /// Draws one that nobody has.
    ///
    /// # Panics
    ///
    /// When the system has no random bytes.
    pub fn draw() -> Self {
        let mut bytes = [0; BYTES];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
        Self(bytes)
    }

    /// `None` for a text that is none: there is one text for each.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The text itself, to be given to whoever may use it.
    pub fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What it is known by where it is kept, from which it does not follow.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[b"tidewire ticket", &self.0[..]].concat())
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}
