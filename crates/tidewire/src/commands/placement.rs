use std::collections::HashSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use http::Method;
use tidewire_edge::TenantPlacement;
use tidewire_model::{NodeId, Tenant};
use tidewire_node::placement;
use tidewire_store::{NodeLease, NodeLoad, NodeState};
use tidewire_transport::http::request;

use crate::cli::{Placement, Weighted};
use crate::output;

/// Exit code 1 if a tenant has no home, because no node takes clients.
pub(crate) fn run(wish: &Placement) -> anyhow::Result<ExitCode> {
    let placements =
        if wish.slots.is_empty() { super::runtime()?.block_on(ask(wish))? } else { compute(wish)? };
    for placed in &placements {
        let line = if wish.json { serde_json::to_string(placed)? + "\n" } else { describe(placed) };
        output::data(&line)?;
    }
    let has_homes = placements.iter().all(|placed| !placed.homes.is_empty());
    Ok(if has_homes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(wish: &Placement) -> anyhow::Result<Vec<TenantPlacement>> {
    let mut placements = Vec::new();
    for tenant in &wish.tenants {
        let url = format!("{}/placement/{tenant}", wish.url.trim_end_matches('/'));
        let answer = request(Method::GET, &url, &[], "").await?;
        if !answer.status.is_success() {
            bail!("{url} answered {}", answer.status);
        }
        let placed = serde_json::from_slice(&answer.body);
        placements.push(placed.with_context(|| format!("{url} is no operators' listener"))?);
    }
    Ok(placements)
}

fn compute(wish: &Placement) -> anyhow::Result<Vec<TenantPlacement>> {
    let members = wish.slots.iter().map(lease).collect::<anyhow::Result<Vec<_>>>()?;
    let names: HashSet<_> = members.iter().map(|lease| &lease.node).collect();
    if names.len() < members.len() {
        bail!("a slot is named twice in `--slots`");
    }
    let place = |tenant: &Tenant| {
        let placed = placement(tenant, &members, usize::from(wish.homes));
        TenantPlacement::new(tenant.clone(), &placed)
    };
    Ok(wish.tenants.iter().map(place).collect())
}

/// As if a node had the slot.
fn lease(Weighted { slot, weight }: &Weighted) -> anyhow::Result<NodeLease> {
    Ok(NodeLease {
        node: NodeId::parse(slot.as_str())?,
        slot: Some(slot.clone()),
        state: NodeState::Ready,
        weight: *weight,
        connections: 0,
        started_at_ms: 0,
        beats: false,
        load: NodeLoad::default(),
        url: None,
    })
}

fn describe(placed: &TenantPlacement) -> String {
    let TenantPlacement { tenant, k, homes, nodes } = placed;
    let mut text = match homes.len() {
        0 => format!("{tenant}: no node takes clients\n"),
        count => format!("{tenant}: at home on {count} of {} nodes\n", nodes.len()),
    };
    for home in homes {
        let connections = home.connections;
        // Writing to a string cannot fail.
        let _ = write!(text, "  {}", home.slot);
        if home.slot != home.node.as_str() {
            let _ = write!(text, " ({})", home.node);
        }
        let _ = writeln!(text, ", weight {}, {connections} connections", home.weight);
    }
    if homes.len() < *k && !homes.is_empty() {
        let _ = writeln!(text, "  it should have {k}");
    }
    text
}
