//! One key of a tenant at a time: what is made here is shown once, and never again.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidewire_auth::{ApiKeyId, KeyId, SecretHash, random_secret};
use tidewire_model::Tenant;
use tidewire_tenant::{EditError, KeyList, Period};

use super::access::Bearer;
use super::{Admin, Refused, condition, parse_name, read};
use crate::door::Peer;
use crate::edge::{Caller, unix_seconds};
use crate::tenants::Condition;

const DEFAULT_OVERLAP: Period = Period::from_secs(24 * 60 * 60);
const LONGEST_OVERLAP: Duration = Duration::from_hours(30 * 24);

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/v1/tenants/{tenant}/keys", post(add_key))
        .route("/v1/tenants/{tenant}/keys/{id}", delete(remove_key))
        .route("/v1/tenants/{tenant}/api-keys", post(create_api_key))
        .route("/v1/tenants/{tenant}/api-keys/{id}", delete(remove_api_key))
        .route("/v1/tenants/{tenant}/api-keys/{id}/rotate", post(rotate_api_key))
}

/// A key that verifies tokens: a public one, or a secret, which is drawn if it is not given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    id: String,
    algorithm: String,
    public_key: Option<String>,
    secret: Option<String>,
    #[serde(default)]
    generate: bool,
}

/// A key of a server. What is in it is judged as in a document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewApiKey {
    id: String,
    channels: Option<Value>,
    scopes: Option<Value>,
    expires_at: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    #[serde(default = "default_overlap")]
    overlap: Period,
}

fn default_overlap() -> Period {
    DEFAULT_OVERLAP
}

async fn add_key(editor: Editor, request: Request) -> Result<Response, Refused> {
    let NewKey { id, algorithm, public_key, mut secret, generate } = body(request).await?;
    KeyId::parse(&id).map_err(|error| bad_request(error.to_string()))?;
    let drawn = match (generate, algorithm.as_str(), &secret, &public_key) {
        (false, ..) => None,
        (true, "HS256", None, None) => Some(random_secret()),
        (true, ..) => {
            let message = "only the secret of an `HS256` key can be made here: of a pair, give the \
                           `public_key`, and keep the private one where tokens are signed";
            return Err(bad_request(message));
        }
    };
    secret = secret.or_else(|| drawn.clone());
    let members = [
        ("id", Some(Value::from(id.as_str()))),
        ("algorithm", Some(algorithm.into())),
        ("public_key", public_key.map(Value::from)),
        ("secret", secret.map(Value::from)),
    ];
    let key = object(members);
    let add =
        |document: &mut Value| tidewire_tenant::add_key(document, KeyList::Token, key.clone());
    let revision = editor.edit(("key.add", &id), add).await?;
    let made =
        drawn.map_or_else(|| json!({ "id": id }), |secret| json!({ "id": id, "secret": secret }));
    Ok(editor.created(StatusCode::CREATED, revision, made).await)
}

async fn remove_key(editor: Editor) -> Result<StatusCode, Refused> {
    editor.remove("key.remove", KeyList::Token).await
}

async fn create_api_key(editor: Editor, request: Request) -> Result<Response, Refused> {
    let NewApiKey { id, channels, scopes, expires_at } = body(request).await?;
    ApiKeyId::parse(&id).map_err(|error| bad_request(error.to_string()))?;
    let secret = random_secret();
    let members = [
        ("id", Some(Value::from(id.as_str()))),
        ("sha256", Some(SecretHash::of(&secret).to_hex().into())),
        ("channels", channels),
        ("scopes", scopes),
        ("expires_at", expires_at),
    ];
    let key = object(members);
    let add = |document: &mut Value| tidewire_tenant::add_key(document, KeyList::Api, key.clone());
    let revision = editor.edit(("api_key.create", &id), add).await?;
    let made = json!({ "key": format!("{id}.{secret}") });
    Ok(editor.created(StatusCode::CREATED, revision, made).await)
}

