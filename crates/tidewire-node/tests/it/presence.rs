//! Who is in a channel, over nodes that come and go and a store that does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidewire_hub::{Inbox, QueueLimits, outbox};
use tidewire_model::{
    ChannelRule, ConnectionId, Delivery, Event, Filter, Generation, LiveRules, Member, MemberId,
    MemberWord, NodeId, PresenceChange, PresenceMode, PresenceRule, RequestId, SessionId,
    TenantChannel, UserId,
};
use tidewire_node::{Answer, Ask, Away, Depart, Enter, Node, OwnedSession};
use tidewire_store::{Life, Membership, Move, NodeLease, Presence, SessionKey, Terms};
use tokio::time::{Instant, sleep, timeout};

use crate::fleet::{Fleet, Subscriber, channel, report, take};

const DEBOUNCE: Duration = Duration::from_secs(5);
const ROOM: &str = "room/1";
const TERMS: Terms = Terms { debounce: DEBOUNCE, listed: 1_000 };

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
    let dead = Life { started_at_ms: 7, node: NodeId::parse("gone").expect("valid") };
    let lease =
        NodeLease { node: dead.node.clone(), started_at_ms: 7, ..report(dead.node.clone())() };
    membership.renew(&lease, Duration::from_secs(6)).await.expect("renewed");
    presence.lives(Some(&dead)).await.expect("noted");
    let enters: Vec<_> = (1..=40).map(|of| raw_enter(of, 1)).collect();
    presence.apply(&channel(ROOM), &dead, &enters, TERMS).await.expect("entered");
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
async fn members_that_others_mark_while_their_node_comes_back_stay() {
    let Fleet { nodes: [a], presence, .. } = &fleet();
    let rooms: Vec<_> = (0..40).map(|of| channel(&format!("room/{of}"))).collect();
    for room in &rooms {
        enter_at(a, room, (1, 1), None).await;
    }
    presence.switch(false);
    sleep(Duration::from_secs(20)).await;
    presence.switch(true);
    sleep(Duration::from_secs(2)).await;

    let life = Life { node: a.id().clone(), started_at_ms: 0 };
    for room in &rooms {
        presence.orphan(room, &life, 0, DEBOUNCE).await.expect("marked");
    }
    sleep(2 * DEBOUNCE).await;

    let expired = presence.expire(0, 100).await.expect("expired");
    let standings = presence.occupancies(&rooms).await.expect("counted");
    assert_eq!(expired.channels, []);
    assert!(standings.iter().all(|standing| standing.occupancy.count == 1), "{standings:?}");
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

#[tokio::test(start_paused = true)]
async fn of_a_large_channel_only_the_number_is_told_once_a_second_and_the_list_is_paged() {
    let Fleet { nodes: [a, b], .. } =
        &Fleet::with_rules(&[rule(PresenceRule { listed: 50, ..PresenceRule::default() })]);
    let mut watcher = watch(a).await;
    for of in 1..=50 {
        enter(a, of, 1, None).await;
    }
    let listed = hear(&mut watcher, 50).await;

    let began = Instant::now();
    for of in 51..=250 {
        enter(if of % 2 == 0 { a } else { b }, of, 1, None).await;
        sleep(Duration::from_millis(20)).await;
    }
    let counted = hear_for(&mut watcher, Duration::from_secs(2)).await;
    let seconds = began.elapsed().as_secs();
    let (mut found, mut from) = (BTreeSet::new(), None);
    loop {
        let page = b.members_of(&channel(ROOM), from, 100).await.expect("a page");
        found.extend(page.members.iter().map(|member| member.id));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    for of in 1..=211 {
        depart(if of <= 50 || of % 2 == 0 { a } else { b }, of, 1).await;
    }
    let gone = hear_for(&mut watcher, Duration::from_secs(2)).await;

    assert!(listed.iter().all(|change| change.joined.len() == 1));
    assert!(counted.iter().all(|change| change.is_empty() && !change.lost), "{counted:?}");
    let times = u64::try_from(counted.len()).expect("few");
    assert!((4..=seconds + 2).contains(&times), "{times} in {seconds} s");
    assert_eq!(counted.last().and_then(|change| change.count), Some(250));
    assert_eq!(found.len(), 250);
    let again = gone.iter().position(|change| change.lost).expect("names are told again");
    assert_eq!(gone[again].count, Some(39));
    assert!(gone[..again].iter().all(PresenceChange::is_empty));
    assert_eq!(a.occupancy(&channel(ROOM)).await.expect("a count").count, 39);
}

#[tokio::test(start_paused = true)]
async fn subscribers_of_all_nodes_are_counted_and_told_to_those_who_watch() {
    let Fleet { nodes: [a, b, c], .. } = &Fleet::with_rules(&[counting()]);
    let mut watcher = watch(c).await;
    let mut subscribers = Vec::new();
    for _ in 0..5 {
        subscribers.push(Subscriber::live(a, ROOM).await);
        subscribers.push(Subscriber::live(b, ROOM).await);
    }

    let all = hear_for(&mut watcher, Duration::from_secs(5)).await;
    subscribers.drain(..4).for_each(|subscriber| subscriber.leave());
    let fewer = hear_for(&mut watcher, Duration::from_secs(5)).await;
    let answer = enter(a, 1, 1, None).await;
    subscribers.drain(..).for_each(|subscriber| subscriber.leave());
    let none = hear_for(&mut watcher, Duration::from_secs(5)).await;

    for (told, expected) in [(&all, 10), (&fewer, 6), (&none, 0)] {
        assert_eq!(told.last().and_then(|change| change.count), Some(expected), "{told:?}");
        assert!(told.len() <= 6 && told.iter().all(PresenceChange::is_empty), "{told:?}");
    }
    assert!(all.iter().all(|change| change.count > Some(0)), "occupied once: {all:?}");
    assert_eq!(none.iter().filter(|change| change.count == Some(0)).count(), 1, "vacated once");
    assert!(matches!(answer, Event::Failed { .. }), "nobody enters: {answer:?}");
}

#[tokio::test(start_paused = true)]
async fn numbers_of_subscribers_survive_a_failover_and_end_with_their_node() {
    let fleet: Fleet<2> = Fleet::with_rules(&[counting()]);
    let Fleet { nodes: [a, b], presence, membership, .. } = &fleet;
    let gone = Life { node: NodeId::parse("gone").expect("valid"), started_at_ms: 7 };
    let lease =
        NodeLease { node: gone.node.clone(), started_at_ms: 7, ..report(gone.node.clone())() };
    membership.renew(&lease, Duration::from_secs(6)).await.expect("renewed");
    let _here = [Subscriber::live(a, ROOM).await, Subscriber::live(b, ROOM).await];
    sleep(Duration::from_secs(3)).await;

    presence.fail_over();
    presence.lives(Some(&gone)).await.expect("noted");
    presence.tally(&channel(ROOM), &gone, 40).await.expect("said");
    sleep(Duration::from_secs(5)).await;
    let with_all = a.occupancy(&channel(ROOM)).await.expect("a count").count;
    let mut watcher = watch(b).await;
    let told = hear_for(&mut watcher, Duration::from_secs(30)).await;

    assert_eq!(with_all, 42);
    assert_eq!(told.last().and_then(|change| change.count), Some(2), "{told:?}");
    assert!(!presence.lives(None).await.expect("lives").contains(&gone));
}

#[tokio::test(start_paused = true)]
async fn subscribers_that_a_failover_brings_back_are_counted_no_more() {
    let rules = LiveRules::default();
    rules.replace(crate::fleet::rules(vec![counting()]));
    let Fleet { nodes: [a], presence, .. } = &Fleet::with_live_rules(|_| rules.clone());
    let _here = Subscriber::live(a, ROOM).await;
    sleep(Duration::from_secs(3)).await;
    rules.replace(crate::fleet::rules(vec![]));
    sleep(Duration::from_secs(5)).await;
    let before = a.occupancy(&channel(ROOM)).await.expect("a count").count;

    presence.fail_over();
    let life = Life { node: a.id().clone(), started_at_ms: 0 };
    let back = presence.tally(&channel(ROOM), &life, 1).await.expect("said").occupancy.count;
    sleep(Duration::from_secs(5)).await;
    let after = a.occupancy(&channel(ROOM)).await.expect("a count").count;

    assert_eq!([before, back, after], [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_comes_and_goes_begins_and_ends_to_count() {
    let live = LiveRules::default();
    let Fleet { nodes: [a], .. } = &Fleet::with_live_rules(|_| live.clone());
    let _here = Subscriber::live(a, ROOM).await;
    let mut counts = Vec::new();

    for rules in [vec![], vec![counting()], vec![]] {
        live.replace(crate::fleet::rules(rules));
        sleep(Duration::from_secs(3)).await;
        counts.push(a.occupancy(&channel(ROOM)).await.expect("a count").count);
    }

    assert_eq!(counts, [0, 1, 0]);
}

fn counting() -> ChannelRule {
    rule(PresenceRule { mode: PresenceMode::Count, ..PresenceRule::default() })
}

fn fleet<const N: usize>() -> Fleet<N> {
    Fleet::with_rules(&[rule(PresenceRule::default())])
}

fn rule(presence: PresenceRule) -> ChannelRule {
    let filter = Filter::parse("room/*").expect("filter");
    let presence = Some(PresenceRule { debounce: DEBOUNCE, ..presence });
    ChannelRule { presence, ..ChannelRule::new(filter) }
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
