//! The table, for a terminal and for docs/benchmarks.md.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::goal::Row;
use crate::tree;

const DOCUMENT: &str = "docs/benchmarks.md";
/// What lies between these is this command's; the rest of the document is not.
const BEGIN: &str = "<!-- begin: written by `cargo xtask bench` -->";
const END: &str = "<!-- end -->";
const HEADINGS: [&str; 7] = ["Goal", "What", "Ours", "Reference", "Ratio", "Target", "Met"];
const RULE: &str = "|---|---|--:|--:|--:|--:|---|";

/// Columns for reading in a terminal.
pub(super) fn plain(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for cells in &lines {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Puts the table in place of the one in the document.
pub(super) fn write(root: &Path, machine: &str, rows: &[Row]) -> Result<()> {
    let document = tree::read(root, DOCUMENT)?;
    let text = replace(&document, &markdown(machine, rows))
        .with_context(|| format!("{DOCUMENT} has no `{BEGIN}` … `{END}`"))?;
    fs::write(root.join(DOCUMENT), text).with_context(|| format!("could not write {DOCUMENT}"))
}

fn markdown(machine: &str, rows: &[Row]) -> String {
    let headings = HEADINGS.join(" | ");
    let mut lines =
        vec![machine.to_owned(), String::new(), format!("| {headings} |"), RULE.to_owned()];
    lines.extend(
        rows.iter().map(|row| format!("| {} |", row.cells().map(|cell| escape(&cell)).join(" | "))),
    );
    lines.join("\n") + "\n"
}

/// A cell is one line, and a bar would end it.
fn escape(cell: &str) -> String {
    cell.replace('|', "\\|").replace('\n', " ")
}

fn replace(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_written_anew() {
        let document = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nBy hand.\n");

        let once = replace(&document, "| new |\n").unwrap();

        assert_eq!(once, format!("# Title\n\n{BEGIN}\n\n| new |\n\n{END}\n\nBy hand.\n"));
        assert_eq!(replace(&once, "| new |\n").unwrap(), once);
        assert_eq!(replace("no marks", ""), None);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [Row::not_measured("G7", "TLS", "a|b"), Row::not_measured("G13", "x", "y")];

        let text = plain(&rows);
        let lines: Vec<&str> = text.lines().collect();

        assert_eq!(lines[0].find("What"), lines[1].find("TLS"));
        assert!(markdown("machine", &rows).contains("not measured: a\\|b"));
    }
}
