use serde::Deserialize;
use tidewire_auth::{KeyId, LEEWAY, Target, TokenId};
use tidewire_model::UserId;

use crate::edge::unix_seconds;

/// What is to be revoked: one of the first four, issued until `before`, which is now unless given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    token: Option<String>,
    user: Option<String>,
    key: Option<String>,
    #[serde(default)]
    all: bool,
    before: Option<u64>,
}

impl Asked {
    /// What it is about, and until when that was issued.
    pub(crate) fn parse(text: &[u8]) -> Result<(Target, u64), String> {
        let form = "send one of `token`, `user`, `key` (text) and `all` (true), and `before` \
                    (seconds since 1970) if it is not what was issued until now";
        let asked: Self = serde_json::from_slice(text).map_err(|_| form.to_owned())?;
        let target = match (asked.token, asked.user, asked.key, asked.all) {
            (Some(id), None, None, false) => {
                TokenId::parse(&id).map(Target::Token).map_err(said)?
            }
            (None, Some(name), None, false) => {
                UserId::parse(&name).map(Target::User).map_err(said)?
            }
            (None, None, Some(id), false) => KeyId::parse(&id).map(Target::Key).map_err(said)?,
            (None, None, None, true) => Target::All,
            _ => return Err(form.to_owned()),
        };
        let now = unix_seconds();
        let before = asked.before.unwrap_or(now);
        if before > now + LEEWAY.as_secs() {
            return Err(format!("`before` is more than {} s ahead", LEEWAY.as_secs()));
        }
        Ok((target, before))
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
