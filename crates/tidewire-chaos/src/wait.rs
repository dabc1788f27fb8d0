use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How often it is looked.
const POLL: Duration = Duration::from_millis(50);

/// Waits until it is so; says how long that took.
///
/// # Errors
///
/// If it is not so `within` this time: `what` names it.
pub(crate) async fn until(
    what: &str,
    within: Duration,
    mut is_so: impl AsyncFnMut() -> bool,
) -> Result<Duration> {
    let begun = Instant::now();
    while !is_so().await {
        if begun.elapsed() > within {
            bail!("not within {} s: {what}", within.as_secs());
        }
        sleep(POLL).await;
    }
    Ok(begun.elapsed())
}
