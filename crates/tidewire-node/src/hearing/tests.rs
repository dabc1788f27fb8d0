use tidewire_store::NodeState;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_node_that_beats_is_heard_and_one_that_falls_silent_is_missed_after_three_seconds() {
    let (mut hearing, start) = hearing(&[lease("b"), lease("c")]);

    for second in 1..=10 {
        hearing.heard(&node("b"), after(start, second));
    }

    assert_eq!(hearing.judge(true, after(start, 3)), None);
    assert_eq!(hearing.judge(true, after(start, 4)), Some(silence(&["c"])));
    assert_eq!(hearing.judge(true, after(start, 14)), Some(silence(&["b", "c"])));
    hearing.heard(&node("b"), after(start, 14));
    hearing.heard(&node("c"), after(start, 14));
    assert_eq!(hearing.judge(true, after(start, 15)), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_late_has_its_time_to_begin() {
    let (mut hearing, start) = hearing(&[]);
    // Too early to be a member: it is not remembered.
    hearing.heard(&node("b"), start);

    hearing.expect(&[lease("b")], after(start, 60));
    hearing.expect(&[lease("b")], after(start, 62));

    assert_eq!(hearing.judge(true, after(start, 63)), None);
    assert_eq!(hearing.judge(true, after(start, 64)), Some(silence(&["b"])));
}

#[tokio::test(start_paused = true)]
async fn nobody_misses_a_node_whose_lease_has_ended() {
    let (mut hearing, start) = hearing(&[lease("b")]);
    assert_eq!(hearing.judge(true, after(start, 5)), Some(silence(&["b"])));

    hearing.expect(&[lease("a")], after(start, 6));

    assert_eq!(hearing.judge(true, after(start, 60)), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_does_not_wait_for_its_own_beat_nor_for_a_release_that_has_none() {
    let older = NodeLease { beats: false, ..lease("old") };

    let (hearing, start) = hearing(&[lease("a"), older]);

    assert_eq!(hearing.judge(true, after(start, 60)), None);
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_a_node_is_deaf_at_once_unless_it_is_alone() {
    let (mut hearing, start) = hearing(&[lease("a")]);

    assert_eq!(hearing.judge(false, start), None);
    hearing.expect(&[lease("a"), lease("b")], start);
    assert_eq!(hearing.judge(false, start), Some(Deafness::Disconnected));
}

#[test]
fn what_is_wrong_is_said_with_names() {
    assert_eq!(silence(&["b", "c"]).to_string(), "nothing is heard from b c");
    assert_eq!(Deafness::Disconnected.to_string(), "no connection to the broker");
}

fn hearing(leases: &[NodeLease]) -> (Hearing, Instant) {
    let (mut hearing, start) = (Hearing::new(node("a")), Instant::now());
    hearing.expect(leases, start);
    (hearing, start)
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn silence(names: &[&str]) -> Deafness {
    Deafness::Silence(names.iter().map(|name| node(name)).collect())
}

fn lease(name: &str) -> NodeLease {
    NodeLease {
        node: node(name),
        slot: None,
        state: NodeState::Ready,
        weight: 100,
        connections: 0,
        started_at_ms: 0,
        beats: true,
        load: tidewire_store::NodeLoad::default(),
        url: None,
    }
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).expect("node")
}
