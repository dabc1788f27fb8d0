use crate::check_address;

/// Origins of pages, as browsers write them (RFC 6454 section 6.2), in lower case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// The most that a tenant may list.
    pub const MOST: usize = 64;

    /// # Errors
    ///
    /// When one of them is none; `null`, which is many pages' and nobody's, is none.
    pub fn parse(texts: &[String]) -> Result<Self, InvalidOrigin> {
        let parse = |text: &String| {
            let text = text.to_ascii_lowercase();
            match check_address(&text, &["http", "https"]) {
                Ok("") => Ok(text),
                _ => Err(InvalidOrigin { text }),
            }
        };
        texts.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is one of these, whole. `origin` is in lower case.
    pub fn contains(&self, origin: &str) -> bool {
        self.0.iter().any(|listed| listed == origin)
    }
}

impl From<Origins> for Vec<String> {
    fn from(origins: Origins) -> Self {
        origins.0
    }
}

/// Why a text is no origin.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not an origin such as `https://app.example.com`, without path or slash")]
pub struct InvalidOrigin {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_on_the_list_whole_or_not_at_all() {
        let origins = Origins::parse(&["https://App.example".into(), "http://[::1]:8080".into()]);
        let origins = origins.expect("origins");

        assert!(origins.contains("https://app.example") && origins.contains("http://[::1]:8080"));
        for foreign in [
            "https://app.example:443",
            "http://app.example",
            "https://app.example.evil.example",
            "https://evil-app.example",
            "https://app.example/",
            "null",
            "",
        ] {
            assert!(!origins.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for text in ["null", "*", "https://*.example", "https://a.example/", "app.example", ""] {
            let error = Origins::parse(&[text.to_owned()]).expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
