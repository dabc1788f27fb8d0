//! Asking over HTTP who is in a channel, for servers with an API key.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tidewire_auth::Scope;
use tidewire_model::{
    Action, Channel, ErrorCode, Failure, Member, MemberPage, Occupancy, PageMark, TenantChannel,
};
use tokio::time::Instant;

use crate::api::{Refused, authenticate, respond};
use crate::{Edge, metrics};

/// What is asked about a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
}

/// As the native protocol has it.
#[derive(Serialize)]
struct Members {
    items: Vec<Member>,
    #[serde(flatten)]
    occupancy: Occupied,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct Occupied {
    count: u64,
    epoch: String,
    offset: u64,
}

impl From<Occupancy> for Occupied {
    fn from(Occupancy { count, position }: Occupancy) -> Self {
        Self { count, epoch: position.epoch.to_string(), offset: position.offset }
    }
}

const DEFAULT_LIMIT: u32 = 100;
const MOST: u32 = 500;

/// `GET /v1/{tenant}/channels/{channel}/presence?limit=&from=`
pub(crate) async fn members(
    State(edge): State<Edge>,
    Path((tenant, channel)): Path<(String, String)>,
    page: Result<Query<Page>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let started = Instant::now();
    let response = match read(&edge, (&tenant, &channel), page, &headers).await {
        Ok(MemberPage { members, occupancy, next }) => {
            let next = next.map(|mark| mark.to_string());
            respond(StatusCode::OK, &Members { items: members, occupancy: occupancy.into(), next })
        }
        Err(failure) => Refused::from(failure).response(),
    };
    metrics::api_request(response.status().as_u16(), started.elapsed());
    response
}

/// `GET /v1/{tenant}/channels/{channel}/occupancy`
pub(crate) async fn occupancy(
    State(edge): State<Edge>,
    Path((tenant, channel)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let started = Instant::now();
    let response = match count(&edge, (&tenant, &channel), &headers).await {
        Ok(occupancy) => respond(StatusCode::OK, &Occupied::from(occupancy)),
        Err(failure) => Refused::from(failure).response(),
    };
    metrics::api_request(response.status().as_u16(), started.elapsed());
    response
}

async fn read(
    edge: &Edge,
    names: (&str, &str),
    page: Result<Query<Page>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<MemberPage, Failure> {
    let channel = allowed(edge, names, headers)?;
    let Query(Page { from, limit }) = page.map_err(|_| {
        Failure::new(ErrorCode::BadRequest, "expected nothing but `from` and a whole `limit`")
    })?;
    let from: Option<PageMark> = from.map(|text| text.parse()).transpose().map_err(|_| {
        Failure::new(ErrorCode::BadMark, "`from` is the `next` of another page, as it came")
    })?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST);
    edge.0.node.members_of(&channel, from, limit).await
}

async fn count(
    edge: &Edge,
    names: (&str, &str),
    headers: &HeaderMap,
) -> Result<Occupancy, Failure> {
    let channel = allowed(edge, names, headers)?;
    edge.0.node.occupancy(&channel).await
}

/// The channel, if the caller may ask about it and it keeps presence.
fn allowed(
    edge: &Edge,
    (tenant, channel): (&str, &str),
    headers: &HeaderMap,
) -> Result<TenantChannel, Failure> {
    let caller = authenticate(edge, tenant, headers, Scope::Presence)?;
    let channel = Channel::parse(channel)
        .map_err(|error| Failure::new(ErrorCode::BadChannel, error.to_string()))?;
    if !caller.permissions.allows(Action::Presence, &channel) {
        let message = "the api key does not allow asking who is in this channel";
        return Err(Failure::new(ErrorCode::PermissionDenied, message));
    }
    let rules = edge.0.tenants.rules();
    if rules.read(|rules| rules.presence(&caller.tenant, &channel)).is_none() {
        let message = "the channel keeps no presence: no rule of the tenant's says so";
        return Err(Failure::new(ErrorCode::NoPresence, message));
    }
    Ok(TenantChannel::new(caller.tenant, channel))
}
