use serde::{Deserialize, Deserializer, Serialize};
use tidewire_model::{Actions, Channel, Permissions, Tenant, UserId};

use crate::TokenId;

/// What a token says about its bearer (RFC 7519 section 4), once a key has vouched for it.
///
/// Times are seconds since the Unix epoch.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Claims {
    /// Whose user it is; an issuer that is registered need not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    #[serde(rename = "sub")]
    pub user: UserId,
    #[serde(rename = "aud", deserialize_with = "one_or_many")]
    pub audience: Vec<String>,
    #[serde(rename = "exp", deserialize_with = "seconds")]
    pub expires_at: u64,
    #[serde(
        rename = "nbf",
        default,
        deserialize_with = "optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub not_before: Option<u64>,
    #[serde(
        rename = "iat",
        default,
        deserialize_with = "optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub issued_at: Option<u64>,
    /// What it can be revoked by, alone.
    #[serde(rename = "jti", default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenId>,
    /// What the bearer may do: `channels`, without `denied`. Nothing unless said.
    #[serde(flatten, with = "permissions")]
    pub permissions: Permissions,
}

/// What a token of one channel says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ChannelClaims {
    /// Without permissions: one that has some is refused.
    #[serde(flatten)]
    pub claims: Claims,
    pub channel: Channel,
    /// What its bearer may do there.
    pub actions: Actions,
}

/// Two claims of one meaning.
mod permissions {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tidewire_model::{Grants, Permissions};

    #[derive(Deserialize, Serialize)]
    struct Written<'a> {
        #[serde(default)]
        channels: Cow<'a, Grants>,
        #[serde(default, skip_serializing_if = "is_none")]
        denied: Cow<'a, Grants>,
    }

    fn is_none(grants: &Grants) -> bool {
        grants.is_empty()
    }

    pub(super) fn serialize<S: Serializer>(
        permissions: &Permissions,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let channels = Cow::Borrowed(permissions.granted());
        let denied = Cow::Borrowed(permissions.denied());
        Written { channels, denied }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Permissions, D::Error> {
        let Written { channels, denied } = Written::deserialize(deserializer)?;
        Ok(Permissions::new(channels.into_owned(), denied.into_owned()))
    }
}

/// `aud` is one name or a list of names.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }

    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(name) => vec![name],
        OneOrMany::Many(names) => names,
    })
}

/// A `NumericDate` may have a fraction, which is dropped.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    whole_seconds(&number).ok_or_else(|| serde::de::Error::custom("not a date"))
}

fn optional_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    whole_seconds(&number).map(Some).ok_or_else(|| serde::de::Error::custom("not a date"))
}

fn whole_seconds(number: &serde_json::Number) -> Option<u64> {
    /// Above it a double no longer counts seconds.
    const MAX: f64 = 9_007_199_254_740_992.0;

    if let Some(whole) = number.as_u64() {
        return Some(whole);
    }
    let fraction = number.as_f64().filter(|seconds| (0.0..MAX).contains(seconds))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked, and dropping the fraction is the purpose"
    )]
    Some(fraction as u64)
}
