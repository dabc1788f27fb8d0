//! What a file is called, how long it is, and how it opens.

use super::source::Source;

/// Lines a file may have without its tests. A file is a concept; past this it is two.
const MAX_LINES: usize = 400;

/// Files that may be longer, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// Names that say nothing about what is inside.
pub(super) const EMPTY_NAMES: [&str; 10] = [
    "common", "helper", "helpers", "manager", "managers", "misc", "tools", "types", "util", "utils",
];

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut untidy = Vec::new();
    for source in sources {
        untidy.extend(undocumented_root(source));
        untidy.extend(too_long(source));
        untidy.extend(empty_name(source));
        untidy.extend(ignored_tests(source));
        untidy.extend(bare_allows(source));
    }
    untidy
}

fn undocumented_root(source: &Source) -> Option<String> {
    let is_root = ["/src/lib.rs", "/src/main.rs"].iter().any(|root| source.path.ends_with(root))
        || source.path.contains("/src/bin/");
    (is_root && !source.text.starts_with("//!"))
        .then(|| format!("{}: a crate root opens with `//!`: what it is", source.path))
}

fn too_long(source: &Source) -> Option<String> {
    let is_allowed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
    let is_long = source.product_lines > MAX_LINES;
    match (is_long, is_allowed) {
        (true, false) => Some(format!(
            "{}: {} lines without tests, {MAX_LINES} is the most: it is two concepts",
            source.path, source.product_lines
        )),
        (false, true) => {
            Some(format!("{}: no longer long: take it off xtask's LONG_FILES", source.path))
        }
        _ => None,
    }
}

fn empty_name(source: &Source) -> Option<String> {
    let inside = source.path.split_once("/src/").map_or(source.path.as_str(), |(_, inside)| inside);
    inside
        .split('/')
        .map(|part| part.strip_suffix(".rs").unwrap_or(part))
        .find(|name| EMPTY_NAMES.contains(name))
        .map(|name| format!("{}: `{name}` names no concept", source.path))
}

fn ignored_tests(source: &Source) -> Vec<String> {
    places(source, "#[ignore", "no test is ignored: assert what happens today")
}

fn bare_allows(source: &Source) -> Vec<String> {
    let why = "`#[expect(…, reason = \"…\")]` says when it is no longer needed";
    let mut untidy = places(source, "#[allow(", why);
    untidy.extend(places(source, "#![allow(", why));
    untidy
}

fn places(source: &Source, pattern: &str, why: &str) -> Vec<String> {
    source
        .code
        .match_indices(pattern)
        .map(|(at, _)| format!("{}: {why}", source.place(at)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_root_without_a_word_about_itself_is_untidy() {
        assert_eq!(untidy("crates/x/src/lib.rs", "pub fn a() {}\n").len(), 1);
        assert_eq!(untidy("crates/x/src/lib.rs", "//! What.\n"), [""; 0]);
        assert_eq!(untidy("crates/x/src/other.rs", "pub fn a() {}\n"), [""; 0]);
    }

    #[test]
    fn length_counts_without_tests() {
        let long = "fn a() {}\n".repeat(MAX_LINES);
        let tests = "#[cfg(test)]\nmod tests {\n}\n";

        assert_eq!(untidy("crates/x/src/a.rs", &format!("{long}{tests}")), [""; 0]);
        assert_eq!(untidy("crates/x/src/a.rs", &format!("{long}fn b() {{}}\n")).len(), 1);
        assert_eq!(untidy("crates/x/tests/it/a.rs", &long.repeat(2)), [""; 0]);
    }

    #[test]
    fn files_and_folders_with_empty_names_are_untidy() {
        for path in ["crates/x/src/utils.rs", "crates/x/src/common/mod.rs"] {
            assert_eq!(untidy(path, "").len(), 1, "{path}");
        }
        assert_eq!(untidy("crates/x/src/uncommon.rs", ""), [""; 0]);
    }

    #[test]
    fn ignored_tests_and_bare_allows_are_untidy_in_code_only() {
        let code = "#[ignore]\nfn a() {}\n#![allow(dead_code)]\n#[allow(dead_code)]\n";

        assert_eq!(untidy("crates/x/src/a.rs", code).len(), 3);
        assert_eq!(untidy("crates/x/src/a.rs", "// #[ignore]\n"), [""; 0]);
    }

    fn untidy(path: &str, text: &str) -> Vec<String> {
        check(&[Source::new(path, text.to_owned())])
    }
}
