//! The dependency policy: who may name a vendor, one crypto provider, and which crate may name
//! which of ours.
//!
//! The bans are those of `.deny.toml`, read here so that no one has to install cargo-deny to
//! learn that a pull request breaks them. The rows are those of `docs/architecture.md`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::graph::{Graph, Kinds};
use crate::tree;

/// Our crates by row. A crate may name only crates of lower rows.
const ROWS: [&[&str]; 8] = [
    &["tidewire-model"],
    &["tidewire-session", "tidewire-witness"],
    &["tidewire-hub", "tidewire-broker", "tidewire-store", "tidewire-protocol", "tidewire-auth"],
    &["tidewire-node", "tidewire-transport", "tidewire-tenant"],
    &["tidewire-edge", "tidewire-broker-nats", "tidewire-store-redis", "tidewire-protocol-native"],
    &["tidewire-client"],
    &["tidewire", "loadtest", "tidewire-guard", "tidewire-sim", "tidewire-testkit"],
    &["tidewire-chaos"],
];

/// Crates that decide without waiting, so a runtime below them is a mistake.
const NO_RUNTIME: [&str; 5] = [
    "tidewire-model",
    "tidewire-session",
    "tidewire-protocol",
    "tidewire-protocol-native",
    "tidewire-tenant",
];

/// A crate only its `wrappers` may name; nobody, if there are none.
#[derive(Debug, Eq, PartialEq)]
struct Ban {
    name: String,
    wrappers: Vec<String>,
    reason: String,
}

/// Fails with every breach of the policy in the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let bans = parse_bans(&tree::read(root, ".deny.toml")?)?;
    let everything = Graph::resolve(root, Kinds::All)?;
    let programs = Graph::resolve(root, Kinds::Normal)?;

    let mut breaches = broken_bans(&everything, &bans);
    breaches.extend(wrong_providers(&everything));
    breaches.extend(wrong_directions(&programs));
    breaches.extend(runtimes_below_logic(&programs));
    if !breaches.is_empty() {
        bail!("the dependency policy is broken:\n  {}", breaches.join("\n  "));
    }
    println!("{} bans and {} crates of ours hold", bans.len(), programs.members().len());
    Ok(())
}

fn parse_bans(text: &str) -> Result<Vec<Ban>> {
    let policy: Table = text.parse().context(".deny.toml is not valid TOML")?;
    let entries = policy
        .get("bans")
        .and_then(|bans| bans.get("deny"))
        .and_then(Value::as_array)
        .context(".deny.toml has no list `bans.deny`")?;
    entries.iter().map(parse_ban).collect()
}

fn parse_ban(entry: &Value) -> Result<Ban> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str);
    let name = text("crate").context("an entry of `bans.deny` has no `crate`")?;
    let wrappers = entry.get("wrappers").and_then(Value::as_array);
    Ok(Ban {
        name: name.to_owned(),
        wrappers: wrappers
            .into_iter()
            .flatten()
            .filter_map(|wrapper| wrapper.as_str().map(str::to_owned))
            .collect(),
        reason: text("reason").unwrap_or("banned").to_owned(),
    })
}

fn broken_bans(graph: &Graph, bans: &[Ban]) -> Vec<String> {
    let mut breaches = Vec::new();
    for Ban { name, wrappers, reason } in bans.iter().filter(|ban| graph.contains(&ban.name)) {
        for dependent in graph.dependents_of(name) {
            if !wrappers.iter().any(|wrapper| wrapper == dependent) {
                breaches.push(format!("{dependent} depends on {name}: {reason}"));
            }
        }
    }
    breaches
}

