//! Changing one key of a document that is kept.

use serde_json::{Value, json};

/// The two kinds of keys that a document lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyList {
    /// Those that tokens are signed with.
    Token,
    /// Those of servers.
    Api,
}

/// Why a document cannot be changed so.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EditError {
    #[error("there is a key of that id already")]
    Exists,
    #[error("there is no key of that id")]
    Missing,
    #[error("it is the last key of the tenant: add another first, or remove the tenant")]
    Last,
}

/// Adds a key, which says its `id`.
///
/// # Errors
///
/// When there is one of that id.
pub fn add_key(document: &mut Value, list: KeyList, key: Value) -> Result<(), EditError> {
    let keys = keys(document, list);
    if keys.iter().any(|other| other.get("id") == key.get("id")) {
        return Err(EditError::Exists);
    }
    keys.push(key);
    Ok(())
}

/// Takes a key out.
///
/// # Errors
///
/// When there is none of that id, and when nobody could prove anything any more.
pub fn remove_key(document: &mut Value, list: KeyList, id: &str) -> Result<(), EditError> {
    let has_issuer = document.get("issuer").is_some_and(Value::is_object);
    let all = [KeyList::Token, KeyList::Api].map(|list| keys(document, list).len());
    let keys = keys(document, list);
    let at = keys.iter().position(|key| key["id"] == *id).ok_or(EditError::Missing)?;
    if all.iter().sum::<usize>() == 1 && !has_issuer {
        return Err(EditError::Last);
    }
    keys.remove(at);
    Ok(())
}

/// Gives the API key `id` another secret, of which this is the SHA-256 in hexadecimal. The one it has
/// is taken as well before `until`, in seconds since the Unix epoch.
///
/// # Errors
///
/// When there is none of that id.
pub fn rotate_api_key(
    document: &mut Value,
    id: &str,
    sha256: &str,
    until: u64,
) -> Result<(), EditError> {
    let keys = keys(document, KeyList::Api);
    let key = keys.iter_mut().find(|key| key["id"] == *id).ok_or(EditError::Missing)?;
    key["previous_sha256"] = key["sha256"].take();
    key["previous_until"] = until.into();
    key["sha256"] = sha256.into();
    Ok(())
}

/// The keys of a kind; none if the document is not one, which is for who reads it to say.
fn keys(document: &mut Value, list: KeyList) -> &mut Vec<Value> {
    let name = match list {
        KeyList::Token => "keys",
        KeyList::Api => "api_keys",
    };
    if !document.get(name).is_some_and(Value::is_array) {
        if !document.is_object() {
            *document = json!({});
        }
        document[name] = json!([]);
    }
    document[name].as_array_mut().expect("it was made one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme() -> Value {
        json!({ "name": "acme", "keys": [{ "id": "a", "secret": "s" }] })
    }

    #[test]
    fn keys_come_once_and_go_until_the_last() {
        let mut document = acme();
        let server = json!({ "id": "a", "sha256": "h" });

        assert_eq!(add_key(&mut document, KeyList::Api, server.clone()), Ok(()));
        assert_eq!(add_key(&mut document, KeyList::Api, server), Err(EditError::Exists));
        assert_eq!(remove_key(&mut document, KeyList::Token, "b"), Err(EditError::Missing));
        assert_eq!(remove_key(&mut document, KeyList::Token, "a"), Ok(()));
        assert_eq!(remove_key(&mut document, KeyList::Api, "a"), Err(EditError::Last));
        assert_eq!(
            document,
            json!({ "name": "acme", "keys": [], "api_keys": [{ "id": "a", "sha256": "h" }] })
        );
    }

    #[test]
    fn a_rotated_key_keeps_the_secret_it_had_and_only_that_one() {
        let mut document = acme();
        let server = json!({ "id": "server", "sha256": "first", "scopes": ["publish"] });
        add_key(&mut document, KeyList::Api, server).expect("added");

        rotate_api_key(&mut document, "server", "second", 7).expect("rotated");
        rotate_api_key(&mut document, "server", "third", 9).expect("rotated");

        assert_eq!(
            document["api_keys"][0],
            json!({
                "id": "server", "sha256": "third", "scopes": ["publish"],
                "previous_sha256": "second", "previous_until": 9,
            })
        );
        let missing = rotate_api_key(&mut document, "a", "x", 1);
        assert_eq!(missing, Err(EditError::Missing));
    }

    #[test]
    fn what_is_no_document_is_no_panic() {
        for text in ["1", "[]", "{\"keys\":1}"] {
            let mut document: Value = serde_json::from_str(text).expect("json");
            let missing = remove_key(&mut document, KeyList::Token, "a");
            assert_eq!(missing, Err(EditError::Missing));
        }
    }
}
