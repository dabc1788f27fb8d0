//! The part of docs/conformance.md that the suite decides.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::python::Python;
use super::verdict::{BEHAVIORS, Tally, Verdict};

/// Between these two lines the document is ours; around them it is written by hand.
const BEGIN: &str = "<!-- written by `cargo xtask conformance` -->\n";
const END: &str = "<!-- end of what it wrote -->\n";

/// The suite's chapters: number and title.
const CHAPTERS: [(u32, &str); 11] = [
    (1, "Framing"),
    (2, "Pings and pongs"),
    (3, "Reserved bits"),
    (4, "Opcodes"),
    (5, "Fragmentation"),
    (6, "UTF-8"),
    (7, "Closing"),
    (9, "Limits"),
    (10, "Automatic fragmentation"),
    (12, "Compression, different payloads"),
    (13, "Compression, different parameters"),
];

/// Writes the `verdicts` into `text`, the document as it is, and that to `path`.
pub(super) fn write(path: &Path, text: &str, python: &Python, verdicts: &[Verdict]) -> Result<()> {
    let text = replace(text, &section(&python.versions(), verdicts))?;
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

fn replace(text: &str, section: &str) -> Result<String> {
    let marked = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some(format!("{before}{BEGIN}\n{section}\n{END}{after}"))
    });
    marked.context("docs/conformance.md has lost the lines between which the verdicts stand")
}

fn section(versions: &str, verdicts: &[Verdict]) -> String {
    let mut section = format!("With {versions}.\n\n");
    let columns = BEHAVIORS.join(" | ");
    let _ = writeln!(section, "| Chapter | Cases | {columns} |");
    let _ = writeln!(section, "|---|--:|{}", "--:|".repeat(BEHAVIORS.len()));
    for (number, title) in CHAPTERS {
        let chapter: Vec<_> = verdicts.iter().filter(|it| it.chapter() == number).collect();
        section.push_str(&row(&format!("{number} {title}"), &chapter));
    }
    section.push_str(&row("All", &verdicts.iter().collect::<Vec<_>>()));

    section.push_str("\nEvery case that is not plainly OK:\n\n");
    section.push_str("| Case | Verdict | Closing | What the suite saw |\n|---|---|---|---|\n");
    for verdict in verdicts.iter().filter(|verdict| !verdict.is_ok()) {
        let Verdict { behavior, closing, reason, .. } = verdict;
        let _ = writeln!(section, "| {} | {behavior} | {closing} | {reason} |", verdict.dotted());
    }
    section
}

fn row(title: &str, verdicts: &[&Verdict]) -> String {
    let tally = Tally::of(verdicts.iter().copied());
    let counts = BEHAVIORS.map(|behavior| tally.count(behavior).to_string());
    format!("| {title} | {} | {} |\n", verdicts.len(), counts.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");

        let replaced = replace(&text, "new").unwrap();

        assert_eq!(replaced, format!("before\n{BEGIN}\nnew\n{END}after\n"));
        assert_eq!(replace(&replaced, "new").unwrap(), replaced);
        assert!(replace("no marks", "new").is_err());
    }

    #[test]
    fn a_case_that_is_not_ok_is_named_with_its_reason() {
        let verdict = |number: &[u32], behavior: &str| Verdict {
            number: number.to_vec(),
            behavior: behavior.to_owned(),
            closing: "OK".to_owned(),
            reason: "seen".to_owned(),
        };

        let section =
            section("it", &[verdict(&[6, 4, 1], "NON-STRICT"), verdict(&[6, 4, 2], "OK")]);

        assert!(section.contains("| 6 UTF-8 | 2 | 1 | 1 | 0 | 0 | 0 |\n"), "{section}");
        assert!(section.contains("| 6.4.1 | NON-STRICT | OK | seen |\n"), "{section}");
        assert!(!section.contains("6.4.2"), "{section}");
    }
}
