use crate::{Invariant, Plan, play};

/// The faults of `plan` without which `invariant` holds, by their numbers: found by leaving out halves,
/// quarters and so on, down to one by one, as long as it stays broken. Plays at most 200 times.
pub fn shrink(plan: &Plan, invariant: Invariant) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..plan.faults()).collect();
    let mut plays = 0;
    let mut is_broken = |kept: &[usize]| {
        plays += 1;
        let outcome = play(&plan.keeping(kept), false);
        (outcome.objections.iter().any(|one| one.invariant == invariant), plays < MOST_PLAYS)
    };
    let mut piece = kept.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from < kept.len() {
            let until = (from + piece).min(kept.len());
            let without = [&kept[..from], &kept[until..]].concat();
            let (is_still_broken, may_go_on) = is_broken(&without);
            if is_still_broken {
                kept = without;
            } else {
                from = until;
            }
            if !may_go_on {
                return kept;
            }
        }
        piece /= 2;
    }
    kept
}

const MOST_PLAYS: usize = 200;
