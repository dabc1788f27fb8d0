//! A publication as it comes over HTTP.

use std::borrow::Cow;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidewire_broker::Draft;
use tidewire_model::{ErrorCode, Failure, Limit, Payload, PublicationId};

/// What is published. Exactly one of `data` and `binary` is given; `channel` only in a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item<'a> {
    #[serde(borrow, default)]
    pub(crate) channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    binary: Option<Cow<'a, str>>,
}

impl Item<'_> {
    /// # Errors
    ///
    /// What the one who published is to mend.
    pub(crate) fn draft(&self, most_bytes: usize) -> Result<Draft, Failure> {
        let id = self.id.as_deref().map(PublicationId::parse).transpose();
        let id =
            id.map_err(|error| Failure::new(ErrorCode::BadPublicationId, error.to_string()))?;
        let payload = match (self.data, &self.binary) {
            (Some(data), None) => {
                let payload = Payload::json_value(Bytes::copy_from_slice(data.get().as_bytes()));
                payload.map_err(|error| Failure::new(ErrorCode::BadPayload, error.to_string()))?
            }
            (None, Some(binary)) => {
                let bytes = STANDARD.decode(binary.as_bytes());
                let bytes = bytes.map_err(|_| {
                    Failure::new(
                        ErrorCode::BadPayload,
                        "`binary` is not base64 (RFC 4648 section 4)",
                    )
                })?;
                Payload::binary(bytes.into())
            }
            _ => {
                let message = "a publication needs either `data` or `binary`";
                return Err(Failure::new(ErrorCode::BadPayload, message));
            }
        };
        if payload.len() > most_bytes {
            let bytes = payload.len();
            let message = format!("payload has {bytes} bytes, at most {most_bytes} are allowed");
            let failure = Failure::new(ErrorCode::PayloadTooLarge, message);
            return Err(failure.exceeding(Limit::PayloadBytes, most_bytes as u64));
        }
        Ok(Draft { id, publisher: None, payload })
    }
}

/// Reads a member that is there: without this, `null` would count as absent, but it is a payload.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}
