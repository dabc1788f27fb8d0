use anyhow::{Context as _, Result, bail, ensure};

/// What to measure, and how often and long.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    only: Vec<String>,
    pub(super) repeats: u32,
    pub(super) seconds: f64,
}

/// Best of at least five, as the goals want it.
const REPEATS: u32 = 5;
const SECONDS: f64 = 2.0;
const MAX_SECONDS: f64 = 60.0;

impl Options {
    pub(super) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self { only: Vec::new(), repeats: REPEATS, seconds: SECONDS };
        let mut words = arguments.iter();
        while let Some(name) = words.next() {
            let value = words.next().with_context(|| format!("`{name}` takes a value"))?;
            match *name {
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--repeats" => options.repeats = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                unknown => bail!("unknown option `{unknown}`"),
            }
        }
        ensure!(options.repeats > 0, "--repeats is at least 1");
        ensure!((0.1..=MAX_SECONDS).contains(&options.seconds), "--seconds is from 0.1 to 60");
        Ok(options)
    }

    /// Whether any of the goals is asked for.
    pub(super) fn wants(&self, goals: &[&str]) -> bool {
        self.is_everything() || goals.iter().any(|goal| self.only.iter().any(|only| only == goal))
    }

    pub(super) fn is_everything(&self) -> bool {
        self.only.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured_unless_goals_are_named() {
        let all = Options::parse(&[]).unwrap();
        let some =
            Options::parse(&["--only", "G1,G4", "--repeats", "3", "--seconds", "0.5"]).unwrap();

        assert!(all.wants(&["G12"]) && all.is_everything());
        assert!(some.wants(&["G2", "G4"]) && !some.wants(&["G12"]) && !some.is_everything());
        assert_eq!((some.repeats, some.seconds), (3, 0.5));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [&["--only"][..], &["--repeats", "0"], &["--seconds", "x"], &["--fast", "1"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
