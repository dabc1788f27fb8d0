use std::borrow::Cow;
use std::time::Duration;

use crate::{Exceeded, Limit};

/// Why a command was refused. The connection goes on.
///
/// The number's range says what to do: 1000 to 1999 mean that the same command will be refused
/// again, 2000 to 2999 that it may succeed later. Both numbers and names are part of the protocol
/// and never change their meaning.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorCode {
    /// The command could not be understood.
    BadRequest,
    /// There is no command of that name.
    UnknownCommand,
    /// A channel's name breaks the grammar.
    BadChannel,
    /// A position is not one, or an offset is out of range.
    BadPosition,
    /// A publication id breaks its bounds.
    BadPublicationId,
    /// A payload that should be JSON is not, or is nested too deeply.
    BadPayload,
    /// A mark of a page means nothing any more.
    BadMark,
    /// A payload is larger than the channel takes.
    PayloadTooLarge,
    /// The identity may not do this, whether or not the channel exists.
    PermissionDenied,
    /// The credential is not valid, or not this tenant's.
    BadToken,
    /// The credential was valid once.
    TokenExpired,
    /// The credential, its user, its key or its tenant was revoked.
    TokenRevoked,
    /// Pages of this origin may not use the tenant.
    OriginDenied,
    /// The ticket was used, has run out, or never was one.
    TicketInvalid,
    /// The connection is subscribed to this channel.
    AlreadySubscribed,
    /// The connection is not subscribed to this channel.
    NotSubscribed,
    /// The connection is connected already.
    AlreadyConnected,
    /// The channel keeps no presence.
    NoPresence,
    /// A bound on the number of something was reached.
    LimitExceeded,
    /// The log or the store cannot be reached.
    Unavailable,
    /// It took too long; whether it happened is unknown. Repeat it with the same id.
    Timeout,
    /// Too much at once.
    Overloaded,
    /// The node made a mistake; it is in its log.
    Internal,
    /// The session goes on over another connection.
    Moved,
    /// More of something in a second than is allowed.
    RateExceeded,
    /// The tenant has as much of something as it may have at once.
    QuotaExceeded,
}

impl ErrorCode {
    /// Every code there is, by number.
    pub const ALL: [Self; 26] = [
        Self::BadRequest,
        Self::UnknownCommand,
        Self::BadChannel,
        Self::BadPosition,
        Self::BadPublicationId,
        Self::BadPayload,
        Self::PayloadTooLarge,
        Self::BadMark,
        Self::PermissionDenied,
        Self::BadToken,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::OriginDenied,
        Self::TicketInvalid,
        Self::AlreadySubscribed,
        Self::NotSubscribed,
        Self::AlreadyConnected,
        Self::NoPresence,
        Self::LimitExceeded,
        Self::Unavailable,
        Self::Timeout,
        Self::Overloaded,
        Self::Internal,
        Self::Moved,
        Self::RateExceeded,
        Self::QuotaExceeded,
    ];

    pub fn number(self) -> u16 {
        match self {
            Self::BadRequest => 1000,
            Self::UnknownCommand => 1001,
            Self::BadChannel => 1002,
            Self::BadPosition => 1003,
            Self::BadPublicationId => 1004,
            Self::BadPayload => 1005,
            Self::PayloadTooLarge => 1006,
            Self::BadMark => 1007,
            Self::PermissionDenied => 1100,
            Self::BadToken => 1101,
            Self::TokenExpired => 1102,
            Self::TokenRevoked => 1103,
            Self::OriginDenied => 1104,
            Self::TicketInvalid => 1105,
            Self::AlreadySubscribed => 1200,
            Self::NotSubscribed => 1201,
            Self::AlreadyConnected => 1202,
            Self::NoPresence => 1203,
            Self::LimitExceeded => 1300,
            Self::Unavailable => 2000,
            Self::Timeout => 2001,
            Self::Overloaded => 2002,
            Self::Internal => 2003,
            Self::Moved => 2004,
            Self::RateExceeded => 2005,
            Self::QuotaExceeded => 2006,
        }
    }

    /// The name in the protocol, to match on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownCommand => "unknown_command",
            Self::BadChannel => "bad_channel",
            Self::BadPosition => "bad_position",
            Self::BadPublicationId => "bad_publication_id",
            Self::BadPayload => "bad_payload",
            Self::PayloadTooLarge => "payload_too_large",
            Self::BadMark => "bad_mark",
            Self::PermissionDenied => "permission_denied",
            Self::BadToken => "bad_token",
            Self::TokenExpired => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::OriginDenied => "origin_denied",
            Self::TicketInvalid => "ticket_invalid",
            Self::AlreadySubscribed => "already_subscribed",
            Self::NotSubscribed => "not_subscribed",
            Self::AlreadyConnected => "already_connected",
            Self::NoPresence => "no_presence",
            Self::LimitExceeded => "limit_exceeded",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
            Self::Moved => "moved",
            Self::RateExceeded => "rate_exceeded",
            Self::QuotaExceeded => "quota_exceeded",
        }
    }

    /// Whether the same command may succeed later.
    pub fn is_retryable(self) -> bool {
        self.number() >= 2000
    }
}

/// A refused command: a code to match on and a sentence for a person.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{} ({}): {message}", code.as_str(), code.number())]
pub struct Failure {
    pub code: ErrorCode,
    /// What failed and, where it is known, the remedy. Holds no payload and no token.
    pub message: Cow<'static, str>,
    /// When to try again, for retryable codes that know.
    pub retry_after: Option<Duration>,
    /// The limit that is in the way, if one is. Few failures have it, and answers are held by the
    /// thousand, hence the box.
    pub exceeded: Option<Box<Exceeded>>,
}

impl Failure {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None, exceeded: None }
    }

    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Names the limit that is in the way, and what it is set to.
    #[must_use]
    pub fn exceeding(mut self, limit: Limit, value: u64) -> Self {
        self.exceeded = Some(Box::new(Exceeded { limit, value }));
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_codes_share_a_number_or_a_name() {
        let numbers: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        let names: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();

        assert_eq!(numbers.len(), ErrorCode::ALL.len());
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn every_number_is_in_a_range_that_says_what_to_do() {
        for code in ErrorCode::ALL {
            assert!((1000..3000).contains(&code.number()), "{code:?}");
        }
    }
}
