use std::sync::Arc;

/// What a cookie is called (RFC 6265 section 4.1.1): 1 to 64 characters. Its case matters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CookieName(Arc<str>);

impl CookieName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// # Errors
    ///
    /// When it is not a token of HTTP's (RFC 9110 section 5.6.2), or too long.
    pub fn parse(text: &str) -> Result<Self, InvalidCookieName> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_name = (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(is_part);
        if is_name { Ok(Self(text.into())) } else { Err(InvalidCookieName) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a cookie is named by 1 to 64 letters, digits and characters of `!#$%&'*+-.^_`|~`")]
pub struct InvalidCookieName;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_nothing_in_it_that_ends_it_in_a_header() {
        for name in ["session", "__Host-session", "a.b~c", &"x".repeat(64)] {
            assert_eq!(CookieName::parse(name).expect("a name").as_str(), name);
        }
        for none in ["", "a=b", "a;b", "a b", "a,b", "\"a\"", "g\u{e4}", &"x".repeat(65)] {
            assert_eq!(CookieName::parse(none), Err(InvalidCookieName), "{none}");
        }
    }
}
