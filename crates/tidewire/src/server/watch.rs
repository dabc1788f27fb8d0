use std::time::Duration;

use tidewire_node::Node;
use tokio_util::sync::CancellationToken;

const FIRST_LOOK: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Tells the operator what keeps the node from working, when that changes. The adapters come back
/// by themselves.
pub(crate) async fn run(node: Node, stop: CancellationToken) {
    let mut known: Option<Vec<String>> = None;
    let mut pause = FIRST_LOOK;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let ailments = node.ailments().await;
        if known.as_ref() != Some(&ailments) {
            report(known.is_none(), &ailments);
        }
        pause = if ailments.is_empty() { LOOK_EVERY } else { FIRST_LOOK };
        known = Some(ailments);
    }
}

fn report(is_first: bool, ailments: &[String]) {
    for ailment in ailments {
        tracing::error!("not ready: {ailment}; trying again");
    }
    if ailments.is_empty() && !is_first {
        tracing::info!("ready again");
    } else if ailments.is_empty() {
        tracing::info!("ready");
    }
}
