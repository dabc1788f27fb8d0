//! A document on its way into the registry and out of it, where secrets are kept and not shown.

use serde_json::Value;
use tidewire_auth::SecretHash;

use crate::MASK;

/// The document that `text` means: a key of a known id that comes without its secret, or with the
/// mask that stands for it, has the one it has in `previous`. What is not a document stays as it is,
/// for [`parse`](crate::parse) to refuse.
pub fn complete(text: &[u8], previous: Option<&[u8]>) -> Vec<u8> {
    let Ok(mut document) = serde_json::from_slice::<Value>(text) else { return text.to_vec() };
    let previous: Value =
        previous.and_then(|previous| serde_json::from_slice(previous).ok()).unwrap_or_default();
    for (list, secrets) in [("keys", TOKEN_SECRETS), ("api_keys", API_SECRETS)] {
        let Some(keys) = document.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for key in keys {
            fill_in(key, previous.get(list), secrets);
        }
    }
    serde_json::to_vec(&document).expect("what was read as JSON can be written")
}

/// The same document as it is kept: of the secrets of API keys only the hashes.
pub fn at_rest(text: &[u8]) -> Vec<u8> {
    let Ok(mut document) = serde_json::from_slice::<Value>(text) else { return text.to_vec() };
    let keys = document.get_mut("api_keys").and_then(Value::as_array_mut);
    for key in keys.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(Value::String(secret)) = key.remove("secret") {
            key.insert("sha256".into(), SecretHash::of(&secret).to_hex().into());
        }
    }
    serde_json::to_vec(&document).expect("what was read as JSON can be written")
}

/// The document as it may be shown: no secret of it, and no hash of one.
pub fn masked(text: &[u8]) -> Option<Value> {
    let mut document: Value = serde_json::from_slice(text).ok()?;
    for list in ["keys", "api_keys"] {
        let keys = document.get_mut(list).and_then(Value::as_array_mut);
        for key in keys.into_iter().flatten().filter_map(Value::as_object_mut) {
            key.remove("sha256");
            key.remove("previous_sha256");
            if let Some(secret) = key.get_mut("secret") {
                *secret = MASK.into();
            }
        }
    }
    Some(document)
}

/// What a key proves itself with, the secret first.
const TOKEN_SECRETS: &[&str] = &["secret", "secret_file", "public_key", "public_key_file"];
const API_SECRETS: &[&str] = &["secret", "secret_file", "sha256"];

fn fill_in(key: &mut Value, previous: Option<&Value>, secrets: &[&str]) {
    let Some(key) = key.as_object_mut() else { return };
    if key.get("secret").is_some_and(|secret| secret == MASK) {
        key.remove("secret");
    }
    let has_id = |other: &&Value| other.get("id").is_some() && other.get("id") == key.get("id");
    let known = previous.and_then(Value::as_array).into_iter().flatten().find(has_id);
    // The hash of the secret before is not shown either, and belongs to what is shown of it.
    let of_known = |name| known.and_then(|known: &Value| known.get(name));
    if key.contains_key("previous_until") && key.get("previous_until") == of_known("previous_until")
    {
        let hash = of_known("previous_sha256").cloned();
        let is_new = key.contains_key("previous_sha256");
        key.extend(hash.filter(|_| !is_new).map(|hash| ("previous_sha256".to_owned(), hash)));
    }
    if secrets.iter().any(|secret| key.contains_key(*secret)) {
        return;
    }
    let kept = secrets.iter().find_map(|secret| Some((*secret, known?.get(secret)?.clone())));
    key.extend(kept.map(|(name, value)| (name.to_owned(), value)));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn bytes(value: &Value) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    fn full() -> Value {
        json!({
            "name": "acme",
            "keys": [{ "id": "k", "algorithm": "HS256", "secret": SECRET }],
            "api_keys": [{
                "id": "server",
                "secret": SECRET,
                "previous_sha256": "ab".repeat(32),
                "previous_until": 7,
            }],
        })
    }

    #[test]
    fn what_is_shown_holds_no_secret_and_no_hash_and_means_the_same_when_it_comes_back() {
        let kept = at_rest(&bytes(&full()));

        let shown = masked(&kept).expect("a document");
        let back = complete(&bytes(&shown), Some(&kept));

        assert!(
            !String::from_utf8_lossy(&kept).contains(&format!("server\",\"secret\":\"{SECRET}"))
        );
        assert!(!shown.to_string().contains(SECRET) && !shown.to_string().contains("sha256"));
        assert_eq!(serde_json::from_slice::<Value>(&back).ok(), serde_json::from_slice(&kept).ok());
    }

    #[test]
    fn a_new_secret_replaces_and_an_unknown_id_gets_none() {
        let kept = at_rest(&bytes(&full()));
        let new = json!({ "keys": [
            { "id": "k", "algorithm": "HS256", "secret": "another" },
            { "id": "unknown", "algorithm": "HS256", "secret": MASK },
        ]});

        let completed: Value =
            serde_json::from_slice(&complete(&bytes(&new), Some(&kept))).expect("json");

        assert_eq!(completed["keys"][0]["secret"], "another");
        assert_eq!(completed["keys"][1].get("secret"), None);
    }

    #[test]
    fn what_is_no_document_stays_as_it_is() {
        for text in ["", "[", "1", "{\"api_keys\":[1],\"keys\":1}"] {
            assert_eq!(complete(text.as_bytes(), Some(b"{")), text.as_bytes());
            assert_eq!(at_rest(text.as_bytes()), text.as_bytes());
        }
    }
}
