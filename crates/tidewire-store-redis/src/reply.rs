//! Taking replies apart. What is not as it should be is [`CallError::Corrupt`], never a panic.

use bytes::Bytes;
use redis::Value;
use tidewire_model::{Epoch, Incarnation};

use crate::error::CallError;

/// The values a function returned, taken one after the other.
pub(crate) struct Reply(std::vec::IntoIter<Value>);

/// What a fenced function says.
pub(crate) enum Answer {
    Done {
        incarnation: Incarnation,
        reply: Reply,
    },
    /// The server has not seen the incarnation that this process has.
    Behind,
    /// Whether an earlier try happened cannot be told any more.
    Unknown,
}

impl Answer {
    pub(crate) fn of(value: Value) -> Result<Self, CallError> {
        let mut reply = Reply::of(value)?;
        match reply.text()?.as_str() {
            "OK" => Ok(Self::Done { incarnation: reply.incarnation()?, reply }),
            "BEHIND" => Ok(Self::Behind),
            "UNKNOWN" => Ok(Self::Unknown),
            _ => Err(unexpected("a status")),
        }
    }
}

impl Reply {
    pub(crate) fn of(value: Value) -> Result<Self, CallError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(unexpected("an array")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, CallError> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes.into()),
            _ => Err(unexpected("a string")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, CallError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| unexpected("a text"))
    }

    pub(crate) fn number(&mut self) -> Result<u64, CallError> {
        match self.0.next() {
            Some(Value::Int(number)) => number.try_into().map_err(|_| unexpected("a number")),
            _ => Err(unexpected("a number")),
        }
    }

    pub(crate) fn epoch(&mut self) -> Result<Epoch, CallError> {
        Epoch::parse(&self.text()?).map_err(|_| unexpected("an epoch"))
    }

    pub(crate) fn incarnation(&mut self) -> Result<Incarnation, CallError> {
        Incarnation::parse(&self.text()?).map_err(|_| unexpected("an incarnation"))
    }

    /// The values of an array inside this one.
    pub(crate) fn nested(&mut self) -> Result<Self, CallError> {
        self.0.next().map_or_else(|| Err(unexpected("an array")), Self::of)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

pub(crate) fn unexpected(wanted: &str) -> CallError {
    CallError::Corrupt(format!("redis did not answer with {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_reply_is_it_is_an_error_and_no_panic() {
        let odd = [
            Value::Nil,
            Value::Int(1),
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::BulkString(b"\xff".into())]),
            Value::Array(vec![Value::BulkString(b"OK".into())]),
            Value::Array(vec![Value::BulkString(b"OK".into()), Value::BulkString(b"short".into())]),
        ];
        for value in odd {
            let answer = Answer::of(value.clone());

            assert!(matches!(answer, Err(CallError::Corrupt(_))), "{value:?}");
        }
    }
}