async fn remove_api_key(editor: Editor) -> Result<StatusCode, Refused> {
    editor.remove("api_key.remove", KeyList::Api).await
}

async fn rotate_api_key(editor: Editor, request: Request) -> Result<Response, Refused> {
    let Rotation { overlap } = body(request).await?;
    let overlap = overlap.duration();
    if overlap > LONGEST_OVERLAP {
        return Err(bad_request("`overlap` is 30d at most"));
    }
    let id = editor.id()?;
    let secret = random_secret();
    let hash = SecretHash::of(&secret).to_hex();
    let until = unix_seconds() + overlap.as_secs();
    let rotate = |document: &mut Value| tidewire_tenant::rotate_api_key(document, id, &hash, until);
    let revision = editor.edit(("api_key.rotate", id), rotate).await?;
    let made = json!({ "key": format!("{id}.{secret}"), "previous_until": until });
    Ok(editor.created(StatusCode::OK, revision, made).await)
}

/// Who changes one key, of which tenant, and on which condition.
struct Editor {
    admin: Admin,
    tenant: Tenant,
    /// The key that the path names, if it does.
    id: Option<String>,
    condition: Condition,
    bearer: Bearer,
    peer: Peer,
}

impl FromRequestParts<Admin> for Editor {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refused> {
        let State(admin) =
            State::<Admin>::from_request_parts(parts, admin).await.expect("infallible");
        let Ok(Path(mut named)) =
            Path::<HashMap<String, String>>::from_request_parts(parts, &admin).await
        else {
            return Err(bad_request("the path is not UTF-8"));
        };
        let tenant = parse_name(&named.remove("tenant").unwrap_or_default())?;
        let condition = condition(&parts.headers)?;
        let known = Extension::<Bearer>::from_request_parts(parts, &admin).await;
        let Extension(bearer) = known.expect("whoever is here was let in");
        let caller = Extension::<Caller>::from_request_parts(parts, &admin).await;
        let Extension(Caller { peer, .. }) = caller.expect("every request has a caller");
        Ok(Self { admin, tenant, id: named.remove("id"), condition, bearer, peer })
    }
}

impl Editor {
    fn id(&self) -> Result<&str, Refused> {
        self.id.as_deref().ok_or_else(|| bad_request("the path names no key"))
    }

    /// Changes the document as `change` does. Yields its revision.
    async fn edit(
        &self,
        (action, key): (&'static str, &str),
        change: impl Fn(&mut Value) -> Result<(), EditError> + Send + Sync,
    ) -> Result<u64, Refused> {
        let Admin { edge, registry } = &self.admin;
        let revision = registry.edit(edge, (&self.tenant, self.condition), change).await?;
        let (tenant, peer, bearer) = (&self.tenant, &self.peer, &self.bearer);
        tracing::info!(
            target: "tidewire::audit", action, %tenant, key, revision, %peer, %bearer,
            "a key of a tenant was changed"
        );
        Ok(revision)
    }

    async fn remove(&self, action: &'static str, list: KeyList) -> Result<StatusCode, Refused> {
        let id = self.id()?;
        let remove = |document: &mut Value| tidewire_tenant::remove_key(document, list, id);
        self.edit((action, id), remove).await?;
        Ok(StatusCode::NO_CONTENT)
    }

    async fn created(&self, status: StatusCode, revision: u64, mut made: Value) -> Response {
        made["revision"] = revision.into();
        made["in_force_by_ms"] = super::in_force_by_ms(&self.admin.edge).await;
        (status, Json(made)).into_response()
    }
}

/// A body in JSON; none at all is one without members.
async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Refused> {
    let text = read(request).await?;
    let text = if text.is_empty() { &b"{}"[..] } else { &text };
    serde_json::from_slice(text).map_err(|error| {
        // Not what it is: that may be a secret in the wrong place.
        let (line, column) = (error.line(), error.column());
        bad_request(format!("the body is not what is expected here (line {line}, column {column})"))
    })
}

fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect())
}

fn bad_request(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad_request", message)
}
