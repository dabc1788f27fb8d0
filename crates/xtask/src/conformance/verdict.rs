//! What the suite thinks of a case.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::suite::AGENT;

/// The suite's words for how a case went, in the order of the document's columns.
pub(super) const BEHAVIORS: [&str; 5] =
    ["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED"];

/// One case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Verdict {
    /// `[6, 4, 1]` of case 6.4.1.
    pub(super) number: Vec<u32>,
    /// One of [`BEHAVIORS`].
    pub(super) behavior: String,
    /// The same of how the connection ended, which has words of its own too.
    pub(super) closing: String,
    /// What the suite says it saw.
    pub(super) reason: String,
}

impl Verdict {
    pub(super) fn is_ok(&self) -> bool {
        self.behavior == "OK" && self.closing == "OK"
    }

    /// Whether the suite sees a breach of the RFC, in the case or in how its connection ended.
    pub(super) fn is_failed(&self) -> bool {
        let is_judged = self.behavior == "OK" || self.behavior == "NON-STRICT";
        self.behavior == "FAILED" || (is_judged && self.closing != "OK")
    }

    pub(super) fn chapter(&self) -> u32 {
        self.number.first().copied().unwrap_or_default()
    }

    /// The number as the suite writes it.
    pub(super) fn dotted(&self) -> String {
        self.number.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { behavior, closing, reason, .. } = self;
        write!(formatter, "{}: {behavior}, closing {closing}: {reason}", self.dotted())
    }
}

/// How many cases went how.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Tally(BTreeMap<String, usize>);

impl Tally {
    pub(super) fn of<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        let mut counts = BTreeMap::new();
        for verdict in verdicts {
            *counts.entry(verdict.behavior.clone()).or_default() += 1;
        }
        Self(counts)
    }

    pub(super) fn count(&self, behavior: &str) -> usize {
        self.0.get(behavior).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = BEHAVIORS.map(|behavior| format!("{behavior} {}", self.count(behavior)));
        formatter.write_str(&counts.join(", "))
    }
}

/// Reads the reports the suite wrote to `folder`.
pub(super) fn read(folder: &Path) -> Result<Vec<Verdict>> {
    let index = parse(&folder.join("index.json"))?;
    let cases = index.get(AGENT).and_then(Value::as_object);
    let cases = cases.with_context(|| format!("{} has no verdict", folder.display()))?;
    cases.iter().map(|(number, case)| read_case(folder, number, case)).collect()
}

fn read_case(folder: &Path, number: &str, case: &Value) -> Result<Verdict> {
    let report = parse(&folder.join(word(case, "reportfile")?))?;
    let (behavior, closing) = (word(case, "behavior")?, word(case, "behaviorClose")?);
    let is_about_closing = behavior == "OK" && closing != "OK";
    let reason = if is_about_closing { "resultClose" } else { "result" };
    Ok(Verdict {
        number: number.split('.').map(str::parse).collect::<Result<_, _>>()?,
        behavior: behavior.to_owned(),
        closing: closing.to_owned(),
        reason: word(&report, reason)?.to_owned(),
    })
}

fn word<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value.get(field).and_then(Value::as_str).with_context(|| format!("a report has no `{field}`"))
}

fn parse(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    // The suite quotes what it received, also surrogates that stand alone, which no text has.
    let text = String::from_utf8_lossy(&text).replace(r"\ud", "?");
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_ended_badly_fails_its_case() {
        for (behavior, closing, is_failed) in [
            ("OK", "OK", false),
            ("NON-STRICT", "OK", false),
            ("INFORMATIONAL", "INFORMATIONAL", false),
            ("UNIMPLEMENTED", "OK", false),
            ("OK", "UNCLEAN", true),
            ("OK", "WRONG CODE", true),
            ("FAILED", "OK", true),
        ] {
            assert_eq!(verdict("1.1.1", behavior, closing).is_failed(), is_failed, "{behavior}");
        }
    }

    #[test]
    fn verdicts_are_counted_by_the_word_the_suite_uses() {
        let verdicts = [
            verdict("1.1.1", "OK", "OK"),
            verdict("1.1.2", "OK", "OK"),
            verdict("7.1.6", "INFORMATIONAL", "INFORMATIONAL"),
        ];

        let tally = Tally::of(&verdicts);

        assert_eq!(
            tally.to_string(),
            "OK 2, NON-STRICT 0, INFORMATIONAL 1, UNIMPLEMENTED 0, FAILED 0"
        );
    }

    fn verdict(number: &str, behavior: &str, closing: &str) -> Verdict {
        Verdict {
            number: number.split('.').map(|part| part.parse().unwrap()).collect(),
            behavior: behavior.to_owned(),
            closing: closing.to_owned(),
            reason: "seen".to_owned(),
        }
    }
}
