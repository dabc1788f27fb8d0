//! How many tests ran, from what the test runners print.

use std::fmt;

/// The tests counted so far, over all runners.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    /// Adds the counts of one line of output, if it is a runner's summary.
    ///
    /// Known: cargo's `test result:`, pytest's last line, and our browser test's.
    pub(crate) fn read(&mut self, line: &str) {
        let line = line.trim();
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.add_pairs(counts);
        } else if let Some(counts) = line.strip_prefix("browser: ").or(pytest_summary(line)) {
            self.add_pairs(counts);
        }
    }

    pub(crate) fn total(self) -> u64 {
        self.passed + self.failed + self.skipped
    }

    /// How many tests did not run. They prove nothing, so `xtask test` refuses them.
    pub(crate) fn skipped(self) -> u64 {
        self.skipped
    }

    /// Reads `<number> <outcome>` wherever the two words stand next to each other.
    fn add_pairs(&mut self, counts: &str) {
        let words: Vec<&str> = counts
            .split(|separator: char| !separator.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            if let Ok(number) = pair[0].parse() {
                self.add(pair[1], number);
            }
        }
    }

    fn add(&mut self, outcome: &str, number: u64) {
        match outcome {
            "passed" | "xpassed" => self.passed += number,
            "failed" | "error" | "errors" => self.failed += number,
            "ignored" | "skipped" | "xfailed" => self.skipped += number,
            _ => {}
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// `12 passed, 1 skipped` of `==== 12 passed, 1 skipped in 3.21s ====`.
fn pytest_summary(line: &str) -> Option<&str> {
    let (counts, duration) = line.trim_matches(['=', ' ']).rsplit_once(" in ")?;
    let seconds = duration.split_whitespace().next()?.strip_suffix('s')?;
    seconds.parse::<f64>().ok()?;
    counts.starts_with(|first: char| first.is_ascii_digit()).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn the_results_of_several_test_binaries_add_up() {
        let tally = tally_of(&[
            "running 5 tests",
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 7 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out",
        ]);

        assert_eq!(tally, Tally { passed: 12, failed: 1, skipped: 2 });
    }

    #[test]
    fn the_last_line_of_pytest_counts_in_its_loud_and_its_quiet_form() {
        let tally = tally_of(&[
            "========= 1 failed, 11 passed, 2 skipped, 3 warnings in 65.12s (0:01:05) =========",
            "30 passed in 3.21s",
            "2 errors in 0.10s",
        ]);

        assert_eq!(tally, Tally { passed: 41, failed: 3, skipped: 2 });
    }

    #[test]
    fn the_browser_test_counts() {
        let tally = tally_of(&["browser: two tabs talk", "browser: 3 passed, 1 failed"]);

        assert_eq!(tally, Tally { passed: 3, failed: 1, skipped: 0 });
    }

    #[test]
    fn other_lines_count_nothing() {
        let tally = tally_of(&[
            "test a_test ... ok",
            "5 passed the gate in May",
            "    Finished `test` profile in 3.2s",
        ]);

        assert_eq!(tally.total(), 0);
    }

    #[test]
    fn the_summary_is_one_plain_line() {
        let tally = tally_of(&["12 passed in 1.0s"]);

        assert_eq!(tally.to_string(), "12 passed, 0 failed");
    }

    fn tally_of(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.read(line);
        }
        tally
    }
}
