//! What a session does for a publish command, and for publications that come in order.

use std::hint::black_box;
use std::sync::Arc;

use tidewire_model::{Command, DeltaFormat, JoinId, Joined, Recovery, Request, RequestId, Since};
use tidewire_session::{Effect, Limits, Meeting, Outputs, Session};

use crate::samples;

const SESSIONS: u32 = 1_000;
const RUN: u64 = 16;
/// Seconds since the Unix epoch; nothing expires here.
const NOW: u64 = 1_780_000_000;

pub(crate) fn handle_publish(times: u32) {
    let mut session = Session::new(samples::identity(), Limits::default());
    let mut out = Outputs::default();
    let request = samples::publish();
    for _ in 0..times {
        session.handle(black_box(&request).clone(), NOW, &mut out);
        black_box(&out);
        out.effects.clear();
    }
}

pub(crate) fn meet_run(times: u32) {
    let limits = Arc::new(Limits::default());
    let mut sessions: Vec<(Session, JoinId)> =
        (0..SESSIONS).map(|_| subscribed(Arc::clone(&limits))).collect();
    let runs = (0..u64::from(times)).map(|run| (run * RUN + 1, (run + 1) * RUN));
    for (first, last) in runs {
        let (first, last) = (samples::position(first), samples::position(last));
        for (session, join) in &mut sessions {
            let meeting = session.meet(*join, first, last);
            assert!(matches!(black_box(meeting), Meeting::InStep { .. }), "runs come in order");
        }
    }
}

/// A session with one live subscription, at the beginning of its channel.
fn subscribed(limits: Arc<Limits>) -> (Session, JoinId) {
    let mut session = Session::new(samples::identity(), limits);
    let mut out = Outputs::default();
    let delta = Some(DeltaFormat::Fossil);
    let channel = samples::channel().channel;
    let command = Command::Subscribe { channel, since: Since::Now, delta, token: None };
    session.handle(Request { id: RequestId(1), command }, NOW, &mut out);
    let join = out.effects.iter().find_map(|effect| match effect {
        Effect::Join { join, .. } => Some(*join),
        _ => None,
    });
    let join = join.expect("a subscription begins with a join");
    let joined = Joined {
        recovery: Recovery::NotAsked,
        lost: None,
        position: samples::position(0),
        missed: Vec::new(),
        live: true,
        is_sampled: false,
    };
    session.joined(join, Ok(joined), &mut out);
    (session, join)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_publish_command_is_let_through() {
        let mut session = Session::new(samples::identity(), Limits::default());
        let mut out = Outputs::default();

        session.handle(samples::publish(), NOW, &mut out);

        assert!(matches!(out.effects[..], [Effect::Publish { .. }]));
        assert!(out.events.is_empty(), "{:?}", out.events);
    }
}
