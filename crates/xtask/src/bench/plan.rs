//! Which goals there are, in the order they are measured.

use super::goal::Row;
use super::stage::Stage;
use super::{cluster, connecting, fanout, inbound, memory};

/// Goals that are measured together, and how.
type Act = (&'static [&'static str], fn(&mut Stage));

const ACTS: [Act; 10] = [
    (&["G1", "G2", "G3", "G4"], fanout::thousand),
    (&["G1", "G2"], fanout::ten_thousand),
    (&["G4", "G12"], fanout::small_channels),
    (&["G5"], memory::idle),
    (&["G6"], memory::many),
    (&["G7"], memory::encrypted),
    (&["G8"], inbound::publishing),
    (&["G9"], cluster::two_nodes),
    (&["G10", "G11"], fanout::tables_and_compression),
    (&["G13"], connecting::storm),
];

/// Measures what the options want; the rows in the order of the goals.
pub(super) fn run(stage: &mut Stage) -> Vec<Row> {
    for (goals, act) in ACTS {
        if stage.options.wants(goals) {
            println!("\n== {}", goals.join(", "));
            act(stage);
        }
    }
    let mut rows = std::mem::take(&mut stage.rows);
    // Stable: rows of one goal stay as they were measured.
    rows.sort_by_key(|row| row.goal[1..].parse::<u32>().unwrap_or(u32::MAX));
    rows
}
