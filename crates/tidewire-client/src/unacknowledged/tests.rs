use std::time::Duration;

use tidewire_model::{ErrorCode, Payload};

use super::*;

#[test]
fn what_is_refused_for_now_holds_back_whatever_comes_after_it() {
    let mut desk = Desk::default();
    desk.publish("room/1", "a");
    desk.refuse(1, "unavailable");

    desk.publish("room/1", "b");
    desk.publish("room/2", "other");

    assert_eq!(desk.take_sent(), [(1, "a"), (2, "other")]);
}

#[test]
fn a_held_channel_is_tried_with_its_oldest_publication_alone() {
    let mut desk = Desk::default();
    for id in ["a", "b", "c"] {
        desk.publish("room/1", id);
    }
    desk.refuse(1, "unavailable");
    desk.refuse(2, "unavailable");
    desk.take_sent();

    desk.wait();

    assert_eq!(desk.take_sent(), [(4, "a")]);
    assert_eq!(desk.unacknowledged.send_at(), None);
}

#[test]
fn once_the_oldest_is_stored_all_the_others_follow_in_order() {
    let mut desk = Desk::default();
    for id in ["a", "b", "c"] {
        desk.publish("room/1", id);
    }
    desk.refuse(1, "unavailable");
    desk.publish("room/1", "d");
    desk.wait();
    desk.take_sent();

    desk.acknowledge(4);

    // The answers to 2 and 3 are still to come: if they are refusals, "d" must not be first.
    assert_eq!(desk.take_sent(), [(5, "b"), (6, "c"), (7, "d")]);
}

#[test]
fn a_long_queue_follows_in_windows_that_grow_until_one_is_refused() {
    let mut desk = Desk::default();
    let ids: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    for id in &ids {
        desk.publish("room/1", id);
    }
    desk.refuse(1, "rate_exceeded");
    desk.take_sent();
    desk.wait();
    desk.acknowledge(41);

    let sent = |desk: &mut Desk| -> Vec<u32> {
        desk.take_sent().iter().map(|(_, id)| id.parse().expect("a number")).collect()
    };
    assert!(sent(&mut desk).into_iter().eq((0..1).chain(1..9)));
    for request in 42..50 {
        desk.acknowledge(request);
    }
    assert!(sent(&mut desk).into_iter().eq(9..25));
    desk.acknowledge(50);
    desk.refuse(51, "rate_exceeded");
    desk.refuse(52, "rate_exceeded");
    desk.publish("room/1", "40");
    assert!(sent(&mut desk).is_empty());

    desk.wait();
    assert_eq!(sent(&mut desk), [10]);
    desk.acknowledge(66);
    assert!(sent(&mut desk).into_iter().eq(11..19));
}

#[test]
fn what_had_been_stored_meanwhile_is_not_sent_again() {
    let mut desk = Desk::default();
    for id in ["a", "b", "c"] {
        desk.publish("room/1", id);
    }
    desk.refuse(1, "unavailable");
    desk.take_sent();

    let stored = desk.acknowledge(2);
    desk.wait();
    desk.acknowledge(4);

    assert_eq!(stored.as_ref().map(PublicationId::as_str), Some("b"));
    assert_eq!(desk.take_sent(), [(4, "a"), (5, "c")]);
}

#[test]
fn a_late_answer_to_what_was_sent_again_is_not_heeded() {
    let mut desk = Desk::default();
    desk.publish("room/1", "a");
    desk.publish("room/1", "b");
    desk.refuse(1, "unavailable");
    desk.wait();
    desk.acknowledge(3);
    desk.take_sent();

    assert_eq!(desk.refuse(2, "unavailable"), None);
    assert_eq!(desk.unacknowledged.send_at(), None);
}

#[test]
fn each_refusal_in_a_row_doubles_the_wait() {
    let mut desk = Desk::default();
    desk.publish("room/1", "a");
    desk.refuse(1, "unavailable");
    let first = desk.wait();

    desk.refuse(2, "unavailable");
    let second = desk.wait();

    assert_eq!(first, Duration::from_millis(100));
    assert_eq!(second, Duration::from_millis(200));
}

