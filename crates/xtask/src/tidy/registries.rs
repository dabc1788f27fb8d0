//! Lock files name the public registries only: a build must not depend on whose mirror the
//! person who wrote the lock file used.

use std::path::Path;

use anyhow::Result;

use crate::tree;

const PUBLIC: [&str; 3] = ["github.com", "registry.npmjs.org", "index.crates.io"];

/// Files that tell a package client where to fetch.
const NAMES: [&str; 6] =
    ["Cargo.lock", "package-lock.json", ".npmrc", "pip.conf", "requirements.txt", "config.toml"];

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut untidy = Vec::new();
    for path in files.iter().filter(|path| is_fetched_from(path)) {
        untidy.extend(private_hosts(path, &tree::read(root, path)?));
    }
    Ok(untidy)
}

fn is_fetched_from(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    NAMES.contains(&name) && (name != "config.toml" || path.starts_with(".cargo/"))
}

fn private_hosts(path: &str, text: &str) -> Vec<String> {
    text.lines()
        .enumerate()
        // npm also notes where a package asks for donations.
        .filter(|(_, line)| !path.ends_with("package-lock.json") || line.contains("\"resolved\""))
        .filter_map(|(at, line)| Some((at + 1, host(line)?)))
        .filter(|(_, host)| !PUBLIC.contains(host))
        .map(|(at, _)| format!("{path}:{at}: names a registry that is not the public one"))
        .collect()
}

fn host(line: &str) -> Option<&str> {
    let (_, address) = line.split_once("://")?;
    let end = address.find(|one: char| !one.is_ascii_alphanumeric() && one != '.' && one != '-');
    Some(&address[..end.unwrap_or(address.len())])
}

#[cfg(test)]
mod tests {
    use super::private_hosts;

    #[test]
    fn the_public_registries_are_tidy() {
        let cargo = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        let npm = "\"resolved\": \"https://registry.npmjs.org/ws/-/ws-8.0.0.tgz\",";

        assert_eq!(private_hosts("Cargo.lock", cargo), [""; 0]);
        assert_eq!(private_hosts("a/package-lock.json", npm), [""; 0]);
    }

    #[test]
    fn another_host_is_untidy_and_is_not_repeated() {
        let npm = "\"resolved\": \"https://mirror.example:8443/ws.tgz\",";

        let untidy = private_hosts("a/package-lock.json", npm);

        assert_eq!(untidy, ["a/package-lock.json:1: names a registry that is not the public one"]);
        assert_eq!(
            private_hosts("requirements.txt", "--index-url http://mirror.example/").len(),
            1
        );
    }

    #[test]
    fn addresses_that_nothing_is_fetched_from_are_tidy() {
        let npm = "\"url\": \"https://donations.example/ws\"";

        assert_eq!(private_hosts("a/package-lock.json", npm), [""; 0]);
    }
}
