//! Files that package clients read name no registry: where to fetch from is the business of whoever
//! builds.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::tree;

/// Files that tell a package client where to fetch.
const NAMES: [&str; 6] =
    ["Cargo.lock", "package-lock.json", ".npmrc", "pip.conf", "requirements.txt", "config.toml"];

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut untidy = Vec::new();
    for path in files.iter().filter(|path| is_fetched_from(path)) {
        untidy.extend(judge(path, &tree::read(root, path)?));
    }
    Ok(untidy)
}

fn is_fetched_from(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    NAMES.contains(&name) && (name != "config.toml" || path.starts_with(".cargo/"))
}

fn judge(path: &str, text: &str) -> Vec<String> {
    if path.ends_with("Cargo.lock") {
        return several_sources(path, text).into_iter().collect();
    }
    text.lines()
        .enumerate()
        // npm also notes where a package asks for donations.
        .filter(|(_, line)| !path.ends_with("package-lock.json") || line.contains("\"resolved\""))
        .filter(|(_, line)| line.contains("://"))
        .map(|(at, _)| format!("{path}:{}: names where to fetch from", at + 1))
        .collect()
}

/// Cargo writes the name of its default registry whatever mirror it used, so a second one is
/// somebody's own.
fn several_sources(path: &str, text: &str) -> Option<String> {
    let sources: BTreeSet<_> = text.lines().filter(|line| line.starts_with("source = ")).collect();
    (sources.len() > 1).then(|| format!("{path}: packages come from {} sources", sources.len()))
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn one_source_for_all_crates_is_tidy() {
        let one = "source = \"registry+https://index.example\"\n".repeat(2);

        assert_eq!(judge("Cargo.lock", &one), [""; 0]);
        assert_eq!(
            judge("Cargo.lock", &(one + "source = \"registry+https://mirror.example\"\n")),
            ["Cargo.lock: packages come from 2 sources"]
        );
    }

    #[test]
    fn an_address_to_fetch_from_is_untidy_and_is_not_repeated() {
        let npm = "\"resolved\": \"https://mirror.example:8443/ws.tgz\",";

        assert_eq!(
            judge("a/package-lock.json", npm),
            ["a/package-lock.json:1: names where to fetch from"]
        );
        assert_eq!(judge("requirements.txt", "--index-url http://mirror.example/").len(), 1);
    }

    #[test]
    fn addresses_that_nothing_is_fetched_from_are_tidy() {
        let npm = "\"url\": \"https://donations.example/ws\"";

        assert_eq!(judge("a/package-lock.json", npm), [""; 0]);
    }
}
