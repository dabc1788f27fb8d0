//! What is found out about a fleet, and what has to be.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use crate::crowd::{Crowd, Sized};
use crate::fleet::{Placed, place, rank};

/// Figures of one fleet. Loads are connections of a node, over the mean of all nodes; shares are of
/// all (tenant, home) pairs.
pub(crate) struct Findings {
    nodes: usize,
    nanos_per_pair: f64,
    highest: f64,
    p99: f64,
    /// Where each connection takes the least busy of its tenant's homes, as the shipped balancer has it.
    highest_chosen: f64,
    /// Of tenants that each have one home.
    highest_alone: f64,
    /// When the fullest node goes: pairs that move, connections that move, the fullest survivor.
    lost: [f64; 3],
    /// Pairs that moved without having been on it; has to be none.
    strayed: usize,
    /// Pairs that move when a node comes.
    gained: f64,
    /// Pairs elsewhere after a rolling restart: with slots, and with a name for each life.
    restarted: [f64; 2],
    /// Connections of nodes that weigh 1, 2 and 4, for each unit of weight, over the mean.
    by_weight: [f64; 3],
    /// Of pairs of tenants with two homes: those that share both, and one.
    shared: [f64; 2],
    /// Other tenants without a home left when one with two homes overloads them.
    burned: f64,
    tenants: usize,
}

/// Tenants that are placed a second time to see what has moved.
const SAMPLE: usize = 100_000;

impl Findings {
    pub(crate) fn of(crowd: &Crowd, nodes: usize, until: Instant) -> Result<Self, String> {
        let tenants = &crowd.tenants;
        let began = Instant::now();
        let even = rank(nodes, 0, |_| 1);
        let placed = place(tenants, &even, until)?;
        let took = began.elapsed().as_nanos() as f64;
        let loads = loads(tenants, &placed, nodes);
        let mean = crowd.connections() / nodes as f64;
        let alone = loads_alone(tenants, &placed, nodes);
        let fullest =
            (0..nodes).max_by(|a, b| loads[*a].total_cmp(&loads[*b])).expect("some nodes");
        let mut sorted = loads.clone();
        sorted.sort_by(f64::total_cmp);
        let sample = &tenants[..SAMPLE.min(tenants.len())];
        let restarted = place(sample, &rank(nodes, 1, |_| 1), until)?;
        let again = place(sample, &rank(nodes, 0, |_| 1), until)?;
        let grown = place(sample, &rank(nodes + 1, 0, |_| 1), until)?;
        let shrunk = place(sample, &rank(nodes - 1, 0, |_| 1), until)?;
        let (shared, burned) = blast(tenants, &placed);
        Ok(Self {
            nodes,
            nanos_per_pair: took / tenants.len() as f64 / nodes as f64,
            highest: loads[fullest] / mean,
            p99: sorted[(nodes * 99).div_ceil(100) - 1] / mean,
            highest_chosen: highest_chosen(tenants, &placed, nodes) / mean,
            highest_alone: alone.iter().copied().fold(0.0, f64::max) / mean,
            lost: lost(crowd, &placed, (fullest, &loads)),
            strayed: strayed(sample, (&placed, &shrunk), nodes - 1),
            gained: moved(sample, &placed, &grown),
            restarted: [moved(sample, &placed, &again), moved(sample, &placed, &restarted)],
            by_weight: by_weight(sample, nodes, until)?,
            shared,
            burned,
            tenants: tenants.len(),
        })
    }

    /// # Errors
    ///
    /// When a figure is out of what theory allows it, with room for chance.
    pub(crate) fn check(&self) -> Result<(), String> {
        let n = self.nodes as f64;
        let bounds = [
            ("the fullest node, over the mean", self.highest, 1.0..2.0),
            ("pairs moved as a node goes, times n", self.lost[0] * n, 0.8..1.3),
            ("pairs moved as a node comes, times n + 1", self.gained * (n + 1.0), 0.8..1.2),
            ("the fullest node by choice, over the mean", self.highest_chosen, 1.0..1.3),
            ("the fullest survivor, over the mean", self.lost[2], 1.0..2.0),
            ("pairs moved without reason", self.strayed as f64, 0.0..0.5),
            ("pairs moved by a restart into slots", self.restarted[0], 0.0..1e-9),
            ("load of weight 1 over the mean", self.by_weight[0], 0.8..1.2),
            ("load of weight 4 over the mean", self.by_weight[2], 0.8..1.2),
        ];
        for (what, found, allowed) in bounds {
            if !allowed.contains(&found) {
                return Err(format!(
                    "{} nodes: {what}: {found:.3}, not in {allowed:?}",
                    self.nodes
                ));
            }
        }
        Ok(())
    }
}

