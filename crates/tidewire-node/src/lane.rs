use std::collections::VecDeque;

use tidewire_broker::Draft;
use tidewire_model::{ErrorCode, Failure};

use crate::ask::Reply;

/// The drafts of one channel on their way to the log, in the order they were published.
///
/// At most one batch is under way: a later batch can never overtake an earlier one that had to be
/// repeated, so the order of publishing is the order of offsets.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    waiting: VecDeque<Pending>,
    bytes: usize,
    is_appending: bool,
}

/// A draft and who waits for its position.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) draft: Draft,
    pub(crate) reply: Reply,
}

impl Lane {
    const MOST_WAITING: usize = 4_096;
    const MOST_WAITING_BYTES: usize = 8 << 20;
    const BATCH: usize = 64;
    const BATCH_BYTES: usize = 256 * 1_024;

    /// Queues a draft, or refuses it when the log is too far behind.
    pub(crate) fn push(&mut self, pending: Pending) {
        if self.waiting.len() >= Self::MOST_WAITING || self.bytes >= Self::MOST_WAITING_BYTES {
            let message = "the channel is published to more quickly than its log takes";
            let failure = Failure::new(ErrorCode::Overloaded, message);
            return pending.reply.send(Err(failure));
        }
        self.bytes += pending.draft.weight();
        self.waiting.push_back(pending);
    }

    /// Takes the next batch if none is under way. Answered by [`Lane::appended`].
    pub(crate) fn next_batch(&mut self) -> Option<Vec<Pending>> {
        if self.is_appending || self.waiting.is_empty() {
            return None;
        }
        self.is_appending = true;
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < Self::BATCH && bytes < Self::BATCH_BYTES {
            let Some(pending) = self.waiting.pop_front() else { break };
            bytes += pending.draft.weight();
            batch.push(pending);
        }
        self.bytes -= bytes;
        Some(batch)
    }

    /// Takes everything that waits.
    pub(crate) fn clear(&mut self) -> VecDeque<Pending> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn appended(&mut self) {
        self.is_appending = false;
    }

    pub(crate) fn is_idle(&self) -> bool {
        !self.is_appending && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewire_model::Payload;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn one_batch_is_under_way_at_a_time_and_holds_what_gathered() {
        let mut lane = Lane::default();
        lane.push(pending(1));
        assert_eq!(sizes(lane.next_batch()), [1]);
        for bytes in 2..=70 {
            lane.push(pending(bytes));
        }

        assert!(lane.next_batch().is_none());
        lane.appended();
        assert_eq!(sizes(lane.next_batch()), (2..=65).collect::<Vec<_>>());
        lane.appended();
        assert_eq!(sizes(lane.next_batch()), (66..=70).collect::<Vec<_>>());
        lane.appended();
        assert!(lane.is_idle());
    }

    #[test]
    fn a_batch_is_bounded_in_bytes() {
        let mut lane = Lane::default();
        for _ in 0..4 {
            lane.push(pending(200 * 1_024));
        }

        assert_eq!(lane.next_batch().map(|batch| batch.len()), Some(2));
    }

    #[test]
    fn a_draft_beyond_the_bound_is_refused_as_retryable() {
        let mut lane = Lane::default();
        for _ in 0..Lane::MOST_WAITING {
            lane.push(pending(1));
        }
        let (reply, mut answer) = oneshot::channel();

        lane.push(Pending { draft: draft(1), reply: Reply::Caller(reply) });

        let failure = answer.try_recv().expect("answered").expect_err("refused");
        assert_eq!(failure.code, ErrorCode::Overloaded);
    }

    fn pending(bytes: usize) -> Pending {
        Pending { draft: draft(bytes), reply: Reply::Caller(oneshot::channel().0) }
    }

    fn draft(bytes: usize) -> Draft {
        let payload = Payload::binary(Bytes::from(vec![0; bytes]));
        Draft { id: None, publisher: None, payload }
    }

    fn sizes(batch: Option<Vec<Pending>>) -> Vec<usize> {
        batch.expect("a batch").iter().map(|pending| pending.draft.payload.len()).collect()
    }
}
