use std::time::Duration;

use tidewire_protocol_native::client::Refusal;

/// How long to wait before asking again for what was refused as retryable: as long as the server
/// says, or else 100 ms, doubling with each refusal in a row up to 5 s.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    refusals: u32,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

impl Retry {
    pub(crate) fn after(&mut self, refusal: &Refusal) -> Duration {
        let own = FIRST.saturating_mul(1 << self.refusals.min(10)).min(LONGEST);
        self.refusals += 1;
        refusal.retry_after.unwrap_or(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_five_seconds() {
        let mut retry = Retry::default();

        let waits: Vec<_> = (0..8).map(|_| retry.after(&refusal(None)).as_millis()).collect();

        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    }

    #[test]
    fn the_servers_word_is_taken() {
        let wait = Duration::from_millis(7);

        assert_eq!(Retry::default().after(&refusal(Some(wait))), wait);
    }

    fn refusal(retry_after: Option<Duration>) -> Refusal {
        let (name, message) = ("unavailable".into(), "log is unavailable".into());
        Refusal { code: 2000, name, message, retryable: true, retry_after, limit: None }
    }
}