/// Connections of each node, those of a tenant evenly on its homes.
fn loads(tenants: &[Sized], placed: &Placed, nodes: usize) -> Vec<f64> {
    let mut loads = vec![0.0; nodes];
    for (number, one) in tenants.iter().enumerate() {
        for home in placed.of(number).0 {
            loads[*home as usize] += one.connections / one.k as f64;
        }
    }
    loads
}

/// The same if each tenant had one home, as with plain hashing.
fn loads_alone(tenants: &[Sized], placed: &Placed, nodes: usize) -> Vec<f64> {
    let mut loads = vec![0.0; nodes];
    for (number, one) in tenants.iter().enumerate() {
        loads[placed.of(number).0[0] as usize] += one.connections;
    }
    loads
}

/// The fullest node, when each tenant's connections come in turns with the others' and take the least
/// busy of its homes.
fn highest_chosen(tenants: &[Sized], placed: &Placed, nodes: usize) -> f64 {
    const TURNS: usize = 64;
    let mut loads: Vec<f64> = vec![0.0; nodes];
    for _ in 0..TURNS {
        for (number, one) in tenants.iter().enumerate() {
            let homes = placed.of(number).0.iter().map(|home| *home as usize);
            let least = homes.min_by(|a, b| loads[*a].total_cmp(&loads[*b])).expect("a home");
            loads[least] += one.connections / TURNS as f64;
        }
    }
    loads.into_iter().fold(0.0, f64::max)
}

fn lost(crowd: &Crowd, placed: &Placed, (gone, loads): (usize, &[f64])) -> [f64; 3] {
    let mut after = loads.to_vec();
    let (mut pairs, mut connections) = (0, 0.0);
    for (number, one) in crowd.tenants.iter().enumerate() {
        let (homes, next) = placed.of(number);
        if homes.iter().any(|home| *home as usize == gone) {
            pairs += 1;
            connections += one.connections / one.k as f64;
            after[next as usize] += one.connections / one.k as f64;
        }
    }
    after[gone] = 0.0;
    let mean = crowd.connections() / (loads.len() - 1) as f64;
    let highest = after.into_iter().fold(0.0, f64::max) / mean;
    [f64::from(pairs) / crowd.pairs() as f64, connections / crowd.connections(), highest]
}

/// Pairs of which the last node was no part, and that are not there any more once it is gone.
fn strayed(sample: &[Sized], (before, after): (&Placed, &Placed), gone: usize) -> usize {
    let stray = |number: usize| {
        let (homes, now) = (before.of(number).0, after.of(number).0);
        let is_elsewhere = |home: &&u32| **home as usize != gone && !now.contains(home);
        homes.iter().filter(is_elsewhere).count()
    };
    (0..sample.len()).map(stray).sum()
}

/// The share of pairs that are not where they were.
fn moved(sample: &[Sized], before: &Placed, after: &Placed) -> f64 {
    let (mut pairs, mut moved) = (0, 0);
    for number in 0..sample.len() {
        let now = after.of(number).0;
        let homes = before.of(number).0;
        pairs += homes.len();
        moved += homes.iter().filter(|home| !now.contains(home)).count();
    }
    moved as f64 / pairs as f64
}

fn by_weight(sample: &[Sized], nodes: usize, until: Instant) -> Result<[f64; 3], String> {
    let weights = [1_u32, 2, 4];
    let placed = place(sample, &rank(nodes, 0, |slot| weights[slot % 3]), until)?;
    let mut pairs = [0.0; 3];
    let mut all = 0.0;
    for number in 0..sample.len() {
        for home in placed.of(number).0 {
            pairs[*home as usize % 3] += 1.0;
            all += 1.0;
        }
    }
    let units = |class: usize| {
        (0..nodes).filter(|slot| slot % 3 == class).count() as f64 * f64::from(weights[class])
    };
    let mean = all / (units(0) + units(1) + units(2));
    Ok([0, 1, 2].map(|class| pairs[class] / units(class) / mean))
}

