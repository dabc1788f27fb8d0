use std::collections::VecDeque;

use tidewire_broker::Draft;
use tidewire_model::{ErrorCode, Failure};
use tokio::time::Instant;

use crate::ask::Reply;
use crate::tail::Acknowledged;

/// The drafts of one channel on their way to the log, in the order they were published.
///
/// At most one batch is under way: a later batch can never overtake an earlier one that had to be
/// repeated, so the order of publishing is the order of offsets. Nor can it overtake what was
/// acknowledged before and is lost: that comes first.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    waiting: VecDeque<Pending>,
    bytes: usize,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Appending,
    Healing(Heal),
}

/// Bringing back what the log has lost of what was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Heal {
    /// To be appended again, the first first.
    pub(crate) lost: VecDeque<Acknowledged>,
    /// How often in a row the log could not be reached.
    pub(crate) failures: u32,
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
        if !matches!(self.state, State::Idle) || self.waiting.is_empty() {
            return None;
        }
        self.state = State::Appending;
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
        self.state = State::Idle;
    }

    /// Puts a batch back that was not appended, before all that waits.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        let Batch { drafts, replies } = batch;
        for (draft, reply) in drafts.into_iter().zip(replies).rev() {
            self.bytes += draft.weight();
            self.waiting.push_front(Pending { draft, reply });
        }
    }

    /// Begins to heal, unless it does so already or a batch is under way: that finds out by itself.
    pub(crate) fn begin_heal(&mut self) -> bool {
        let is_idle = matches!(self.state, State::Idle);
        if is_idle {
            self.state = State::Healing(Heal::default());
        }
        is_idle
    }

    pub(crate) fn heal(&mut self) -> Option<&mut Heal> {
        match &mut self.state {
            State::Healing(heal) => Some(heal),
            State::Idle | State::Appending => None,
        }
    }

    /// Whether it has to heal and the log cannot be reached: nothing can wait here then.
    pub(crate) fn is_stuck(&self) -> bool {
        matches!(&self.state, State::Healing(heal) if heal.failures > 0)
    }

    pub(crate) fn healed(&mut self) {
        self.state = State::Idle;
    }
}

impl Heal {
    /// The drafts to append next, as many as a batch may hold: those of the first of `lost`.
    pub(crate) fn next_batch(&self) -> Vec<Draft> {
        let mut bytes = 0;
        let fits = |one: &&Acknowledged| {
            let is_room = bytes < Lane::BATCH_BYTES;
            bytes += one.draft.weight();
            is_room
        };
        let batch = self.lost.iter().take(Lane::BATCH).take_while(fits);
        batch.map(Acknowledged::again).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewire_model::{Incarnation, Payload, Position};
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

    #[test]
    fn a_batch_that_is_put_back_goes_before_all_that_waits() {
        let mut lane = Lane::default();
        lane.push(pending(1), Instant::now());
        lane.push(pending(2), Instant::now());
        let batch = lane.next_batch().expect("a batch");
        lane.push(pending(3), Instant::now());

        lane.put_back(batch);
        lane.appended();

        assert_eq!(sizes(lane.next_batch()), [1, 2, 3]);
    }

    #[test]
    fn nothing_is_appended_while_it_heals_and_it_does_not_heal_while_it_appends() {
        let mut lane = Lane::default();
        assert!(lane.begin_heal());
        assert!(!lane.begin_heal(), "it does already");
        lane.push(pending(1), Instant::now());
        assert!(lane.next_batch().is_none());

        lane.healed();

        assert_eq!(sizes(lane.next_batch()), [1]);
        assert!(!lane.begin_heal(), "a batch is under way");
        assert!(lane.heal().is_none());
    }

    #[test]
    fn what_is_to_be_appended_again_is_bounded_like_a_batch() {
        let one = |bytes| {
            let position = Position::new(Incarnation::ZERO.epoch(0), 1);
            Acknowledged::new(Instant::now(), position, draft(bytes))
        };
        let batch = |bytes: &[usize]| {
            let lost = bytes.iter().copied().map(one).collect();
            Heal { lost, failures: 0 }.next_batch().len()
        };

        assert_eq!(batch(&[1; 70]), Lane::BATCH);
        assert_eq!(batch(&[200 * 1_024; 4]), 2);
        assert_eq!(batch(&[512 * 1_024; 2]), 1);
        assert_eq!(batch(&[]), 0);
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
