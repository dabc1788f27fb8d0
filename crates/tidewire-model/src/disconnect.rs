/// A coded reason for ending a connection.
///
/// Sent as the last event, and as the WebSocket close code (RFC 6455 section 7.4). The number says
/// whether to come back: 1012, 1013 and 4500 to 4999 mean yes, with the session's resume token;
/// everything else means that coming back in the same way would end the same way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Disconnect {
    /// The client said goodbye.
    Normal,
    /// The bytes on the wire broke the WebSocket protocol.
    ProtocolError,
    /// A text frame was not UTF-8.
    InvalidUtf8,
    /// A message was larger than the server takes.
    MessageTooLarge,
    /// The node is leaving the cluster.
    Draining,
    /// The node cannot take this connection now.
    Overloaded,
    /// A frame could not be understood at all.
    BadFrame,
    /// A command came before `connect`.
    NotConnected,
    /// No `connect` came in time.
    ConnectTimeout,
    /// The credential is not valid, or not this tenant's.
    BadToken,
    /// The credential has expired: fetch a new one, then come back.
    TokenExpired,
    /// The credential, its user, its key or its tenant was revoked.
    Revoked,
    /// Pages of this origin may not use the tenant.
    OriginDenied,
    /// The session goes on over another connection.
    Moved,
    /// The resume token opens no session any more: connect with a credential.
    SessionLost,
    /// The client reads more slowly than it may.
    Slow,
    /// The client did not answer pings.
    PingTimeout,
    /// The client goes on doing what it is refused for being too much.
    Flooding,
    /// A message of the client was begun and not finished in time.
    MessageTimeout,
    /// The log or the store could not be reached while connecting.
    Unavailable,
    /// The node made a mistake; it is in its log.
    Internal,
}

impl Disconnect {
    /// Every reason there is.
    pub const ALL: [Self; 21] = [
        Self::Normal,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::MessageTooLarge,
        Self::Draining,
        Self::Overloaded,
        Self::BadFrame,
        Self::NotConnected,
        Self::ConnectTimeout,
        Self::BadToken,
        Self::TokenExpired,
        Self::Revoked,
        Self::OriginDenied,
        Self::Moved,
        Self::SessionLost,
        Self::Slow,
        Self::PingTimeout,
        Self::Flooding,
        Self::MessageTimeout,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The WebSocket close code.
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::ProtocolError => 1002,
            Self::InvalidUtf8 => 1007,
            Self::MessageTooLarge => 1009,
            Self::Draining => 1012,
            Self::Overloaded => 1013,
            Self::BadFrame => 4400,
            Self::BadToken => 4401,
            Self::TokenExpired => 4402,
            Self::Revoked => 4403,
            Self::NotConnected => 4404,
            Self::OriginDenied => 4405,
            Self::Moved => 4408,
            Self::ConnectTimeout => 4410,
            Self::SessionLost => 4411,
            Self::MessageTimeout => 4412,
            Self::Flooding => 4429,
            Self::Unavailable => 4500,
            Self::Internal => 4501,
            Self::PingTimeout => 4507,
            Self::Slow => 4508,
        }
    }

    /// The name in the protocol, to match on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::ProtocolError => "protocol_error",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MessageTooLarge => "message_too_large",
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
            Self::BadFrame => "bad_frame",
            Self::BadToken => "bad_token",
            Self::TokenExpired => "token_expired",
            Self::Revoked => "revoked",
            Self::NotConnected => "not_connected",
            Self::OriginDenied => "origin_denied",
            Self::Moved => "moved",
            Self::ConnectTimeout => "connect_timeout",
            Self::SessionLost => "session_lost",
            Self::MessageTimeout => "message_timeout",
            Self::Flooding => "flooding",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::PingTimeout => "ping_timeout",
            Self::Slow => "slow",
        }
    }

    /// Whether the client should come back by itself, with its resume token.
    pub fn invites_back(self) -> bool {
        invites_back(self.code())
    }
}

/// The rule of the ranges, for codes this version does not know.
fn invites_back(code: u16) -> bool {
    matches!(code, 1012 | 1013 | 4500..=4999)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_reasons_share_a_code_or_a_name() {
        let codes: HashSet<_> = Disconnect::ALL.iter().map(|reason| reason.code()).collect();
        let names: HashSet<_> = Disconnect::ALL.iter().map(|reason| reason.as_str()).collect();

        assert_eq!(codes.len(), Disconnect::ALL.len());
        assert_eq!(names.len(), Disconnect::ALL.len());
    }

    #[test]
    fn a_drained_or_slow_client_comes_back_and_a_refused_one_does_not() {
        assert!(Disconnect::Draining.invites_back());
        assert!(Disconnect::Slow.invites_back());
        assert!(!Disconnect::BadToken.invites_back());
        assert!(!Disconnect::Moved.invites_back());
    }
}