#[test]
fn what_is_refused_for_good_lets_the_others_pass() {
    let mut desk = Desk::default();
    desk.publish("room/1", "a");
    desk.refuse(1, "unavailable");
    desk.publish("room/1", "b");
    desk.wait();
    desk.take_sent();

    let refused = desk.refuse(2, "bad_payload");

    assert_eq!(refused, Some(Refused::ForGood(id("a"))));
    assert_eq!(desk.take_sent(), [(3, "b")]);
    assert_eq!(desk.unacknowledged.len(), 1);
}

#[test]
fn a_new_connection_gets_everything_in_order() {
    let mut desk = Desk::default();
    desk.publish("room/1", "a");
    desk.publish("room/2", "b");
    desk.refuse(1, "unavailable");
    desk.publish("room/1", "c");
    desk.take_sent();

    let wire = &mut desk.wire;
    desk.unacknowledged.begin_anew(|command| Some(wire.send(command)));

    assert_eq!(desk.take_sent(), [(3, "a"), (4, "b"), (5, "c")]);
    assert_eq!(desk.unacknowledged.send_at(), None);
}

#[test]
fn there_is_room_for_4096() {
    let mut desk = Desk::default();
    for number in 0..4_096 {
        desk.unacknowledged.check_room().expect("there is room");
        desk.publish("room/1", &number.to_string());
    }

    assert_eq!(desk.unacknowledged.check_room(), Err(Full));

    desk.acknowledge(1);
    assert_eq!(desk.unacknowledged.check_room(), Ok(()));
}

/// A queue, and what it sent over one connection.
struct Desk {
    unacknowledged: Unacknowledged,
    wire: Wire,
    now: Instant,
}

impl Default for Desk {
    fn default() -> Self {
        let unacknowledged = Unacknowledged::default();
        Self { unacknowledged, wire: Wire::default(), now: Instant::now() }
    }
}

impl Desk {
    fn publish(&mut self, channel: &str, name: &str) {
        let channel = Channel::parse(channel).expect("valid");
        let payload = Payload::binary("".into());
        let publish = Publish { channel, id: Some(id(name)), payload };
        self.unacknowledged.push(publish, |command| Some(self.wire.send(command)));
    }

    fn acknowledge(&mut self, request: u32) -> Option<PublicationId> {
        self.unacknowledged.acknowledge(RequestId(request), |command| Some(self.wire.send(command)))
    }

    fn refuse(&mut self, request: u32, name: &str) -> Option<Refused> {
        let code = ErrorCode::ALL.into_iter().find(|code| code.as_str() == name).expect("a code");
        let (name, message) = (name.to_owned(), String::new());
        let (code, retryable) = (code.number(), code.is_retryable());
        let refusal = Refusal { code, name, message, retryable, retry_after: None, limit: None };
        let send = |command| Some(self.wire.send(command));
        self.unacknowledged.refuse(RequestId(request), &refusal, self.now, send)
    }

    /// Waits until something is to be sent again; says how long that was.
    fn wait(&mut self) -> Duration {
        let at = self.unacknowledged.send_at().expect("something waits");
        let waited = at - self.now;
        self.now = at;
        self.unacknowledged.send_again(at, |command| Some(self.wire.send(command)));
        waited
    }

    fn take_sent(&mut self) -> Vec<(u32, &str)> {
        let earlier = std::mem::replace(&mut self.wire.taken, self.wire.sent.len());
        self.wire.sent[earlier..].iter().map(|(request, id)| (*request, id.as_str())).collect()
    }
}

#[derive(Default)]
struct Wire {
    sent: Vec<(u32, PublicationId)>,
    taken: usize,
}

impl Wire {
    fn send(&mut self, command: Command) -> RequestId {
        let Command::Publish(publish) = command else { panic!("not a publish: {command:?}") };
        let request = u32::try_from(self.sent.len()).expect("few") + 1;
        self.sent.push((request, publish.id.expect("each has one")));
        RequestId(request)
    }
}

fn id(name: &str) -> PublicationId {
    PublicationId::parse(name).expect("valid")
}
