use anyhow::{Context as _, anyhow};
use http::{Method, StatusCode, header};
use serde_json::Value;
use tidewire_edge::CONTROL_HEADER;
use tidewire_transport::http::request;

use crate::cli::Administration;

/// The admin listener of a node.
pub(super) struct Admin {
    url: String,
    bearer: Option<String>,
}

/// What it answered, if it did what it was asked.
pub(super) struct Answer {
    pub(super) body: Value,
    pub(super) revision: Option<String>,
    pub(super) is_new: bool,
}

impl Admin {
    pub(super) fn new(asked: &Administration) -> anyhow::Result<Self> {
        let read = |path: &std::path::PathBuf| {
            let token = std::fs::read_to_string(path);
            let token = token.with_context(|| format!("{} cannot be read", path.display()))?;
            anyhow::Ok(format!("Bearer {}", token.trim()))
        };
        let bearer = asked.token_file.as_ref().map(read).transpose()?;
        Ok(Self { url: asked.url.trim_end_matches('/').to_owned(), bearer })
    }

    /// Sends a request for `path`, which begins after `/v1/`.
    ///
    /// # Errors
    ///
    /// When it is refused, with everything the node says about it.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        self.send(method, path, ("accept", "*/*"), body).await
    }

    /// Puts a document, if `condition` allows it.
    pub(super) async fn put(
        &self,
        path: &str,
        condition: (&str, &str),
        document: &Value,
    ) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, condition, Some(document)).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        header: (&str, &str),
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let url = format!("{}/v1/{path}", self.url);
        let mut headers = vec![(CONTROL_HEADER, "1"), header];
        headers.extend(self.bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let text = body.map(Value::to_string).unwrap_or_default();
        let answer = request(method, &url, &headers, text).await.with_context(|| {
            format!("no answer of {}; a node listens there if it has `registry.keys`", self.url)
        })?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if !answer.status.is_success() {
            return Err(refusal(answer.status, &body));
        }
        let tag = answer.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let revision = tag.map(|tag| tag.trim_matches('"').to_owned());
        Ok(Answer { body, revision, is_new: answer.status == StatusCode::CREATED })
    }
}

/// A text as one part of a path (RFC 3986 section 2.1).
pub(super) fn segment(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let write = |byte: u8| {
        if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(write).collect()
}

/// What the node says, a problem a line.
fn refusal(status: StatusCode, body: &Value) -> anyhow::Error {
    let error = &body["error"];
    let (Some(code), Some(message)) = (error["code"].as_str(), error["message"].as_str()) else {
        return anyhow!("the answer is {status}; is this the admin listener of a node?");
    };
    let line = |problem: &Value| {
        let word = |name: &str| problem[name].as_str().unwrap_or_default();
        let place = if word("path").is_empty() { "it" } else { word("path") };
        format!("\n  {place}: {}", word("message"))
    };
    let problems: String = error["problems"].as_array().into_iter().flatten().map(line).collect();
    anyhow!("{code}: {message}{problems}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_of_any_name_is_one_part_of_a_path() {
        assert_eq!(segment("main-1_a"), "main-1_a");
        assert_eq!(segment("a/../b?c#ä"), "a%2F%2E%2E%2Fb%3Fc%23%C3%A4");
    }

    #[test]
    fn everything_that_the_node_says_is_said() {
        let problems = json!([{ "path": "keys[0]", "message": "has no secret" }, { "path": "", "message": "is not JSON" }]);
        let body =
            json!({ "error": { "code": "bad_document", "message": "no", "problems": problems } });

        let said = refusal(StatusCode::BAD_REQUEST, &body).to_string();

        assert_eq!(said, "bad_document: no\n  keys[0]: has no secret\n  it: is not JSON");
        let foreign = refusal(StatusCode::NOT_FOUND, &Value::Null).to_string();
        assert!(foreign.starts_with("the answer is 404"), "{foreign}");
    }
}
