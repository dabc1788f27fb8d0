//! Where tenants belong: for operators, and for balancers that are to agree.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidewire_model::{NodeId, Tenant};
use tidewire_node::{Homes, Placement, placement};
use tidewire_store::{NodeLease, NodeState};
use tidewire_tenant::{DEFAULT_HOMES, Tenants};

use crate::Edge;

/// Where one tenant belongs, as `GET /placement/{tenant}` says it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TenantPlacement {
    pub tenant: Tenant,
    /// How many homes it should have.
    pub k: usize,
    /// Those it has, best first.
    pub homes: Vec<Placed>,
    /// Every node it might go to, best first: one for each slot.
    pub nodes: Vec<NodeId>,
}

/// A node that a tenant is at home on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Placed {
    pub slot: String,
    pub node: NodeId,
    pub state: NodeState,
    pub weight: u32,
    /// Of all tenants, about a second ago.
    pub connections: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl TenantPlacement {
    pub fn new(tenant: Tenant, placement: &Placement) -> Self {
        let all = placement.homes.iter().chain(&placement.others);
        Self {
            tenant,
            k: placement.k,
            homes: placement.homes.iter().map(Placed::new).collect(),
            nodes: all.map(|lease| lease.node.clone()).collect(),
        }
    }
}

impl Placed {
    fn new(lease: &NodeLease) -> Self {
        Self {
            slot: lease.slot().to_owned(),
            node: lease.node.clone(),
            state: lease.state,
            weight: lease.weight,
            connections: lease.connections,
            url: lease.url.clone(),
        }
    }
}

type Refusal = (StatusCode, String);

fn bad_request(why: impl std::fmt::Display) -> Refusal {
    (StatusCode::BAD_REQUEST, format!("{why}\n"))
}

pub(super) async fn of_one(
    State(edge): State<Edge>,
    Path(tenant): Path<String>,
) -> Result<Json<TenantPlacement>, Refusal> {
    let tenant = Tenant::parse(&tenant).map_err(bad_request)?;
    let homes = edge.0.tenants.homes(&tenant);
    let placed = placement(&tenant, &edge.0.node.members(), homes);
    Ok(Json(TenantPlacement::new(tenant, &placed)))
}

#[derive(Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    format: Format,
    /// What follows a slot in the address of its node, for nginx.
    suffix: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    /// A map of the tenants that have another number of homes than most.
    Haproxy,
    /// A map of tenants to upstreams, and these.
    Nginx,
}

const ORDINARY_SUFFIX: &str = ":8000";
const LONGEST_SUFFIX: usize = 255;
/// Tenants placed at once, before others have their turn: less than a millisecond for 100 nodes.
const SLICE: usize = 256;

/// All tenants that are known, in the order of their names.
pub(super) async fn of_all(
    State(edge): State<Edge>,
    Query(wish): Query<Wish>,
) -> Result<Response, Refusal> {
    let suffix = wish.suffix.as_deref().unwrap_or(ORDINARY_SUFFIX);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if suffix.len() > LONGEST_SUFFIX || !suffix.bytes().all(allowed) {
        return Err(bad_request(
            "a suffix has 255 characters of a-z, A-Z, 0-9, `.`, `_`, `:`, `-`",
        ));
    }
    let tenants = &edge.0.tenants;
    let mut names: Vec<_> = tenants.ring().load().tenants().cloned().collect();
    names.sort();
    let homes = Homes::among(&edge.0.node.members());
    let document = Document::new(wish.format, suffix, (tenants.clone(), homes));
    let kind = match wish.format {
        Format::Json => "application/json",
        Format::Haproxy | Format::Nginx => "text/plain; charset=utf-8",
    };
    Ok(([(header::CONTENT_TYPE, kind)], stream_out(document, names)).into_response())
}

/// A slice at a time, as fast as it is read.
fn stream_out(document: Document, names: Vec<Tenant>) -> Body {
    let names: Arc<[Tenant]> = names.into();
    let state = (document, names, 0, false);
    let slices = stream::unfold(state, |(mut document, names, at, is_done)| async move {
        if is_done {
            return None;
        }
        tokio::task::yield_now().await;
        let end = names.len().min(at + SLICE);
        let mut text = if at == 0 { document.head() } else { String::new() };
        for (index, tenant) in (at..end).zip(&names[at..end]) {
            document.line(index == 0, tenant, &mut text);
        }
        let is_done = end == names.len();
        if is_done {
            text.push_str(&document.tail());
        }
        Some((Bytes::from(text), (document, names, end, is_done)))
    });
    Body::from_stream(slices.map(Ok::<_, Infallible>))
}

/// What is said of all tenants, one after the other.
struct Document {
    format: Format,
    suffix: String,
    tenants: Tenants,
    homes: Homes,
    /// The upstreams that were needed so far, each for the nodes at which some tenant is at home.
    upstreams: BTreeMap<Vec<String>, usize>,
}

impl Document {
    fn new(format: Format, suffix: &str, (tenants, homes): (Tenants, Homes)) -> Self {
        Self { format, suffix: suffix.to_owned(), tenants, homes, upstreams: BTreeMap::new() }
    }

    fn head(&self) -> String {
        match self.format {
            Format::Json => "[".into(),
            Format::Haproxy => format!("# Homes of tenants that have not {DEFAULT_HOMES}.\n"),
            Format::Nginx => "# From GET /placement?format=nginx, as nodes were then.\n\
                              map $tidewire_tenant $tidewire_home {\n    \
                              default tidewire_any;\n"
                .into(),
        }
    }

    fn line(&mut self, is_first: bool, tenant: &Tenant, text: &mut String) {
        let k = self.tenants.homes(tenant);
        let slots = self.homes.of(tenant, k).map(|lease| lease.slot().to_owned());
        // Writing to a string cannot fail.
        let _ = match self.format {
            Format::Json => {
                let homes: Vec<_> = slots.collect();
                let comma = if is_first { "" } else { "," };
                writeln!(text, "{comma}{}", json!({ "tenant": tenant, "k": k, "homes": homes }))
            }
            Format::Haproxy if k == DEFAULT_HOMES => Ok(()),
            Format::Haproxy => writeln!(text, "{tenant} {k}"),
            Format::Nginx => {
                // In the order of names: which of its homes is the best does not matter to a group.
                let mut slots: Vec<_> = slots.collect();
                slots.sort();
                if slots.is_empty() {
                    return;
                }
                let next = self.upstreams.len();
                let upstream = self.upstreams.entry(slots).or_insert(next);
                writeln!(text, "    {tenant} tidewire_{upstream};")
            }
        };
    }

    fn tail(&self) -> String {
        match self.format {
            Format::Json => "]\n".into(),
            Format::Haproxy => String::new(),
            Format::Nginx => {
                let mut text = "}\n".to_owned();
                let mut upstreams: Vec<_> = self.upstreams.iter().collect();
                upstreams.sort_by_key(|(_, number)| **number);
                for (slots, number) in upstreams {
                    let _ = writeln!(text, "upstream tidewire_{number} {{\n    least_conn;");
                    for slot in slots {
                        let _ = writeln!(text, "    server {slot}{};", self.suffix);
                    }
                    text.push_str("}\n");
                }
                text
            }
        }
    }
}
