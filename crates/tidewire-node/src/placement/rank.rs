use std::cmp::Ordering;

use tidewire_model::{Slot, Tenant};
use xxhash_rust::xxh3::xxh3_64;

/// Where tenants may be placed, and how much of them.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// A [`Slot`], or as long as one at most.
    pub slot: &'a str,
    /// Relative capacity; 0 counts as 1.
    pub weight: u32,
}

/// Candidates, ready to be ranked for one tenant after the other.
///
/// The score of a candidate is `-weight / ln(u)`, with `u` in (0, 1) from the XXH3 of the tenant's
/// name, a zero byte and the slot's: one of twice the weight is first for twice the tenants
/// (Schindelhauer and Schomaker, "Weighted distributed hash tables"). A balancer that computes the
/// same agrees, in any language; of two that score the same the first by name is the better.
#[derive(Debug)]
pub struct Rank {
    /// In the order of their names.
    places: Vec<Place>,
    /// All weigh the same, so that `u` itself ranks them.
    is_even: bool,
}

#[derive(Debug)]
struct Place {
    /// What is hashed behind a tenant's name, and how much of it there is.
    name: [u8; NAME_BYTES],
    length: u8,
    /// Where it stood among the candidates.
    index: u32,
    weight: f64,
}

/// One of the best for a tenant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Its place among the candidates.
    pub index: u32,
    pub score: f64,
}

/// A zero byte, which no name has, and the name.
const NAME_BYTES: usize = 1 + Slot::MAX_BYTES;

impl Rank {
    /// # Panics
    ///
    /// If a slot is longer than one can be.
    pub fn new<'a>(candidates: impl IntoIterator<Item = Candidate<'a>>) -> Self {
        let mut places: Vec<_> = (0..).zip(candidates).map(Place::new).collect();
        places.sort_by_key(|place| place.name);
        let is_even = places.windows(2).all(|pair| same(pair[0].weight, pair[1].weight));
        Self { places, is_even }
    }

    /// How many candidates there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The best `k` for a tenant, best first, or all if they are fewer; `best` is overwritten.
    ///
    /// One hash for each candidate, and no memory beyond what `best` has had before.
    pub fn top(&self, tenant: &Tenant, k: usize, best: &mut Vec<Ranked>) {
        best.clear();
        if k == 0 {
            return;
        }
        let mut pair = [0; Tenant::MAX_BYTES + NAME_BYTES];
        let name = tenant.as_str().as_bytes();
        pair[..name.len()].copy_from_slice(name);
        for place in &self.places {
            let length = name.len() + usize::from(place.length);
            pair[name.len()..name.len() + NAME_BYTES].copy_from_slice(&place.name);
            let unit = unit(xxh3_64(&pair[..length]));
            let score = if self.is_even { unit } else { -place.weight / unit.ln() };
            let is_full = best.len() == k;
            if is_full && best.last().is_some_and(|last| last.score >= score) {
                continue;
            }
            if is_full {
                best.pop();
            }
            // Behind whoever scores the same: they come in the order of their names.
            let at = best.partition_point(|other| other.score >= score);
            best.insert(at, Ranked { index: place.index, score });
        }
    }
}

impl Place {
    fn new((index, candidate): (u32, Candidate<'_>)) -> Self {
        let slot = candidate.slot.as_bytes();
        let mut name = [0; NAME_BYTES];
        name[1..=slot.len()].copy_from_slice(slot);
        let length = u8::try_from(1 + slot.len()).expect("a slot is short");
        Self { name, length, index, weight: f64::from(candidate.weight.max(1)) }
    }
}

/// 53 bits are what a double holds exactly; the half keeps the result off 0 and 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits are exact in a double")]
fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Weights are whole numbers.
fn same(left: f64, right: f64) -> bool {
    left.total_cmp(&right) == Ordering::Equal
}
