//! Publishing over HTTP, for servers with an API key.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidewire_auth::{ApiIdentity, Scope};
use tidewire_broker::Appended;
use tidewire_model::{Action, Channel, ErrorCode, Failure, Tenant, TenantChannel};
use tidewire_node::Publishing;
use tokio::time::{Duration, Instant, timeout};

use crate::api_item::Item;
use crate::origin::origin;
use crate::{Edge, metrics, router};

/// Publications in one batch.
const MOST_IN_BATCH: usize = 1_000;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    publications: Vec<&'a RawValue>,
}

/// Where one publication ended up.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Published {
        epoch: String,
        offset: u64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    Refused {
        error: Refusal,
    },
}

#[derive(Serialize)]
struct Refusal {
    code: u16,
    name: &'static str,
    message: Cow<'static, str>,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<LimitBody>,
}

#[derive(Serialize)]
struct LimitBody {
    name: &'static str,
    value: u64,
}

/// A request that is refused as a whole.
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) failure: Failure,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { status: status(failure.code), failure }
    }
}

impl Refused {
    pub(crate) fn with(status: StatusCode, failure: Failure) -> Self {
        Self { status, failure }
    }

    pub(crate) fn response(self) -> Response {
        let wait = self.failure.retry_after.unwrap_or_default();
        let mut response = respond(self.status, &answer(Err(self.failure)));
        if is_to_come_back(self.status) {
            // Whole seconds, never sooner than the time itself.
            let seconds = wait.as_millis().div_ceil(1_000).max(1).to_string();
            let seconds = HeaderValue::try_from(seconds).expect("digits");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

#[derive(Serialize)]
struct Answers {
    results: Vec<Answer>,
}

/// `POST /v1/{tenant}/channels/{channel}/publications`
pub(crate) async fn publish(
    State(edge): State<Edge>,
    Path((tenant, channel)): Path<(String, String)>,
    request: Request,
) -> Response {
    let started = Instant::now();
    let response = match publish_one(&edge, &tenant, &channel, request).await {
        Ok(appended) => respond(StatusCode::OK, &answer(Ok(appended))),
        Err(refused) => refused.response(),
    };
    metrics::api_request(response.status().as_u16(), started.elapsed());
    response
}

async fn publish_one(
    edge: &Edge,
    tenant: &str,
    channel: &str,
    request: Request,
) -> Result<Appended, Refused> {
    let caller = authenticate(edge, tenant, request.headers(), Scope::Publish)?;
    let body = read(request, router::BODY_BYTES).await?;
    let item: Item<'_> = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    if item.channel.is_some() {
        let message = "`channel` stands in the path, and in the body of a batch only";
        return Err(Failure::new(ErrorCode::BadRequest, message).into());
    }
    let submitted = submit(edge, &caller, channel, &item).await;
    Ok(finish(edge, &caller, submitted).await?)
}

/// `POST /v1/{tenant}/publications`: each publication has its own verdict. Those of one channel get
/// offsets in the order of the batch.
pub(crate) async fn publish_batch(
    State(edge): State<Edge>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response {
    let started = Instant::now();
    let response = match publish_all(&edge, &tenant, request).await {
        Ok(results) => respond(StatusCode::OK, &Answers { results }),
        Err(refused) => refused.response(),
    };
    metrics::api_request(response.status().as_u16(), started.elapsed());
    response
}

async fn publish_all(edge: &Edge, tenant: &str, request: Request) -> Result<Vec<Answer>, Refused> {
    let caller = authenticate(edge, tenant, request.headers(), Scope::Publish)?;
    let body = read(request, router::BODY_BYTES).await?;
    let batch: Batch<'_> = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    if batch.publications.len() > MOST_IN_BATCH {
        let message = format!("a batch may hold {MOST_IN_BATCH} publications");
        return Err(Failure::new(ErrorCode::LimitExceeded, message).into());
    }
    let mut submitted = Vec::with_capacity(batch.publications.len());
    let mut refused = HashMap::new();
    for raw in batch.publications {
        submitted.push(submit_raw(edge, &caller, raw, &mut refused).await);
    }
    let mut answers = Vec::with_capacity(submitted.len());
    for submitted in submitted {
        answers.push(answer(finish(edge, &caller, submitted).await));
    }
    Ok(answers)
}

async fn submit_raw(
    edge: &Edge,
    caller: &ApiIdentity,
    raw: &RawValue,
    refused: &mut HashMap<String, Failure>,
) -> Result<Publishing, Failure> {
    let item: Item<'_> = serde_json::from_str(raw.get()).map_err(|error| malformed(&error))?;
    let channel = item.channel.as_deref().ok_or_else(|| {
        Failure::new(ErrorCode::BadRequest, "a publication of a batch needs a `channel`")
    })?;
    // What was behind it in its channel is not to overtake it.
    if let Some(failure) = refused.get(channel) {
        return Err(failure.clone());
    }
    let submitted = submit(edge, caller, channel, &item).await;
    if let Err(failure) = &submitted
        && failure.code == ErrorCode::RateExceeded
    {
        refused.insert(channel.to_owned(), failure.clone());
    }
    submitted
}

/// Checks a publication and hands it to the node.
async fn submit(
    edge: &Edge,
    caller: &ApiIdentity,
    channel: &str,
    item: &Item<'_>,
) -> Result<Publishing, Failure> {
    let channel = Channel::parse(channel)
        .map_err(|error| Failure::new(ErrorCode::BadChannel, error.to_string()))?;
    if !caller.permissions.allows(Action::Publish, &channel) {
        let message = "the api key does not allow publishing to this channel";
        return Err(Failure::new(ErrorCode::PermissionDenied, message));
    }
    let allowance = edge.0.allowance(&caller.tenant);
    let draft = item.draft(allowance.session.payload_bytes)?;
    let charged = allowance.charge(draft.payload.len(), edge.0.age(Instant::now()));
    charged.map_err(|spent| spent.failure(spent.wait))?;
    let channel = TenantChannel::new(caller.tenant.clone(), channel);
    Ok(edge.0.node.publish(channel, draft).await)
}

/// Waits for the verdict on what was submitted, and counts it.
async fn finish(
    edge: &Edge,
    caller: &ApiIdentity,
    submitted: Result<Publishing, Failure>,
) -> Result<Appended, Failure> {
    let verdict = match submitted {
        Ok(publishing) => {
            let verdict = publishing.finish().await;
            metrics::api_published(&verdict);
            verdict
        }
        Err(failure) => Err(failure),
    };
    if let Err(Failure { exceeded: Some(exceeded), .. }) = &verdict {
        let allowance = edge.0.allowance(&caller.tenant);
        metrics::limited(exceeded.limit, allowance.metrics.as_deref());
    }
    verdict
}

/// Says whose server is calling, if it may ask this. An unknown tenant is no different from a wrong key.
pub(crate) fn authenticate(
    edge: &Edge,
    tenant: &str,
    headers: &HeaderMap,
    scope: Scope,
) -> Result<ApiIdentity, Failure> {
    let refused = || {
        metrics::authenticated("api_key", "invalid");
        let message = "send `Authorization: Bearer <id>.<secret>` with an api key of this tenant";
        Failure::new(ErrorCode::BadToken, message)
    };
    let tenant = Tenant::parse(tenant).map_err(|_| refused())?;
    if edge.0.tenants.is_incomplete() && !edge.0.tenants.contains(&tenant) {
        let message = "not all tenants are known here yet; come back";
        let wait = Duration::from_secs(1);
        return Err(Failure::new(ErrorCode::Unavailable, message).retry_after(wait));
    }
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let verify =
        |value| edge.0.verifier.verify_api_key(value, &tenant, crate::edge::unix_seconds());
    let caller = value.and_then(|value| verify(value).ok()).ok_or_else(refused)?;
    if !caller.scopes.contains(scope) {
        metrics::authenticated("api_key", "scope");
        let message = "the `scopes` of the api key do not allow this";
        return Err(Failure::new(ErrorCode::PermissionDenied, message));
    }
    metrics::authenticated("api_key", "ok");
    if !edge.0.tenants.allows_origin(&caller.tenant, origin(headers).as_deref()) {
        let message = "pages of this origin may not use the tenant";
        return Err(Failure::new(ErrorCode::OriginDenied, message));
    }
    Ok(caller)
}

/// Reads the body of a caller who is known: nobody else makes the node hold one. Its route bounds it to
/// `most` bytes.
pub(crate) async fn read(request: Request, most: usize) -> Result<Bytes, Refused> {
    match timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await {
        Ok(body) => Ok(body.map_err(|rejection| unread(&rejection, most))?),
        Err(_elapsed) => {
            let message = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            let failure = Failure::new(ErrorCode::Timeout, message);
            Err(Refused { status: StatusCode::REQUEST_TIMEOUT, failure })
        }
    }
}

fn unread(rejection: &BytesRejection, most: usize) -> Failure {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let message = format!("a request may have {most} bytes");
        return Failure::new(ErrorCode::PayloadTooLarge, message);
    }
    Failure::new(ErrorCode::BadRequest, "the body did not come whole")
}

pub(crate) fn malformed(error: &serde_json::Error) -> Failure {
    // The category and place only: the text itself may hold what was sent.
    let place = format!("line {} column {}", error.line(), error.column());
    let message = if error.is_data() {
        format!("the body is not what is expected here, at {place}")
    } else {
        format!("the body is not JSON, at {place}")
    };
    Failure::new(ErrorCode::BadRequest, message)
}

fn answer(verdict: Result<Appended, Failure>) -> Answer {
    match verdict {
        Ok(Appended { position, duplicate, .. }) => {
            let epoch = position.epoch.to_string();
            Answer::Published { epoch, offset: position.offset, duplicate }
        }
        Err(Failure { code, message, retry_after, exceeded }) => {
            let (number, name, retryable) = (code.number(), code.as_str(), code.is_retryable());
            let retry_after_ms = retry_after.map(|delay| delay.as_millis());
            let limit = exceeded.map(|of| LimitBody { name: of.limit.as_str(), value: of.value });
            let code = number;
            let error = Refusal { code, name, message, retryable, retry_after_ms, limit };
            Answer::Refused { error }
        }
    }
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadToken | ErrorCode::TokenExpired | ErrorCode::TokenRevoked => {
            StatusCode::UNAUTHORIZED
        }
        ErrorCode::PermissionDenied | ErrorCode::OriginDenied => StatusCode::FORBIDDEN,
        ErrorCode::PayloadTooLarge | ErrorCode::LimitExceeded => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RateExceeded | ErrorCode::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable | ErrorCode::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Whether the same request may succeed after a while, and says after which.
fn is_to_come_back(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

pub(crate) fn respond(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::REQUEST_TIMEOUT {
        // RFC 9110 section 15.5.9: the connection is of no further use.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_whose_fault_it_is() {
        let of = |wanted| {
            let codes = ErrorCode::ALL.into_iter().filter(|code| status(*code) == wanted);
            codes.map(ErrorCode::number).collect::<Vec<_>>()
        };

        assert_eq!(of(StatusCode::UNAUTHORIZED), [1101, 1102, 1103]);
        assert_eq!(of(StatusCode::FORBIDDEN), [1100, 1104]);
        assert_eq!(of(StatusCode::PAYLOAD_TOO_LARGE), [1006, 1300]);
        assert_eq!(of(StatusCode::TOO_MANY_REQUESTS), [2005, 2006]);
        assert_eq!(of(StatusCode::SERVICE_UNAVAILABLE), [2000, 2002]);
    }
}
