//! Every test that docs/guarantees.md and docs/proof.md name, held against the file they link it to.

use super::source::Source;
use crate::tree;

/// What stands between a test's name and its file in a link.
const BETWEEN: &str = "`](../";

/// Names what is linked and is not there. At least one link is expected of `document`.
pub(super) fn check(sources: &[Source], document: &str, text: &str) -> Vec<String> {
    let mut untidy = Vec::new();
    let mut links = 0;
    for (index, line) in text.lines().enumerate() {
        for (name, path) in links_of(line) {
            links += 1;
            let holds = |source: &&Source| {
                source.path == path && source.code.contains(&format!("fn {name}("))
            };
            if !sources.iter().any(|source| holds(&source)) {
                untidy.push(format!("{document}:{}: no test {name} in {path}", index + 1));
            }
        }
    }
    if links == 0 {
        untidy.push(format!("{document}: names no test"));
    }
    untidy
}

/// The tests of one line and their files.
fn links_of(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.match_indices(BETWEEN).filter_map(move |(at, _)| {
        let name = line[..at].rsplit_once("[`")?.1;
        let path = line[at + BETWEEN.len()..].split_once(')')?.0;
        tree::has_extension(path, "rs").then_some((name, path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "held by [`it_holds`](../crates/a/tests/it/a.rs)";

    #[test]
    fn a_test_that_is_there_is_tidy() {
        let source = source("crates/a/tests/it/a.rs", "#[test]\nfn it_holds() {}");

        assert_eq!(check(&[source], "g.md", LINK), [""; 0]);
    }

    #[test]
    fn a_test_that_was_renamed_or_moved_is_untidy() {
        let renamed = source("crates/a/tests/it/a.rs", "fn it_held() {}");
        let moved = source("crates/a/tests/it/b.rs", "fn it_holds() {}");

        assert_eq!(
            check(&[renamed, moved], "g.md", LINK),
            ["g.md:1: no test it_holds in crates/a/tests/it/a.rs"]
        );
    }

    #[test]
    fn a_document_that_names_no_test_is_untidy() {
        let text = "[`code`](../docs/x.md) and [words](../crates/a/tests/it/a.rs)";

        assert_eq!(check(&[], "g.md", text), ["g.md: names no test"]);
    }

    fn source(path: &str, code: &str) -> Source {
        Source::new(path, code.to_owned())
    }
}
