use std::fmt;

/// A credential as text: a token of the application's, or a resume token of ours.
///
/// Nothing is known of it but that somebody sent it; verifying it is somebody else's business. It
/// has no `Display`, and `Debug` shows that there is one and not which, so that no log or error can
/// give it away by accident.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(Box<str>);

impl Token {
    /// The text itself, for verifying it and for sending it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Command, Connect, Connected, Event, NodeId, RequestId, Resume, SessionId, SessionNonce,
    };

    const SECRET: &str = "hunter2";

    #[track_caller]
    fn assert_hidden(holder: &impl fmt::Debug) {
        let shown = format!("{holder:?} {holder:#?}");
        assert!(shown.contains("Token(..)"), "{shown}");
        assert!(!shown.contains(SECRET), "{shown}");
    }

    #[test]
    fn a_token_shows_itself_only_to_who_asks_for_its_text() {
        assert_hidden(&Token::from(SECRET));
        assert_eq!(Token::from(SECRET.to_owned()).as_str(), SECRET);
    }

    #[test]
    fn commands_show_no_token() {
        let nonce = SessionNonce::from_bytes([0; 16]);
        let resume = Resume { token: SECRET.into(), nonce, positions: Vec::new() };
        assert_hidden(&resume);
        assert_hidden(&Connect { resume: Some(resume), ..Connect::default() });
        assert_hidden(&Connect { token: Some(SECRET.into()), ..Connect::default() });
        assert_hidden(&Command::Refresh { token: SECRET.into(), channel: None });
        let channel = crate::Channel::parse("a").expect("channel");
        let (since, token) = (crate::Since::Now, Some(SECRET.into()));
        assert_hidden(&Command::Subscribe { channel, since, delta: None, token });
    }

    #[test]
    fn events_show_no_token() {
        let connected = Connected {
            request: RequestId(1),
            session: SessionId::from_bytes([0; 16]),
            resume_token: Some(SECRET.into()),
            resume_window: Duration::ZERO,
            resumed: false,
            node: NodeId::parse("node").expect("valid"),
            ping_interval: Duration::ZERO,
            expires_at: None,
        };
        assert_hidden(&connected);
        assert_hidden(&Event::Connected(connected));
        let (after, window) = (Duration::ZERO, Duration::ZERO);
        assert_hidden(&Event::Reconnect {
            after,
            window,
            token: Some(SECRET.into()),
            endpoints: Vec::new(),
        });
    }
}
