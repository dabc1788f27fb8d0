//! What is done to a server. A scenario arranges clients and phases and returns a report.

mod fanout;

use anyhow::Result;

use crate::cli::Scenario;
use crate::plan::Plan;
use crate::report::Report;

pub(crate) async fn run(scenario: Scenario, plan: Plan) -> Result<Report> {
    match scenario {
        // A plan of a drain names the node that leaves.
        Scenario::Fanout | Scenario::Drain => fanout::run(plan).await,
    }
}
