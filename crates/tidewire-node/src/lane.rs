use std::collections::VecDeque;

use tidewire_broker::Draft;
use tidewire_model::{ErrorCode, Failure};
use tokio::time::Instant;

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

/// What goes to the log at once.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) drafts: Vec<Draft>,
    /// For each draft, in the same order.
    pub(crate) replies: Vec<Reply>,
}

impl Lane {
    const MOST_WAITING: usize = 4_096;
    const MOST_WAITING_BYTES: usize = 8 << 20;
    const BATCH: usize = 64;
    const BATCH_BYTES: usize = 256 * 1_024;

    /// Queues a draft, or refuses it when the log is too far behind.
    pub(crate) fn push(&mut self, pending: Pending, now: Instant) {
        if self.waiting.len() >= Self::MOST_WAITING || self.bytes >= Self::MOST_WAITING_BYTES {
            let message = "the channel is published to more quickly than its log takes";
            let failure = Failure::new(ErrorCode::Overloaded, message);
            return pending.reply.send(Err(failure), now);
        }
        self.bytes += pending.draft.weight();
        self.waiting.push_back(pending);
    }

    /// Takes the next batch, if none is under way and anything waits. Answered by
    /// [`Lane::appended`].
    pub(crate) fn next_batch(&mut self) -> Option<Batch> {
        if self.is_appending || self.waiting.is_empty() {
            return None;
        }
        self.is_appending = true;
        let most = self.waiting.len().min(Self::BATCH);
        let (mut drafts, mut replies) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut bytes = 0;
        while drafts.len() < most && bytes < Self::BATCH_BYTES {
            let Some(Pending { draft, reply }) = self.waiting.pop_front() else { break };
            bytes += draft.weight();
            drafts.push(draft);
            replies.push(reply);
        }
        self.bytes -= bytes;
        Some(Batch { drafts, replies })
    }

    /// Takes everything that waits.
    pub(crate) fn clear(&mut self) -> VecDeque<Pending> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn appended(&mut self) {
        self.is_appending = false;
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
        lane.push(pending(1), Instant::now());
        assert_eq!(sizes(lane.next_batch()), [1]);
        for bytes in 2..=70 {
            lane.push(pending(bytes), Instant::now());
        }

        assert!(lane.next_batch().is_none());
        lane.appended();
        assert_eq!(sizes(lane.next_batch()), (2..=65).collect::<Vec<_>>());
        lane.appended();
        assert_eq!(sizes(lane.next_batch()), (66..=70).collect::<Vec<_>>());
        lane.appended();
        assert!(lane.next_batch().is_none());
    }

    #[test]
    fn a_batch_is_bounded_in_bytes() {
        let mut lane = Lane::default();
        for _ in 0..4 {
            lane.push(pending(200 * 1_024), Instant::now());
        }

        assert_eq!(sizes(lane.next_batch()), [200 * 1_024; 2]);
    }

    #[test]
    fn a_draft_beyond_the_bound_is_refused_as_retryable() {
        let mut lane = Lane::default();
        for _ in 0..Lane::MOST_WAITING {
            lane.push(pending(1), Instant::now());
        }
        let (reply, mut answer) = oneshot::channel();

        let beyond = Pending { draft: draft(1), reply: Reply::Caller(reply) };
        lane.push(beyond, Instant::now());

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

    fn sizes(batch: Option<Batch>) -> Vec<usize> {
        let Batch { drafts, replies } = batch.expect("a batch");
        assert_eq!(drafts.len(), replies.len());
        drafts.iter().map(|draft| draft.payload.len()).collect()
    }
}
