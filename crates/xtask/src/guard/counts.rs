use std::fmt;

use anyhow::{Context, Result};
use toml::{Table, Value};

/// What hot paths take, and which compiler made them so.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) compiler: String,
    /// Instructions for doing a path once, by its name.
    pub(super) instructions: Vec<(String, u64)>,
}

/// How counts stand to what is expected.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// One for each path, to be read.
    pub(super) lines: Vec<String>,
    /// Paths that have become so short that a step back would pass unnoticed.
    pub(super) gains: Vec<String>,
    /// What must not be.
    pub(super) breaches: Vec<String>,
}

/// How much longer a path may become before it is a breach, and how much shorter before it is worth
/// a word, in percent. Another release of the compiler stays within that; a careless change of a
/// path that takes a few hundred instructions does not.
const MOST_LOSS: u64 = 10;
const MOST_GAIN: u64 = 15;

const HEAD: &str = "\
# The instructions each hot path takes, done once. `cargo xtask guard` holds the paths to it, and
# `cargo xtask guard --bless` writes it: the commit says why.
";

impl Counts {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let table: Table = text.parse()?;
        let compiler = table.get("compiler").and_then(Value::as_str).context("no `compiler`")?;
        let paths = table.get("instructions").and_then(Value::as_table);
        let count = |(name, value): (&String, &Value)| {
            let count = value.as_integer().and_then(|count| u64::try_from(count).ok());
            Ok((name.clone(), count.with_context(|| format!("`{name}` is no count"))?))
        };
        let instructions: Result<Vec<_>> =
            paths.context("no `instructions`")?.iter().map(count).collect();
        Ok(Self { compiler: compiler.to_owned(), instructions: instructions? })
    }

    pub(super) fn judge(&self, expected: &Self) -> Judgement {
        let mut judgement = Judgement::default();
        for (name, count) in &self.instructions {
            match expected.of(name) {
                Some(before) => judgement.compare(name, before, *count),
                None => judgement.breaches.push(format!("{name} takes {count}: it is new")),
            }
        }
        for (name, _) in &expected.instructions {
            if self.of(name).is_none() {
                judgement.breaches.push(format!("{name} is expected and is no path"));
            }
        }
        if self.compiler != expected.compiler && !judgement.breaches.is_empty() {
            let (now, then) = (&self.compiler, &expected.compiler);
            judgement
                .breaches
                .push(format!("it may be the compiler: this is {now}, it was {then}"));
        }
        judgement
    }

    fn of(&self, name: &str) -> Option<u64> {
        self.instructions.iter().find(|(known, _)| known == name).map(|(_, count)| *count)
    }
}

impl Judgement {
    fn compare(&mut self, name: &str, before: u64, now: u64) {
        let change = format!("{name}: {now} instructions, {before} expected");
        if now * 100 > before * (100 + MOST_LOSS) {
            self.breaches.push(format!("{change}: over {MOST_LOSS} % more"));
        } else if now * 100 < before * (100 - MOST_GAIN) {
            let remedy = "keep that with `cargo xtask guard --bless`";
            self.gains.push(format!("{change}: over {MOST_GAIN} % less, {remedy}"));
        }
        self.lines.push(format!("{now:>9} of {before:>9}  {name}"));
    }
}

/// The file they are read from.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEAD}compiler = \"{}\"\n\n[instructions]\n", self.compiler)?;
        self.instructions.iter().try_for_each(|(name, count)| writeln!(f, "{name} = {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let written = counts("rustc 1", &[("a", 100), ("b-2", 4_711)]);

        assert_eq!(Counts::parse(&written.to_string()).unwrap(), written);
    }

    #[test]
    fn a_path_may_take_a_tenth_more_and_no_more() {
        let expected = counts("rustc 1", &[("a", 1_000), ("b", 1_000)]);

        let judgement = counts("rustc 1", &[("a", 1_100), ("b", 1_101)]).judge(&expected);

        assert_eq!(judgement.breaches, ["b: 1101 instructions, 1000 expected: over 10 % more"]);
        assert_eq!(judgement.lines.len(), 2);
    }

    #[test]
    fn a_path_that_takes_much_less_is_worth_a_word_and_no_breach() {
        let expected = counts("rustc 1", &[("a", 1_000), ("b", 1_000)]);

        let judgement = counts("rustc 1", &[("a", 850), ("b", 849)]).judge(&expected);

        assert_eq!(judgement.breaches, [""; 0]);
        assert_eq!(judgement.gains.len(), 1);
        assert!(judgement.gains[0].starts_with("b: 849 instructions, 1000 expected"));
    }

    #[test]
    fn a_path_that_only_one_side_knows_is_a_breach() {
        let expected = counts("rustc 1", &[("a", 1), ("gone", 1)]);

        let judgement = counts("rustc 1", &[("a", 1), ("new", 7)]).judge(&expected);

        assert_eq!(
            judgement.breaches,
            ["new takes 7: it is new", "gone is expected and is no path"]
        );
    }

    #[test]
    fn another_compiler_is_named_beside_a_breach_and_is_none_itself() {
        let expected = counts("rustc 1", &[("a", 100)]);

        let longer = counts("rustc 2", &[("a", 200)]).judge(&expected);
        let same = counts("rustc 2", &[("a", 100)]).judge(&expected);

        assert_eq!(longer.breaches.len(), 2);
        assert!(longer.breaches[1].contains("this is rustc 2, it was rustc 1"));
        assert_eq!(same.breaches, [""; 0]);
    }

    #[test]
    fn a_file_without_counts_says_what_is_missing() {
        let error = |text: &str| Counts::parse(text).unwrap_err().to_string();

        assert_eq!(error(""), "no `compiler`");
        assert_eq!(error("compiler = \"rustc 1\""), "no `instructions`");
        assert_eq!(error("compiler = \"rustc 1\"\n[instructions]\na = -1"), "`a` is no count");
    }

    fn counts(compiler: &str, instructions: &[(&str, u64)]) -> Counts {
        let owned = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
        let instructions = instructions.iter().map(owned).collect();
        Counts { compiler: compiler.to_owned(), instructions }
    }
}
