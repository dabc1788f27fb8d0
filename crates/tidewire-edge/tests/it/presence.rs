//! Who is in a channel, as clients see it.

use std::collections::HashMap;
use std::time::Duration;

use http::Method;
use tidewire_auth::Claims;
use tidewire_client::{Codec, ServerEvent};
use tidewire_edge::EdgeConfig;
use tidewire_model::{
    Action, ChannelRule, ChannelRules, Command, Connect, Filter, MemberId, MemberPage, MemberWord,
    Permissions, PresenceChange, PresenceMode, PresenceRule, RequestId, Resume, SessionKind,
    SessionNonce, Tenant, TenantChannel,
};
use tidewire_store::Presence;
use tidewire_transport::http::request;

use crate::fleet::{
    API_KEY, Fleet, OTHER_API_KEY, TENANT, claims, sign, soon, tenants, token, until,
};
use crate::peer::{Peer, channel};
use crate::switched_store::Asked;

const ROOM: &str = "room/1";

#[tokio::test]
async fn clients_of_two_nodes_and_encodings_see_who_comes_and_goes() {
    let fleet = fleet(2, Duration::from_mins(1)).await;
    let mut watcher = Peer::connect(&fleet.nodes[1], "ann").await;
    watch(&mut watcher).await;
    let mut ada = Peer::dial_as(&fleet.nodes[0], Some(TENANT), Codec::Protobuf).await;
    ada.introduce(token("ada")).await;

    let id = entered(&mut ada, Some(r#"{"name": "Ada"}"#)).await;
    let joined = change(&mut watcher).await;
    assert_eq!(entered(&mut ada, Some("2")).await, id);
    let updated = change(&mut watcher).await;
    let page = page(&mut watcher).await;
    ada.send(Command::Leave { channel: channel(ROOM) });
    assert!(matches!(ada.next().await, ServerEvent::Left { .. }));
    let left = change(&mut watcher).await;

    assert_eq!((joined.joined[0].id, joined.joined[0].user.as_str()), (id, "ada"));
    let said = joined.joined[0].data.as_ref().expect("data").bytes();
    assert_eq!((said, joined.count), (&r#"{"name": "Ada"}"#.into(), Some(1)));
    assert_eq!(updated.updated[0].data, word("2"));
    assert_eq!((page.members.len(), page.occupancy.count, page.next), (1, 1, None));
    assert_eq!((left.left[0].id, left.count), (id, Some(0)));
    assert_eq!(offset(&left), offset(&joined) + 2);
    assert_eq!(page.occupancy.position.offset, offset(&updated));
}

#[tokio::test]
async fn a_client_that_goes_on_elsewhere_stays_a_member_and_goes_on_watching() {
    let fleet = fleet(2, Duration::from_mins(1)).await;
    let mut watcher = Peer::connect(&fleet.nodes[1], "ann").await;
    watch(&mut watcher).await;
    let (mut ada, connected) = Peer::connect_with(&fleet.nodes[0], token("ada")).await;
    watch(&mut ada).await;
    let id = entered(&mut ada, Some("1")).await;
    change(&mut watcher).await;
    // Each of the two has begun one session, and one has more to say of it.
    until(|| saves(&fleet) >= 3).await;
    let before = saves(&fleet);

    drop(ada);
    until(|| saves(&fleet) > before).await;
    let mut back = Peer::resume(&fleet.nodes[1], connected.resume_token, Vec::new()).await;
    assert!(back.connected().await.resumed);
    let again = change(&mut back).await;
    // It is in again once the node knows that it was told, by whatever it says.
    page(&mut back).await;
    soon(async { while owners(&fleet).await != ["node-1"] {} }).await;
    let mut bob = Peer::connect(&fleet.nodes[0], "bob").await;
    entered(&mut bob, None).await;

    assert!(again.lost, "{again:?}");
    for peer in [&mut watcher, &mut back] {
        let next = change(peer).await;
        assert_eq!(next.joined[0].user.as_str(), "bob");
        assert_eq!((next.updated, next.left, next.count), (vec![], vec![], Some(2)));
    }
    assert!(page(&mut back).await.members.iter().any(|member| member.id == id));
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_and_that_is_repeated_leaves_its_member_there() {
    let fleet = fleet(1, Duration::from_secs(5)).await;
    let node = &fleet.nodes[0];
    let there = |count| until(move || node.edge.connections() == count);
    let mut watcher = Peer::connect(node, "ann").await;
    watch(&mut watcher).await;
    let mut carl = Peer::connect(node, "carl").await;
    let carls = entered(&mut carl, None).await;
    change(&mut watcher).await;
    let (mut ada, connected) = Peer::connect_with(node, token("ada")).await;
    let adas = entered(&mut ada, None).await;
    change(&mut watcher).await;
    until(|| saves(&fleet) >= 4).await;
    drop(ada);
    there(2).await;
    let resume = Resume {
        token: connected.resume_token.expect("a session that is kept"),
        nonce: SessionNonce::from_bytes([9; 16]),
        positions: Vec::new(),
    };
    let connect = Command::Connect(Connect { resume: Some(resume), ..Connect::default() });

    let mut deaf = Peer::dial(node).await;
    deaf.send(connect.clone());
    deaf.flush().await;
    there(3).await;
    let mut back = Peer::dial(node).await;
    back.send(connect);
    assert!(back.connected().await.resumed);
    page(&mut back).await;
    drop(deaf);
    there(3).await;
    drop(carl);

    assert_eq!(change(&mut watcher).await.left[0].id, carls);
    let page = page(&mut back).await;
    assert_eq!(page.members.iter().map(|member| member.id).collect::<Vec<_>>(), [adas]);
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_after_the_debounce() {
    let fleet = fleet(1, Duration::from_millis(200)).await;
    let mut watcher = Peer::connect(&fleet.nodes[0], "ann").await;
    watch(&mut watcher).await;
    let mut ada = Peer::connect(&fleet.nodes[0], "ada").await;
    let id = entered(&mut ada, None).await;
    change(&mut watcher).await;

    drop(ada);

    assert_eq!(change(&mut watcher).await.left[0].id, id);
}

#[tokio::test]
async fn what_is_not_allowed_or_not_possible_is_refused_in_words() {
    let fleet = fleet(1, Duration::from_secs(5)).await;
    let mut peer = Peer::connect(&fleet.nodes[0], "ann").await;
    let everything = Filter::parse("**").expect("filter");
    let most = [Action::Subscribe, Action::Publish, Action::History];
    let permissions = Permissions::default().grant(everything, most);
    let silent = sign(TENANT, &Claims { permissions, ..claims(TENANT, "bob") });
    let (mut other, _) = Peer::connect_with(&fleet.nodes[0], silent).await;

    for name in [ROOM, "room/nobody-was-ever-here"] {
        for command in about(name) {
            other.send(command);
            assert_eq!(other.refused().await.1.name, "permission_denied");
        }
    }
    for command in about("lobby") {
        peer.send(command);
        assert_eq!(peer.refused().await.1.name, "no_presence");
    }
    peer.send(enter(Some(&format!("\"{}\"", "x".repeat(1_023)))));
    assert_eq!(peer.refused().await.1.name, "payload_too_large");
    peer.send_text(r#"{"id":9,"members":{"channel":"room/1","from":"rubbish"}}"#);
    assert_eq!(peer.refused().await.1.name, "bad_mark");
    peer.send_text(r#"{"id":9,"members":{"channel":"room/1","from":"000000000000:7"}}"#);
    assert_eq!(peer.refused().await.1.name, "bad_mark");
    peer.send_text(r#"{"id":9,"watch":{"channel":"$presence/room/1"}}"#);
    assert_eq!(peer.refused().await.1.name, "bad_channel");
    watch(&mut peer).await;
    peer.send(Command::Watch { channel: channel(ROOM) });
    assert_eq!(peer.refused().await.1.name, "already_subscribed");
    for number in 0..64 {
        peer.send(Command::Enter { channel: channel(&format!("room/x{number}")), word: None });
        assert!(matches!(peer.next().await, ServerEvent::Entered { .. }));
    }
    peer.send(enter(None));
    assert_eq!(peer.refused().await.1.name, "limit_exceeded");
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let fleet = fleet(1, Duration::from_mins(1)).await;
    let mut peers = Vec::new();
    for number in 0..30 {
        let mut peer = Peer::connect(&fleet.nodes[0], &format!("user-{number}")).await;
        entered(&mut peer, None).await;
        peers.push(peer);
    }

    let (mut found, mut from) = (Vec::new(), None);
    loop {
        peers[0].send(Command::Members { channel: channel(ROOM), from, limit: 7 });
        let page = read_page(&mut peers[0]).await;
        found.extend(page.members.into_iter().map(|member| member.user));
        from = page.next;
        if from.is_none() {
            break;
        }
    }

    found.sort();
    found.dedup();
    assert_eq!(found.len(), 30);
}

#[tokio::test]
async fn subscribers_are_counted_where_nobody_enters() {
    const COUNTED: &str = "count/1";
    let fleet = fleet(2, Duration::from_secs(5)).await;
    let mut watcher = Peer::connect(&fleet.nodes[1], "ann").await;
    watcher.send(Command::Watch { channel: channel(COUNTED) });
    assert!(matches!(watcher.next().await, ServerEvent::Watching { .. }));
    let mut ada = Peer::dial_as(&fleet.nodes[0], Some(TENANT), Codec::Protobuf).await;
    ada.introduce(token("ada")).await;
    ada.send(Command::Watch { channel: channel(COUNTED) });
    assert!(matches!(ada.next().await, ServerEvent::Watching { .. }));
    let mut bob = Peer::connect(&fleet.nodes[0], "bob").await;

    bob.subscribe(COUNTED).await;
    let first = [change(&mut watcher).await, change(&mut ada).await];
    bob.send(Command::Enter { channel: channel(COUNTED), word: None });
    let (_, refusal) = bob.refused().await;
    bob.send(Command::Members { channel: channel(COUNTED), from: None, limit: 10 });
    let page = read_page(&mut bob).await;
    drop(bob);
    let last = [change(&mut watcher).await, change(&mut ada).await];

    for (changes, count) in [(&first, 1), (&last, 0)] {
        assert!(changes.iter().all(|change| change.is_empty() && !change.lost), "{changes:?}");
        assert!(changes.iter().all(|change| change.count == Some(count)), "{changes:?}");
    }
    assert_eq!(refusal.name, "no_presence");
    assert_eq!((page.members, page.occupancy.count), (vec![], 1));
}

#[tokio::test]
async fn a_server_reads_over_http_who_is_there() {
    let fleet = fleet(1, Duration::from_mins(1)).await;
    let mut ada = Peer::connect(&fleet.nodes[0], "ada").await;
    let id = entered(&mut ada, Some("1.50")).await;
    let ask = async |path: &str, key: &str| {
        let url = format!("http://{}/v1/{TENANT}/channels/{path}", fleet.nodes[0].address);
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str())];
        let answer = soon(request(Method::GET, &url, &headers, "")).await.expect("an answer");
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).expect("text"))
    };

    let (status, list) = ask("room%2F1/presence?limit=5", API_KEY).await;
    let (_, count) = ask("room%2F1/occupancy", API_KEY).await;

    let member = format!(r#"{{"items":[{{"member":"{id}","user":"ada","data":1.50}}],"count":1,"#);
    assert_eq!(status, 200);
    assert!(list.starts_with(&member), "{list}");
    assert!(count.starts_with(r#"{"count":1,"epoch":""#), "{count}");
    for (path, key, status, code) in [
        ("room%2F1/presence", OTHER_API_KEY, 401, 1101),
        ("other%2F1/presence", API_KEY, 403, 1100),
        ("lobby/presence", API_KEY, 400, 1203),
        ("room%2F%2F1/occupancy", API_KEY, 400, 1002),
        ("room%2F1/presence?from=x", API_KEY, 400, 1007),
        ("room%2F1/presence?limit=x", API_KEY, 400, 1000),
        ("room%2F1/presence?shout=1", API_KEY, 400, 1000),
    ] {
        let (found, answer) = ask(path, key).await;
        assert_eq!(found, status, "{path}: {answer}");
        assert!(answer.contains(&format!("\"code\":{code},")), "{path}: {answer}");
    }
}

async fn fleet(nodes: usize, debounce: Duration) -> Fleet {
    let members = PresenceRule { debounce, ..PresenceRule::default() };
    let count = PresenceRule { mode: PresenceMode::Count, ..members };
    let rule = |pattern, presence| {
        let filter = Filter::parse(pattern).expect("filter");
        ChannelRule { presence: Some(presence), ..ChannelRule::new(filter) }
    };
    let rules = vec![rule("room/*", members), rule("count/*", count)];
    let tenant = Tenant::parse(TENANT).expect("tenant");
    let rules = ChannelRules::new(HashMap::from([(tenant, rules)]));
    let tenants = tenants(rules, SessionKind::default());
    Fleet::ruled(nodes, tenants.rules().clone(), (EdgeConfig::default(), tenants)).await
}

/// How often sessions were written.
fn saves(fleet: &Fleet) -> usize {
    fleet.sessions.asked().iter().filter(|asked| **asked == Asked::Save).count()
}

/// The nodes whose members there are.
async fn owners(fleet: &Fleet) -> Vec<String> {
    tokio::task::yield_now().await;
    let room = TenantChannel::new(Tenant::parse(TENANT).expect("tenant"), channel(ROOM));
    let page = fleet.presence.page(&room, None, 10).await.expect("a page");
    page.entries.into_iter().map(|(life, _)| life.node.to_string()).collect()
}

fn about(name: &str) -> [Command; 3] {
    [
        Command::Watch { channel: channel(name) },
        Command::Enter { channel: channel(name), word: None },
        Command::Members { channel: channel(name), from: None, limit: 1 },
    ]
}

fn enter(text: Option<&str>) -> Command {
    Command::Enter { channel: channel(ROOM), word: text.and_then(word) }
}

fn word(text: &str) -> Option<MemberWord> {
    MemberWord::parse(text.to_owned().into()).ok()
}

async fn entered(peer: &mut Peer, text: Option<&str>) -> MemberId {
    let wanted = peer.send(enter(text));
    loop {
        match peer.next().await {
            ServerEvent::Entered { request, member, .. } if request == wanted => return member,
            ServerEvent::Presence { .. } => {}
            other => unreachable!("not entered: {other:?}"),
        }
    }
}

async fn watch(peer: &mut Peer) {
    let wanted: RequestId = peer.send(Command::Watch { channel: channel(ROOM) });
    match peer.next().await {
        ServerEvent::Watching { request, .. } if request == wanted => {}
        other => unreachable!("not watching: {other:?}"),
    }
}

/// The next change, alone in its event.
async fn change(peer: &mut Peer) -> PresenceChange {
    match peer.next().await {
        ServerEvent::Presence { changes, .. } if changes.len() == 1 => changes[0].clone(),
        other => unreachable!("not one change: {other:?}"),
    }
}

async fn page(peer: &mut Peer) -> MemberPage {
    peer.send(Command::Members { channel: channel(ROOM), from: None, limit: 100 });
    read_page(peer).await
}

async fn read_page(peer: &mut Peer) -> MemberPage {
    loop {
        match peer.next().await {
            ServerEvent::Members { page, .. } => return page,
            ServerEvent::Presence { .. } => {}
            other => unreachable!("no page: {other:?}"),
        }
    }
}

fn offset(change: &PresenceChange) -> u64 {
    change.position.expect("a position").offset
}
