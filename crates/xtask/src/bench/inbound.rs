//! Taking publications in.

use super::goal::Target;
use super::peers::Contender;
use super::stage::{Comparison, Stage};
use super::swarm::Task;

/// Each connection publishes so often a second: fast enough that the server takes many in a turn.
const INGRESS: &str = "ingress:50,acked:50";
const GOALS: [(Contender, f64); 2] = [(Contender::Json, 1.6), (Contender::Protobuf, 1.4)];

/// From the socket to where it would be routed: to channels nobody is subscribed to, which without
/// an id is not replied to; and with a reply, which the floor does not send.
pub(super) fn publishing(stage: &mut Stage) {
    let contenders = [Contender::Discard, Contender::Json, Contender::Protobuf];
    // The floor forgets what it reads, so it cannot acknowledge.
    let floor = Task::new(1_000, "ingress:50", stage.options.seconds);
    let ours = Task::new(1_000, INGRESS, stage.options.seconds);
    let mut results = super::stage::Results::default();
    for repeat in 1..=stage.options.repeats {
        for contender in contenders {
            println!("{repeat}: {}", contender.name());
            let task = if contender == Contender::Discard { &floor } else { &ours };
            results.keep(contender, stage.perform(contender, task));
        }
    }
    for (contender, times) in GOALS {
        for (phase, what) in [("ingress:50", "routed"), ("acked:50", "stored and acknowledged")] {
            let what = format!("publish, socket to {what}, {}", contender.name());
            let row = results.compare(
                &Comparison {
                    goal: "G8",
                    what: &what,
                    ours: (contender, phase),
                    reference: (Contender::Discard, "ingress:50"),
                    target: Target::Times(times),
                },
                "published",
            );
            stage.add(row);
        }
    }
}
