//! Who published what, who heard what, and whether the two agree.

use std::collections::{BTreeMap, HashMap};

/// What one publisher says in one channel: its name and a running number.
pub(crate) type Saying = (String, u64);

/// What one subscriber of one channel has heard, in the order it heard it.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) sayings: Vec<(u64, Saying)>,
    pub(crate) gaps: u64,
}

/// The verdict over all subscribers.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    /// Offsets or a publisher's numbers that do not rise.
    pub(crate) reordered: usize,
    /// Offsets under which two subscribers heard different things.
    pub(crate) disagreements: usize,
    pub(crate) gaps: u64,
}

/// Judges what the subscribers of one channel heard, who had all subscribed before the first of
/// `published` sayings per publisher.
pub(crate) fn judge(published: &HashMap<String, u64>, subscribers: &[Heard]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut agreed: BTreeMap<u64, &Saying> = BTreeMap::new();
    for heard in subscribers {
        verdict.gaps += heard.gaps;
        judge_one(published, heard, &mut verdict);
        for (offset, saying) in &heard.sayings {
            if *agreed.entry(*offset).or_insert(saying) != saying {
                verdict.disagreements += 1;
            }
        }
    }
    verdict
}

fn judge_one(published: &HashMap<String, u64>, heard: &Heard, verdict: &mut Verdict) {
    let mut last_offset = 0;
    let mut last_of: HashMap<&str, u64> = HashMap::new();
    let mut times: HashMap<&Saying, usize> = HashMap::new();
    for (offset, saying) in &heard.sayings {
        let last = last_of.entry(&saying.0).or_insert(0);
        if *offset <= last_offset || saying.1 <= *last {
            verdict.reordered += 1;
        }
        last_offset = *offset;
        *last = saying.1;
        *times.entry(saying).or_default() += 1;
    }
    verdict.duplicated += times.values().map(|times| times - 1).sum::<usize>();
    let expected: u64 = published.values().sum();
    verdict.lost += usize::try_from(expected).expect("small") - times.len();
}

#[test]
fn a_clean_run_has_nothing_to_report() {
    let heard = || heard(&[(1, "a", 1), (2, "b", 1), (3, "a", 2)]);

    assert_eq!(judge(&published(), &[heard(), heard()]), Verdict::default());
}

#[test]
fn each_fault_is_noticed() {
    let lost = judge(&published(), &[heard(&[(1, "a", 1), (3, "a", 2)])]);
    let twice =
        judge(&published(), &[heard(&[(1, "a", 1), (2, "b", 1), (3, "a", 2), (4, "a", 2)])]);
    let turned = judge(&published(), &[heard(&[(1, "a", 2), (2, "b", 1), (3, "a", 1)])]);
    let different = judge(
        &published(),
        &[
            heard(&[(1, "a", 1), (2, "b", 1), (3, "a", 2)]),
            heard(&[(1, "b", 1), (2, "a", 1), (3, "a", 2)]),
        ],
    );

    assert_eq!(lost, Verdict { lost: 1, ..Verdict::default() });
    assert_eq!(twice, Verdict { duplicated: 1, reordered: 1, ..Verdict::default() });
    assert_eq!(turned, Verdict { reordered: 1, ..Verdict::default() });
    assert_eq!(different, Verdict { disagreements: 2, ..Verdict::default() });
}

#[cfg(test)]
fn published() -> HashMap<String, u64> {
    HashMap::from([("a".into(), 2), ("b".into(), 1)])
}

#[cfg(test)]
fn heard(sayings: &[(u64, &str, u64)]) -> Heard {
    let sayings =
        sayings.iter().map(|(offset, who, number)| (*offset, ((*who).into(), *number))).collect();
    Heard { sayings, gaps: 0 }
}
