//! What is asked over HTTP: a few questions, and publishing as a backend does.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidewire_transport::http::{Response, request};

use crate::cluster::api_key;

pub(crate) async fn ask(url: &str) -> Result<Response> {
    Ok(request(http::Method::GET, url, &[], "").await?)
}

/// Publishes once; the answer, whatever it is.
pub(crate) async fn publish(
    address: std::net::SocketAddr,
    (tenant, channel): (&str, &str),
    id: &str,
    payload: &str,
) -> Result<(u16, Value)> {
    let url = format!("http://{address}/v1/{tenant}/channels/{channel}/publications");
    let key = format!("Bearer {}", api_key(tenant));
    let body = json!({ "id": id, "data": payload }).to_string();
    let answer = request(http::Method::POST, &url, &[("authorization", &key)], body)
        .await
        .context("publish")?;
    let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    Ok((answer.status.as_u16(), value))
}
