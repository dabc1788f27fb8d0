use std::sync::Arc;

use tidewire_auth::{InvalidIssuer, IssuerName};

use crate::{InvalidAddress, check_address};

/// Where an issuer publishes its keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeySource {
    pub issuer: IssuerName,
    /// Of `https`.
    pub url: Arc<str>,
}

impl KeySource {
    /// The longest URL, in bytes.
    pub const MAX_URL_BYTES: usize = 2_048;

    pub fn parse(issuer: &str, url: &str) -> Result<Self, InvalidKeySource> {
        let issuer = IssuerName::parse(issuer)?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if url.len() > Self::MAX_URL_BYTES || !is_plain(url) || url.contains('#') {
            return Err(InvalidKeySource::Url);
        }
        check_address(url, &["https"])?;
        Ok(Self { issuer, url: url.into() })
    }

    /// Whom the URL names, for logs: what follows may be meant for nobody else.
    pub fn host(&self) -> &str {
        let rest = self.url.trim_start_matches("https://");
        rest.split(['/', '?']).next().unwrap_or_default()
    }
}

/// Why there is nothing to fetch.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidKeySource {
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    #[error("`jwks_url`: {0}")]
    Address(#[from] InvalidAddress),
    #[error("`jwks_url` has at most {} plain characters and no `#`", KeySource::MAX_URL_BYTES)]
    Url,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_published_over_https_and_nowhere_else() {
        let source = KeySource::parse("https://idp.example/", "https://idp.example:8443/a?b=c");

        assert_eq!(source.expect("a source").host(), "idp.example:8443");
        for url in [
            "http://idp.example/keys",
            "https://user:password@idp.example/keys",
            "https://idp.example/keys#one",
            "https://idp.example/k eys",
            "https:///keys",
            "file:///etc/passwd",
            "",
        ] {
            assert!(KeySource::parse("issuer", url).is_err(), "{url}");
        }
        assert!(KeySource::parse("", "https://idp.example/keys").is_err());
    }
}
