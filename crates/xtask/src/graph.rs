//! Who depends on whom, as `cargo tree` resolves it.
//!
//! `cargo metadata` would list optional dependencies that no enabled feature asks for, `ring`
//! below `rustls-webpki` for one, so the policy reads `cargo tree` instead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::process;

/// Which dependencies to follow.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kinds {
    /// What ends up in a program.
    Normal,
    /// What any build or test of ours compiles.
    All,
}

/// The dependencies of the workspace, by package name, for every target and feature of ours.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    dependencies: BTreeMap<String, BTreeSet<String>>,
    features: BTreeMap<String, BTreeSet<String>>,
    members: BTreeSet<String>,
}

impl Graph {
    /// Asks cargo for the graph of the workspace at `root`.
    pub(crate) fn resolve(root: &Path, kinds: Kinds) -> Result<Self> {
        let edges = match kinds {
            Kinds::Normal => "normal",
            Kinds::All => "normal,build,dev",
        };
        let text = process::read(process::cargo(root).args([
            "tree",
            "--workspace",
            "--all-features",
            "--target=all",
            "--prefix=depth",
            "--format=|{p}|{f}",
            "--edges",
            edges,
        ]))?;
        Self::parse(&text)
    }

    /// Reads lines of `<depth>|<name> v<version>…|<features>`, a package below its parent.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut graph = Self::default();
        let mut ancestors: Vec<String> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (depth, name, features) =
                entry(line).with_context(|| format!("cargo tree wrote `{line}`"))?;
            ensure!(depth <= ancestors.len(), "cargo tree wrote `{line}` below nothing");
            ancestors.truncate(depth);
            match ancestors.last() {
                Some(parent) => graph.link(parent.clone(), name),
                None => _ = graph.members.insert(name.to_owned()),
            }
            let known = graph.features.entry(name.to_owned()).or_default();
            known.extend(features.split(',').filter(|one| !one.is_empty()).map(str::to_owned));
            ancestors.push(name.to_owned());
        }
        Ok(graph)
    }

    /// The crates of this workspace.
    pub(crate) fn members(&self) -> &BTreeSet<String> {
        &self.members
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.features.contains_key(name)
    }

    pub(crate) fn has_feature(&self, name: &str, feature: &str) -> bool {
        self.features.get(name).is_some_and(|features| features.contains(feature))
    }

    /// What `name` depends on directly.
    pub(crate) fn dependencies_of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.dependencies.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Who depends on `name` directly.
    pub(crate) fn dependents_of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.dependencies
            .iter()
            .filter(move |(_, dependencies)| dependencies.contains(name))
            .map(|(dependent, _)| dependent.as_str())
    }

    /// Whether `target` is anywhere below `name`.
    pub(crate) fn reaches(&self, name: &str, target: &str) -> bool {
        let mut seen = BTreeSet::from([name]);
        let mut waiting = vec![name];
        while let Some(current) = waiting.pop() {
            for dependency in self.dependencies_of(current) {
                if dependency == target {
                    return true;
                }
                if seen.insert(dependency) {
                    waiting.push(dependency);
                }
            }
        }
        false
    }

    fn link(&mut self, parent: String, child: &str) {
        self.dependencies.entry(parent).or_default().insert(child.to_owned());
    }
}

/// Depth, name and features of one line.
fn entry(line: &str) -> Option<(usize, &str, &str)> {
    let mut columns = line.trim_end().splitn(3, '|');
    let depth = columns.next()?.parse().ok()?;
    let name = columns.next()?.split_whitespace().next()?;
    let features = columns.next()?;
    // `(*)` marks a package whose own dependencies were listed before.
    Some((depth, name, features.strip_suffix("(*)").unwrap_or(features).trim()))
}

#[cfg(test)]
mod tests {
    use super::Graph;

    const TREE: &str = "\
0|app v0.1.0 (/somewhere/app)|
1|rustls v0.23.46|std,tls12
2|webpki v0.103.9|alloc
1|serde_derive v1.0.0 (proc-macro)|default

0|library v0.1.0 (/somewhere/library)|
1|rustls v0.23.46|std,tls12 (*)
";

    #[test]
    fn a_package_listed_once_is_still_below_everyone_who_names_it() {
        let graph = Graph::parse(TREE).unwrap();

        assert!(graph.reaches("library", "webpki"));
        assert!(graph.reaches("app", "webpki"));
        assert!(!graph.reaches("library", "serde_derive"));
    }

    #[test]
    fn members_dependents_and_features_are_read() {
        let graph = Graph::parse(TREE).unwrap();

        assert_eq!(graph.members().iter().collect::<Vec<_>>(), ["app", "library"]);
        assert_eq!(graph.dependents_of("rustls").collect::<Vec<_>>(), ["app", "library"]);
        assert!(graph.has_feature("rustls", "tls12"));
        assert!(!graph.has_feature("rustls", "ring"));
    }

    #[test]
    fn a_line_that_is_not_of_the_asked_form_is_an_error() {
        assert!(Graph::parse("app v0.1.0").is_err());
        assert!(Graph::parse("3|app v0.1.0|").is_err());
    }
}