/// rustls with another provider than aws-lc-rs, or with none to start from.
fn wrong_providers(graph: &Graph) -> Vec<String> {
    if !graph.contains("rustls") {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    if graph.has_feature("rustls", "ring") {
        breaches.push("rustls has the feature `ring`: aws-lc-rs is the one provider".to_owned());
    }
    if !graph.has_feature("rustls", "aws_lc_rs") && !graph.has_feature("rustls", "aws-lc-rs") {
        breaches.push("rustls has no crypto provider: enable `aws-lc-rs`".to_owned());
    }
    breaches
}

fn wrong_directions(graph: &Graph) -> Vec<String> {
    let mut breaches = Vec::new();
    for member in graph.members().iter().filter(|member| *member != "xtask") {
        let Some(row) = row_of(member) else {
            breaches.push(format!("{member} has no row: give it one in xtask's dependencies.rs"));
            continue;
        };
        for dependency in graph.dependencies_of(member) {
            if let Some(below) = row_of(dependency).filter(|below| *below >= row) {
                breaches.push(format!(
                    "{member} (row {row}) depends on {dependency} (row {below}): only lower rows"
                ));
            }
        }
    }
    breaches
}

fn runtimes_below_logic(graph: &Graph) -> Vec<String> {
    NO_RUNTIME
        .iter()
        .filter(|name| graph.reaches(name, "tokio"))
        .map(|name| format!("{name} has tokio below it: logic depends on no runtime"))
        .collect()
}

fn row_of(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_keeps_the_policy() {
        check(&tree::root()).unwrap();
    }

    #[test]
    fn aws_lc_rs_is_the_one_crypto_provider_of_this_workspace() {
        let graph = Graph::resolve(&tree::root(), Kinds::All).unwrap();

        assert!(graph.contains("aws-lc-rs"));
        assert!(!graph.contains("ring"));
    }

    #[test]
    fn ring_anywhere_in_the_tree_is_a_breach() {
        let graph = graph("0|app v1.0.0|\n1|rustls v0.23.0|aws_lc_rs\n2|ring v0.17.14|alloc\n");

        let breaches = broken_bans(&graph, &our_bans());

        assert_eq!(breaches, ["rustls depends on ring: aws-lc-rs is the one crypto provider"]);
    }

    #[test]
    fn a_vendor_is_a_breach_outside_its_wrapper_and_none_inside() {
        let graph = graph(
            "0|tidewire-store-redis v0.1.0|\n1|redis v1.8.1|\n0|tidewire-edge v0.1.0|\n1|redis v1.8.1|\n",
        );

        let breaches = broken_bans(&graph, &our_bans());

        assert_eq!(
            breaches,
            ["tidewire-edge depends on redis: the rest of the house knows the store ports"]
        );
    }

    #[test]
    fn every_vendor_of_the_house_has_a_wrapper() {
        let bans = our_bans();

        for vendor in ["async-nats", "redis", "fastwebsockets"] {
            let ban = bans.iter().find(|ban| ban.name == vendor).unwrap();
            assert_eq!(ban.wrappers.len(), 1, "{vendor}");
        }
    }

    #[test]
    fn rustls_with_ring_or_with_no_provider_is_a_breach() {
        let ring = graph("0|app v1.0.0|\n1|rustls v0.23.0|aws_lc_rs,ring\n");
        let none = graph("0|app v1.0.0|\n1|rustls v0.23.0|std\n");
        let ours = graph("0|app v1.0.0|\n1|rustls v0.23.0|aws_lc_rs,std\n");

        assert_eq!(wrong_providers(&ring).len(), 1);
        assert_eq!(wrong_providers(&none).len(), 1);
        assert_eq!(wrong_providers(&ours), [""; 0]);
    }

    #[test]
    fn an_inner_crate_may_not_name_an_outer_one_nor_its_neighbour() {
        let graph = graph(
            "0|tidewire-hub v0.1.0|\n1|tidewire-node v0.1.0|\n1|tidewire-broker v0.1.0|\n1|tidewire-model v0.1.0|\n",
        );

        assert_eq!(
            wrong_directions(&graph),
            [
                "tidewire-hub (row 2) depends on tidewire-broker (row 2): only lower rows",
                "tidewire-hub (row 2) depends on tidewire-node (row 3): only lower rows",
            ]
        );
    }

    #[test]
    fn a_crate_without_a_row_is_a_breach() {
        assert_eq!(wrong_directions(&graph("0|tidewire-extra v0.1.0|\n")).len(), 1);
    }

    #[test]
    fn a_runtime_below_the_session_is_a_breach_however_deep() {
        let graph = graph("0|tidewire-session v0.1.0|\n1|middle v1.0.0|\n2|tokio v1.54.0|\n");

        assert_eq!(runtimes_below_logic(&graph).len(), 1);
    }

    fn graph(text: &str) -> Graph {
        Graph::parse(text).unwrap()
    }

    fn our_bans() -> Vec<Ban> {
        parse_bans(&tree::read(&tree::root(), ".deny.toml").unwrap()).unwrap()
    }
}
