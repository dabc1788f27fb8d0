//! Every place that starts a task or a thread, held against the list in docs/architecture.md,
//! where each says who waits for it.

use std::collections::BTreeMap;

use super::source::Source;

/// What starts something that runs beside its caller.
const SPAWNS: [&str; 6] = [
    ".spawn(",
    ".spawn_on(",
    ".spawn_local(",
    ".spawn_blocking(",
    "::spawn_blocking(",
    "thread::spawn(",
];

const SECTION: &str = "Spawn sites";

pub(super) fn check(sources: &[Source], architecture: &str) -> Vec<String> {
    let Some(listed) = listed(architecture) else {
        return vec![format!(
            "docs/architecture.md: no section \"{SECTION}\" with a fenced block of `path count` lines"
        )];
    };
    let found = found(sources);
    let mut untidy = Vec::new();
    for (path, count) in &found {
        match listed.get(path.as_str()) {
            Some(said) if said == count => {}
            Some(said) => untidy.push(format!("{path}: {count} spawn sites, {said} listed")),
            None => untidy
                .push(format!("{path}: {count} spawn sites, none listed in docs/architecture.md")),
        }
    }
    for path in listed.keys().filter(|path| !found.contains_key(**path)) {
        untidy.push(format!("docs/architecture.md: lists spawn sites in {path}, which has none"));
    }
    untidy
}

/// Sites by file. xtask is left out: what it starts are programs, and it waits for each.
fn found(sources: &[Source]) -> BTreeMap<String, usize> {
    sources
        .iter()
        .filter(|source| source.package() != "xtask")
        .map(|source| {
            let count = SPAWNS.iter().map(|call| source.product.matches(call).count()).sum();
            (source.path.clone(), count)
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The `path count` lines of the first fenced block of the section; none if it is missing.
fn listed(architecture: &str) -> Option<BTreeMap<&str, usize>> {
    let mut lines = architecture.lines();
    lines.find(|line| line.starts_with('#') && line.contains(SECTION))?;
    lines
        .by_ref()
        .take_while(|line| !line.starts_with('#'))
        .find(|line| line.starts_with("```"))?;
    lines
        .take_while(|line| !line.starts_with("```"))
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# House\n## Spawn sites\nWho waits.\n```text\ncrates/a/src/a.rs 2\n```\n";

    #[test]
    fn a_list_that_agrees_is_tidy() {
        let source = source("crates/a/src/a.rs", "t.spawn(x); t.spawn_on(x, h);");

        assert_eq!(check(&[source], LIST), [""; 0]);
    }

    #[test]
    fn another_count_a_missing_and_a_stale_entry_are_untidy() {
        let more = source("crates/a/src/a.rs", "t.spawn(x); t.spawn(x); t.spawn(x);");
        let unlisted = source("crates/a/src/b.rs", "std::thread::spawn(x);");

        assert_eq!(check(&[more, unlisted], LIST).len(), 2);
        assert_eq!(check(&[], LIST).len(), 1);
    }

    #[test]
    fn tests_and_text_start_nothing() {
        let text = "// t.spawn(x)\n#[cfg(test)]\nmod tests { fn a() { t.spawn(x); } }\n";

        assert!(found(&[source("crates/a/src/c.rs", text)]).is_empty());
    }

    #[test]
    fn a_document_without_the_list_is_untidy_even_when_nothing_spawns() {
        for text in ["# House\n", "## Spawn sites\nNone.\n## Next\n```\na 1\n```\n"] {
            assert_eq!(check(&[], text).len(), 1);
        }
    }

    fn source(path: &str, code: &str) -> Source {
        Source::new(path, code.to_owned())
    }
}
