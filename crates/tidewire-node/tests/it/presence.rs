//! Who is in a channel, over nodes that come and go and a store that does.

use std::sync::Arc;
use std::time::Duration;

use tidewire_hub::{Inbox, QueueLimits, outbox};
use tidewire_model::{
    ChannelRule, ConnectionId, Delivery, Event, Filter, Generation, Member, MemberId, MemberWord,
    PresenceChange, PresenceRule, RequestId, SessionId, TenantChannel, UserId,
};
use tidewire_node::{Answer, Ask, Away, Depart, Enter, Node, OwnedSession};
use tidewire_store::{Life, Membership, Move, NodeLease, Presence, SessionKey};
use tokio::time::{Instant, sleep, timeout};

use crate::fleet::{Fleet, Subscriber, channel, report, take};

const DEBOUNCE: Duration = Duration::from_secs(5);
const ROOM: &str = "room/1";

#[tokio::test(start_paused = true)]
async fn who_watches_hears_of_those_who_come_say_something_else_and_go_in_order() {
    let Fleet { nodes: [a, b], .. } = &fleet();
    let [mut here, mut there] = [watch(a).await, watch(b).await];

    let answers = [
        enter(a, 1, 1, None).await,
        enter(b, 2, 1, Some("1")).await,
        enter(a, 1, 1, Some("2")).await,
        enter(a, 1, 1, Some("2")).await,
        depart(b, 2, 1).await,
    ];

    for answer in &answers[..4] {
        assert!(matches!(answer, Event::Entered { .. }), "{answer:?}");
    }
    assert!(matches!(answers[4], Event::Left { .. }));
    for watcher in [&mut here, &mut there] {
        let heard = hear(watcher, 4).await;
        let joined = [member(1, None), member(2, Some("1"))];
        assert_eq!([&heard[0].joined[0], &heard[1].joined[0]], [&joined[0], &joined[1]]);
        assert_eq!(heard[2].updated, [member(1, Some("2"))]);
        assert_eq!(heard[3].left[0].id, id(2));
        assert_eq!(offsets(&heard), [0, 1, 2, 3]);
        assert_eq!(heard.iter().map(|one| one.count).collect::<Vec<_>>(), [1, 2, 2, 1].map(Some));
    }
    let page = a.members_of(&channel(ROOM), None, 10).await.expect("a page");
    assert_eq!((page.members, page.occupancy.count), (vec![member(1, Some("2"))], 1));
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_presence_is_entered_by_nobody() {
    let Fleet { nodes: [a], presence, .. } = &fleet();

    let answer = enter_at(a, &channel("lobby"), (1, 1), None).await;

    let Event::Failed { failure, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(failure.code.as_str(), "no_presence");
    assert_eq!(presence.applied(), 0);
}

#[tokio::test(start_paused = true)]
async fn going_on_at_another_node_is_heard_by_nobody() {
    let Fleet { nodes: [a, b], .. } = &fleet();
    enter(a, 1, 1, None).await;
    let mut watcher = watch(a).await;

    away(a, 1, 1);
    enter(b, 1, 2, None).await;
    away(a, 1, 1);
    sleep(10 * DEBOUNCE).await;

    assert_eq!(hear_ready(&mut watcher), []);
    assert_eq!(b.occupancy(&channel(ROOM)).await.expect("a count").count, 1);
}

#[tokio::test(start_paused = true)]
async fn going_on_at_the_same_node_is_heard_by_nobody_whichever_connection_speaks_last() {
    let Fleet { nodes: [a], .. } = &fleet();
    enter(a, 1, 1, None).await;
    let mut watcher = watch(a).await;

    enter(a, 1, 2, None).await;
    away(a, 1, 1);
    sleep(10 * DEBOUNCE).await;

    assert_eq!(hear_ready(&mut watcher), []);
    assert!(matches!(depart(a, 1, 1).await, Event::Failed { .. }), "it has another owner");
    assert_eq!(a.occupancy(&channel(ROOM)).await.expect("a count").count, 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_lost_leaves_after_the_debounce_and_later_while_the_node_drains() {
    let Fleet { nodes: [a], .. } = &fleet();
    enter(a, 1, 1, None).await;
    enter(a, 2, 1, None).await;
    let mut watcher = watch(a).await;
    let lost_at = Instant::now();

    away(a, 1, 1);
    hear(&mut watcher, 1).await;
    let first = lost_at.elapsed();
    let drain = Duration::from_secs(30);
    ask(
        a,
        Ask::Away(Box::new(Away {
            at_least: drain,
            channel: channel(ROOM),
            session: owned(2, 1),
            user: user(2),
        })),
    );
    let drained_at = Instant::now();
    let heard = hear(&mut watcher, 1).await;

    assert!((DEBOUNCE..DEBOUNCE + Duration::from_secs(1)).contains(&first), "{first:?}");
    let second = drained_at.elapsed();
    assert!((drain..drain + Duration::from_secs(1)).contains(&second), "{second:?}");
    assert_eq!((heard[0].left[0].id, heard[0].count), (id(2), Some(0)));
}

#[tokio::test(start_paused = true)]
async fn without_a_store_who_enters_is_told_so_and_joins_when_it_is_back() {
    let Fleet { nodes: [a], presence, .. } = &fleet();
    let mut watcher = watch(a).await;
    presence.switch(false);

    let asked_at = Instant::now();
    let answer = enter(a, 1, 1, None).await;
    let waited = asked_at.elapsed();
    presence.switch(true);
    let heard = hear(&mut watcher, 1).await;

    let Event::Failed { failure, .. } = answer else { panic!("{answer:?}") };
    assert!(failure.code.is_retryable());
    assert!((4..9).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(heard[0].joined, [member(1, None)]);
    assert!(matches!(enter(a, 1, 1, None).await, Event::Entered { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_network_loses_is_told_as_a_loss_in_ten_seconds() {
    let Fleet { nodes: [a, b], network, .. } = &fleet();
    let mut watcher = watch(b).await;
    enter(a, 1, 1, None).await;
    hear(&mut watcher, 1).await;

    network.lose_next(1);
    enter(a, 2, 1, None).await;
    let lost_at = Instant::now();
    let heard = hear(&mut watcher, 1).await;

    assert_eq!(heard, [PresenceChange::loss()]);
    assert!(lost_at.elapsed() < Duration::from_secs(13), "{:?}", lost_at.elapsed());
    sleep(Duration::from_mins(1)).await;
    assert_eq!(hear_ready(&mut watcher), [], "one loss is told once");
}

#[tokio::test(start_paused = true)]
async fn a_failover_that_lost_everything_is_mended_by_those_who_are_here() {
    let Fleet { nodes: [a, b], presence, .. } = &fleet();
    for session in 1..=3 {
        enter(a, session, 1, None).await;
        enter(b, 10 + session, 1, None).await;
    }
    depart(a, 3, 1).await;

    presence.fail_over();
    sleep(Duration::from_secs(5)).await;

    let page = a.members_of(&channel(ROOM), None, 100).await.expect("a page");
    let mut found: Vec<_> = page.members.into_iter().map(|member| member.id).collect();
    found.sort();
    let mut expected = [1, 2, 11, 12, 13].map(id);
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn members_of_a_node_that_is_gone_leave_once_and_those_who_moved_on_stay() {
    let fleet: Fleet<3> = fleet();
    let Fleet { nodes: [a, b, _], presence, membership, .. } = &fleet;
    let dead =
        Life { started_at_ms: 7, node: tidewire_model::NodeId::parse("gone").expect("valid") };
    let lease =
        NodeLease { node: dead.node.clone(), started_at_ms: 7, ..report(dead.node.clone())() };
    membership.renew(&lease, Duration::from_secs(6)).await.expect("renewed");
    presence.lives(Some(&dead)).await.expect("noted");
    let enters: Vec<_> = (1..=40).map(|of| raw_enter(of, 1)).collect();
    presence.apply(&channel(ROOM), &dead, &enters, DEBOUNCE).await.expect("entered");
    enter(b, 40, 2, None).await;
    let [mut here, mut there] = [watch(a).await, watch(b).await];
    sleep(Duration::from_secs(2)).await;

    let heard = hear_for(&mut here, Duration::from_secs(40)).await;

    let mut left: Vec<_> = heard.iter().flat_map(|change| &change.left).map(|one| one.id).collect();
    left.sort();
    let mut expected: Vec<_> = (1..40).map(id).collect();
    expected.sort();
    assert_eq!(left, expected);
    assert!(!presence.lives(None).await.expect("lives").contains(&dead));
    assert_eq!(a.occupancy(&channel(ROOM)).await.expect("a count").count, 1);
    assert!(hear_ready(&mut there).iter().map(|change| change.left.len()).sum::<usize>() == 39);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_brings_its_members_back_but_not_those_who_moved() {
    let Fleet { nodes: [a, b], presence, .. } = &fleet();
    let room = channel(ROOM);
    for session in 1..=3 {
        enter(a, session, 1, None).await;
    }
    // What the others do with a node that they take for dead.
    let life = Life { node: a.id().clone(), started_at_ms: 0 };
    presence.orphan(&room, &life, 0, Duration::ZERO).await.expect("marked");
    presence.expire(0, 100).await.expect("expired");
    enter(b, 3, 2, Some("moved")).await;
    presence.switch(false);
    sleep(Duration::from_secs(20)).await;
    presence.switch(true);
    sleep(Duration::from_secs(8)).await;

    let page = presence.page(&room, None, 10).await.expect("a page");

    let mut found: Vec<_> =
        page.entries.iter().map(|(life, entry)| (entry.session, life.node.clone())).collect();
    found.sort();
    let expected = [(1, a), (2, a), (3, b)].map(|(of, node)| (session(of), node.id().clone()));
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_says_who_is_away_before_it_is_gone() {
    let fleet: Fleet<1> = fleet();
    let presence = Arc::clone(&fleet.presence);
    enter(&fleet.nodes[0], 1, 1, None).await;
    away(&fleet.nodes[0], 1, 1);

    timeout(Duration::from_secs(10), fleet.stop()).await.expect("it stops");

    sleep(2 * DEBOUNCE).await;
    let gone = presence.expire(0, 10).await.expect("expired");
    assert_eq!(gone.channels[0].sessions.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_without_a_store_stops_all_the_same() {
    let fleet: Fleet<1> = fleet();
    enter(&fleet.nodes[0], 1, 1, None).await;
    fleet.presence.switch(false);
    away(&fleet.nodes[0], 1, 1);

    timeout(Duration::from_secs(10), fleet.stop()).await.expect("it stops");
}

#[tokio::test(start_paused = true)]
async fn many_who_come_at_once_are_told_in_few_calls_and_in_one_order() {
    let Fleet { nodes: [a], presence, .. } = &fleet();
    let mut watcher = watch(a).await;
    let (outbox, mut inbox) = outbox(QueueLimits::default());

    for of in 1..=200 {
        let connection = ConnectionId(of.into());
        let answer = Some(Answer { connection, request: RequestId(1), outbox: outbox.clone() });
        let (session, user) = (owned(of, 1), user(of));
        ask(
            a,
            Ask::Enter(Box::new(Enter {
                channel: channel(ROOM),
                session,
                user,
                word: None,
                answer,
            })),
        );
    }
    let mut answers = Vec::new();
    while answers.len() < 200 {
        take(&mut inbox, &mut answers, 200).await;
    }
    let mut heard = Vec::new();
    while heard.iter().map(|change: &PresenceChange| change.joined.len()).sum::<usize>() < 200 {
        heard.extend(hear(&mut watcher, 1).await);
    }

    assert!(presence.applied() <= 4, "{}", presence.applied());
    let mut next = None;
    for change in &heard {
        let last = change.position.expect("a position").offset;
        let first = last + 1 - change.len() as u64;
        assert!(next.is_none_or(|next| next == first), "{next:?} {first}");
        next = Some(last + 1);
    }
}

fn fleet<const N: usize>() -> Fleet<N> {
    let filter = Filter::parse("room/*").expect("filter");
    let presence = Some(PresenceRule { debounce: DEBOUNCE });
    Fleet::with_rules(&[ChannelRule { presence, ..ChannelRule::new(filter) }])
}

async fn watch(node: &Node) -> Subscriber {
    let reserved = channel(ROOM).channel.presence().expect("short enough");
    Subscriber::live_at(node, TenantChannel::new(channel(ROOM).tenant, reserved)).await
}

async fn hear(watcher: &mut Subscriber, count: usize) -> Vec<PresenceChange> {
    let heard = timeout(Duration::from_mins(2), watcher.hear(count)).await.expect("it is heard");
    heard.iter().map(change).collect()
}

async fn hear_for(watcher: &mut Subscriber, time: Duration) -> Vec<PresenceChange> {
    sleep(time).await;
    hear_ready(watcher)
}

fn hear_ready(watcher: &mut Subscriber) -> Vec<PresenceChange> {
    let before = watcher.heard.len();
    watcher.hear_ready();
    watcher.heard[before..].iter().map(change).collect()
}

fn change(delivery: &Delivery) -> PresenceChange {
    let Delivery::Publication(envelope) = delivery else { unreachable!("{delivery:?}") };
    PresenceChange::of(&envelope.payload).expect("a change")
}

/// Of changes, how far after the first each stands.
fn offsets(changes: &[PresenceChange]) -> Vec<u64> {
    let all: Vec<_> = changes.iter().filter_map(|one| Some(one.position?.offset)).collect();
    all.iter().map(|offset| offset - all[0]).collect()
}

async fn enter(node: &Node, of: u8, generation: u64, word: Option<&'static str>) -> Event {
    enter_at(node, &channel(ROOM), (of, generation), word).await
}

async fn enter_at(
    node: &Node,
    channel: &TenantChannel,
    (of, generation): (u8, u64),
    word: Option<&'static str>,
) -> Event {
    let (answer, mut inbox) = answer();
    let word = word.map(|text| MemberWord::parse(text_of(text).into()).expect("JSON"));
    let (session, user) = (owned(of, generation), user(of));
    ask(
        node,
        Ask::Enter(Box::new(Enter { channel: channel.clone(), session, user, word, answer })),
    );
    told(&mut inbox).await
}

async fn depart(node: &Node, of: u8, generation: u64) -> Event {
    let (answer, mut inbox) = answer();
    let (session, user) = (owned(of, generation), user(of));
    ask(node, Ask::Depart(Box::new(Depart { channel: channel(ROOM), session, user, answer })));
    told(&mut inbox).await
}

fn away(node: &Node, of: u8, generation: u64) {
    let (session, user, at_least) = (owned(of, generation), user(of), Duration::ZERO);
    ask(node, Ask::Away(Box::new(Away { channel: channel(ROOM), session, user, at_least })));
}

fn ask(node: &Node, ask: Ask) {
    node.ask(ask).expect("room");
}

fn answer() -> (Option<Answer>, Inbox) {
    let (outbox, inbox) = outbox(QueueLimits::default());
    (Some(Answer { connection: ConnectionId(1), request: RequestId(1), outbox }), inbox)
}

async fn told(inbox: &mut Inbox) -> Event {
    let mut batch = Vec::new();
    take(inbox, &mut batch, 1).await;
    match batch.pop() {
        Some(Delivery::Told { event, .. }) => *event,
        other => unreachable!("{other:?}"),
    }
}

fn raw_enter(of: u8, generation: u64) -> Move {
    let age = tidewire_store::Age { generation: Generation(generation), version: 1 };
    let entry = tidewire_store::Entry { session: session(of), user: user(of), word: None };
    Move::Enter { entry, age }
}

fn member(of: u8, word: Option<&'static str>) -> Member {
    let data = word.map(|text| MemberWord::parse(text_of(text).into()).expect("JSON"));
    Member { id: id(of), user: user(of), data }
}

fn text_of(word: &str) -> String {
    format!("\"{word}\"")
}

fn id(of: u8) -> MemberId {
    MemberId::of(&session(of))
}

fn user(of: u8) -> UserId {
    UserId::parse(&format!("user {of}")).expect("valid")
}

fn owned(of: u8, generation: u64) -> OwnedSession {
    let key = SessionKey { tenant: channel(ROOM).tenant, session: session(of) };
    OwnedSession { key, generation: Generation(generation) }
}

fn session(of: u8) -> SessionId {
    SessionId::from_bytes([of; 16])
}
