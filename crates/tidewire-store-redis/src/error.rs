use redis::{ErrorKind, RedisError, ServerErrorKind};
use tidewire_broker::LogError;
use tidewire_store::StoreError;

use crate::library;

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.reason())]
pub(crate) enum CallError {
    /// It was never sent.
    Unsent(String),
    /// It was sent, and no reply came: whether it happened is unknown.
    Unanswered(String),
    /// It did not happen: this server cannot do it now, and another one or a later call may.
    Misplaced(String),
    /// It did not happen, and repeating it at once would not help.
    Refused(String),
    /// What Redis holds, or what it answered, cannot be right.
    Corrupt(String),
}

impl CallError {
    /// The values of the label `reason`, in the order of [`CallError::reason_index`].
    pub(crate) const REASONS: [&'static str; 5] =
        ["unavailable", "unanswered", "misplaced", "refused", "corrupt"];

    pub(crate) fn reason_index(&self) -> usize {
        match self {
            Self::Unsent(_) => 0,
            Self::Unanswered(_) => 1,
            Self::Misplaced(_) => 2,
            Self::Refused(_) => 3,
            Self::Corrupt(_) => 4,
        }
    }

    /// What an error means for a call that was handed to a connection.
    pub(crate) fn of_call(error: &RedisError) -> Self {
        let reason = reason(error);
        match error.kind() {
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::BusyLoading
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly => Self::Misplaced(reason),
                _ => Self::Refused(reason),
            },
            ErrorKind::Extension => match error.code() {
                Some("CORRUPT" | "WRONGTYPE") => Self::Corrupt(reason),
                _ => Self::Refused(reason),
            },
            ErrorKind::ClusterConnectionNotFound | ErrorKind::AuthenticationFailed => {
                Self::Unsent(reason)
            }
            ErrorKind::Client | ErrorKind::InvalidClientConfig => Self::Refused(reason),
            _ => Self::Unanswered(reason),
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Unsent(reason)
            | Self::Unanswered(reason)
            | Self::Misplaced(reason)
            | Self::Refused(reason)
            | Self::Corrupt(reason) => reason,
        }
    }

    pub(crate) fn into_log_error(self, address: &str) -> LogError {
        let address = address.into();
        match self {
            Self::Unanswered(_) => LogError::Timeout { address },
            Self::Corrupt(reason) => LogError::Corrupt { reason },
            other => LogError::Unavailable { address, reason: other.to_string() },
        }
    }

    pub(crate) fn into_store_error(self, address: &str) -> StoreError {
        match self {
            Self::Corrupt(reason) => StoreError::Corrupt { reason },
            other => StoreError::Unavailable { address: address.into(), reason: other.to_string() },
        }
    }
}

/// What an error says, in our words: lower case at its start, and without the keys or values that
/// the detail of some of Redis' own errors holds.
pub(crate) fn reason(error: &RedisError) -> String {
    if library::is_unsupported(error) {
        return "redis 7.0 or later is needed".into();
    }
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let code = error.code().unwrap_or("ERR");
            match error.detail() {
                Some(detail) => format!("redis answered {code} {}", without_script_trace(detail)),
                None => format!("redis answered {code}"),
            }
        }
        ErrorKind::AuthenticationFailed => "redis refused the credentials".into(),
        ErrorKind::Io => io_reason(error),
        _ => match error.detail() {
            Some(detail) => format!("{}: {detail}", error.category()),
            None => error.category().into(),
        },
    }
}

fn io_reason(error: &RedisError) -> String {
    if error.is_connection_refusal() {
        return "connection refused".into();
    }
    if error.is_timeout() {
        return "no answer in time".into();
    }
    error.to_string().to_lowercase()
}

/// Redis appends where in a function an error arose, which tells an operator nothing.
fn without_script_trace(detail: &str) -> &str {
    detail.split(" script: ").next().unwrap_or(detail)
}
