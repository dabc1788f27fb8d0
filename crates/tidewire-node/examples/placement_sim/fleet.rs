//! Slots, and where each tenant is on them.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tidewire_node::{Candidate, Rank};

use crate::crowd::Sized;

/// Where tenants are: for each its homes and the next, best first.
pub(crate) struct Placed {
    places: Vec<u32>,
    /// Where each tenant's places begin; one more than there are tenants.
    starts: Vec<usize>,
}

impl Placed {
    /// The homes of a tenant, and the one it would get in place of any of them.
    pub(crate) fn of(&self, tenant: usize) -> (&[u32], u32) {
        let places = &self.places[self.starts[tenant]..self.starts[tenant + 1]];
        let (next, homes) = places.split_last().expect("at least one place");
        (homes, *next)
    }
}

pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Slots `0..nodes` that weigh what `weight` says, of processes in their `life`.
pub(crate) fn rank(nodes: usize, life: usize, weight: impl Fn(usize) -> u32) -> Rank {
    let names: Vec<String> = (0..nodes).map(|slot| name(slot, life)).collect();
    Rank::new(
        names.iter().enumerate().map(|(slot, name)| Candidate { slot: name, weight: weight(slot) }),
    )
}

fn name(slot: usize, life: usize) -> String {
    match life {
        0 => format!("tidewire-{slot}"),
        life => format!("tidewire-{slot}-{life:x}"),
    }
}

/// Places tenants, on all cores.
///
/// # Errors
///
/// When it is not done in time; it says how far it has got.
pub(crate) fn place(tenants: &[Sized], rank: &Rank, until: Instant) -> Result<Placed, String> {
    let share = tenants.len().div_ceil(threads());
    let done = &AtomicUsize::new(0);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let place = |part| scope.spawn(move || place_part(part, rank, (until, done)));
        let running: Vec<_> = tenants.chunks(share).map(place).collect();
        running.into_iter().map(|part| part.join().expect("it does not panic")).collect()
    });
    let mut placed = Placed { places: Vec::new(), starts: vec![0] };
    for part in parts {
        let Some(part) = part else {
            let done = done.load(Ordering::Relaxed);
            let (all, nodes) = (tenants.len(), rank.len());
            return Err(format!(
                "placed {done} of {all} tenants on {nodes} nodes: give it --within"
            ));
        };
        for places in part {
            placed.places.extend(places);
            placed.starts.push(placed.places.len());
        }
    }
    Ok(placed)
}

fn place_part(
    tenants: &[Sized],
    rank: &Rank,
    (until, done): (Instant, &AtomicUsize),
) -> Option<Vec<Vec<u32>>> {
    const SLICE: usize = 1_000;
    let mut places = Vec::with_capacity(tenants.len());
    let mut best = Vec::new();
    for slice in tenants.chunks(SLICE) {
        if Instant::now() > until {
            return None;
        }
        for one in slice {
            rank.top(&one.tenant, one.k + 1, &mut best);
            places.push(best.iter().map(|ranked| ranked.index).collect());
        }
        done.fetch_add(slice.len(), Ordering::Relaxed);
    }
    Some(places)
}