/// Of tenants with two homes, which are most: what two of them share, and what one takes with it.
fn blast(tenants: &[Sized], placed: &Placed) -> ([f64; 2], f64) {
    let mut by_homes: HashMap<[u32; 2], f64> = HashMap::new();
    let mut by_home: HashMap<u32, f64> = HashMap::new();
    let mut count = 0.0;
    for (number, _) in tenants.iter().enumerate().filter(|(_, one)| one.k == 2) {
        let [a, b] = placed.of(number).0 else { continue };
        *by_homes.entry([*a.min(b), *a.max(b)]).or_default() += 1.0;
        *by_home.entry(*a).or_default() += 1.0;
        *by_home.entry(*b).or_default() += 1.0;
        count += 1.0;
    }
    let choose = |among: f64| among * (among - 1.0) / 2.0;
    let all = choose(count);
    let both: f64 = by_homes.values().copied().map(choose).sum();
    let any: f64 = by_home.values().copied().map(choose).sum();
    // Whoever shares both was counted at each.
    let shared = [both / all, (any - 2.0 * both) / all];
    (shared, 2.0 * both / count)
}

/// Markdown, as in docs/scaling.md.
pub(crate) fn tables(found: &[Findings]) -> String {
    let mut text = String::from("| |");
    // Writing to a string cannot fail.
    for one in found {
        let _ = write!(text, " {} nodes |", one.nodes);
    }
    text.push_str("\n|---|");
    text.push_str(&"--:|".repeat(found.len()));
    text.push('\n');
    for (name, figure) in ROWS {
        let _ = write!(text, "| {name} |");
        for one in found {
            let _ = write!(text, " {} |", figure(one));
        }
        text.push('\n');
    }
    text
}

type Figure = fn(&Findings) -> String;

const ROWS: [(&str, Figure); 16] = [
    ("fullest node, over the mean", |one| format!("{:.3}", one.highest)),
    ("… if each connection takes the least busy home", |one| {
        format!("{:.3}", one.highest_chosen)
    }),
    ("99th of 100 nodes, over the mean", |one| format!("{:.3}", one.p99)),
    ("fullest node if each tenant had one home", |one| format!("{:.2}", one.highest_alone)),
    ("the fullest node goes: pairs that move (mean: 1/n)", |one| {
        beside(one.lost[0], 1.0 / one.nodes as f64)
    }),
    ("… connections that move", |one| percent(one.lost[1])),
    ("… fullest survivor, over the mean", |one| format!("{:.3}", one.lost[2])),
    ("… pairs that move without having been there", |one| one.strayed.to_string()),
    ("a node comes: pairs that move (1/(n+1))", |one| {
        beside(one.gained, 1.0 / (one.nodes + 1) as f64)
    }),
    ("rolling restart, by slot: pairs elsewhere", |one| percent(one.restarted[0])),
    ("rolling restart, by process: pairs elsewhere", |one| percent(one.restarted[1])),
    ("weights 1, 2, 4: pairs for each unit, over the mean", |one| {
        one.by_weight.map(|load| format!("{load:.3}")).join(", ")
    }),
    ("two tenants share both of two homes (2/(n(n-1)))", |one| {
        let n = one.nodes as f64;
        beside(one.shared[0], 2.0 / (n * (n - 1.0)))
    }),
    ("two tenants share one of two homes", |one| percent(one.shared[1])),
    ("tenants that lose all homes with a tenant of two", |one| {
        format!("{:.1} of {}", one.burned, one.tenants)
    }),
    ("time for each tenant and node", |one| format!("{:.1} ns", one.nanos_per_pair)),
];

fn percent(share: f64) -> String {
    format!("{:.4} %", share * 100.0)
}

fn beside(found: f64, theory: f64) -> String {
    format!("{} ({})", percent(found), percent(theory))
}
