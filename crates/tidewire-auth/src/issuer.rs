use std::fmt;

use tidewire_model::Permissions;

use crate::VerificationKey;
use crate::key::sha256;

/// Somebody who issues tokens of one tenant, under keys of their own that are fetched and change.
///
/// No two tenants have the same, so that a name says whose token it is; that is then to be proved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issuer {
    pub name: IssuerName,
    /// What its tokens' `aud` has to hold instead of the server's own.
    pub audience: Option<String>,
    /// What bearers may do whose token has no `channels`.
    pub permissions: Permissions,
}

/// What a token's `iss` says (RFC 7519 section 4.1.1): 1 to 256 bytes without control characters,
/// compared as they stand.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct IssuerName(Box<str>);

impl IssuerName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 256;

    pub fn parse(text: &str) -> Result<Self, InvalidIssuer> {
        let valid = (1..=Self::MAX_BYTES).contains(&text.len()) && !text.contains(char::is_control);
        if valid { Ok(Self(text.into())) } else { Err(InvalidIssuer) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Like a key's: what no two tenants may have.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        sha256(format!("tidewire issuer {}", self.0).as_bytes())
    }
}

impl std::borrow::Borrow<str> for IssuerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IssuerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is not an issuer's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an issuer is named by 1 to 256 bytes without control characters")]
pub struct InvalidIssuer;

/// The keys that an issuer has published, as far as they are known.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) issuer: IssuerName,
    pub(crate) keys: Vec<VerificationKey>,
}
