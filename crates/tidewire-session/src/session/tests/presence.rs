//! Watching who is in a channel, and being there.

use tidewire_model::MemberWord;

use super::*;
use crate::SavedMember;

#[test]
fn who_watches_is_subscribed_to_the_channel_of_presence_and_to_no_other() {
    let mut client = Client::new();

    client.send(request(1, Command::Watch { channel: channel("a") }));
    let join = client.only_join_of(&reserved("a"));
    client.joined(join, at(7, &[], true));
    client.send(request(2, Command::Watch { channel: channel("a") }));
    client.send(request(3, Command::Unwatch { channel: channel("b") }));

    let Some(Event::Subscribed(subscribed)) = client.events().first() else { panic!() };
    assert_eq!((subscribed.request, &subscribed.channel), (Some(RequestId(1)), &reserved("a")));
    assert_eq!(client.refusals(), [ErrorCode::AlreadySubscribed, ErrorCode::NotSubscribed]);
    let snapshot = client.session.snapshot();
    assert_eq!(snapshot.subscriptions, []);
    assert_eq!(snapshot.presence.watched, [channel("a")]);

    client.send(request(4, Command::Unwatch { channel: channel("a") }));
    assert!(client.session.snapshot().presence.is_empty());
}

#[test]
fn what_a_session_is_a_member_of_is_kept_and_taken_up() {
    let mut client = Client::new();
    client.send(enter(1, "a", Some("1")));
    client.send(enter(2, "b", None));
    client.send(enter(3, "a", Some("2")));
    client.send(request(4, Command::Watch { channel: channel("a") }));
    client.send(request(5, Command::Leave { channel: channel("b") }));
    client.send(request(6, Command::Leave { channel: channel("c") }));
    let snapshot = client.session.snapshot();

    let mut out = Outputs::default();
    let resumed = Session::resume(snapshot.clone(), Vec::new(), Limits::default(), &mut out);

    let entered = vec![SavedMember { channel: channel("a"), word: word("2") }];
    let kept = SavedPresence { watched: vec![channel("a")], entered };
    assert_eq!(snapshot.presence, kept);
    assert_eq!(resumed.snapshot().presence, kept);
    assert_eq!(resumed.entered().collect::<Vec<_>>(), [&channel("a")]);
    let again = Effect::Enter { request: None, channel: channel("a"), word: word("2") };
    assert!(out.effects.contains(&again), "{:?}", out.effects);
    let asked = |effect: &&Effect| matches!(effect, Effect::Enter { .. } | Effect::Depart { .. });
    let effects: Vec<_> = client.effects().iter().filter(asked).cloned().collect();
    let depart = Effect::Depart { request: Some(RequestId(5)), channel: channel("b") };
    assert_eq!((effects.len(), effects.last()), (4, Some(&depart)));
    let left = |event: &Event| matches!(event, Event::Left { request: RequestId(6), .. });
    assert!(client.events().iter().any(left), "leaving twice is leaving");
}

#[test]
fn a_session_that_is_a_member_nowhere_keeps_nothing_of_it() {
    let mut client = Client::new();

    client.send(enter(1, "a", Some("1")));
    assert!(client.session.rare.is_some());
    client.send(request(2, Command::Leave { channel: channel("a") }));

    assert!(client.session.rare.is_none());
    assert!(client.session.snapshot().presence.is_empty());
}

#[test]
fn without_the_right_nobody_is_seen_or_sees() {
    let everything = Filter::parse("**").expect("filter");
    let most = [Action::Subscribe, Action::Publish, Action::History];
    let mut client = Client::granted(Permissions::default().grant(everything, most));

    client.send(enter(1, "a", None));
    client.send(request(2, Command::Watch { channel: channel("a") }));
    client.send(request(3, Command::Members { channel: channel("a"), from: None, limit: 1 }));

    assert_eq!(client.refusals(), [ErrorCode::PermissionDenied; 3]);
    assert_eq!(client.effects(), []);
}

#[test]
fn a_new_token_without_the_right_ends_watching_and_being_there_and_nothing_else() {
    let mut client = Client::new();
    client.send(enter(1, "a", None));
    client.send(request(2, Command::Watch { channel: channel("a") }));
    client.send(subscribe(3, "a", Since::Now));
    client.answer_all();
    client.out = Outputs::default();
    let everything = Filter::parse("**").expect("filter");
    let permissions = Permissions::default().grant(everything, [Action::Subscribe]);

    let narrower = Identity { permissions, ..identity() };
    client.session.refreshed(RequestId(4), Ok(narrower), &mut client.out);

    let ended: Vec<_> = client
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Unsubscribed { channel, .. } => Some(channel.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [reserved("a")]);
    let depart = Effect::Depart { request: None, channel: channel("a") };
    assert!(client.effects().contains(&depart));
    let snapshot = client.session.snapshot();
    assert!(snapshot.presence.is_empty());
    assert_eq!(snapshot.subscriptions.len(), 1);
}

#[test]
fn too_much_is_refused_and_changes_nothing() {
    let mut client = Client::new();
    let long = |bytes: usize| Some(format!("\"{}\"", "x".repeat(bytes - 2)));
    client.send(enter(1, "a", long(1_024).as_deref()));
    client.send(enter(2, "b", long(1_025).as_deref()));
    assert_eq!(client.refusals(), [ErrorCode::PayloadTooLarge]);
    for number in 1..16 {
        client.send(enter(3, &format!("c{number}"), long(1_024).as_deref()));
    }
    client.send(enter(4, "one-too-many", Some("1")));
    for number in 0..48 {
        client.send(enter(5, &format!("d{number}"), None));
    }
    client.send(enter(6, "another", None));
    client.send(request(7, Command::Watch { channel: channel(&"x".repeat(246)) }));

    let expected = [ErrorCode::PayloadTooLarge, ErrorCode::LimitExceeded, ErrorCode::LimitExceeded];
    assert_eq!(client.refusals()[..3], expected);
    assert_eq!(client.refusals()[3..], [ErrorCode::NoPresence]);
    assert_eq!(client.session.entered().count(), 64);
}

fn enter(id: u32, name: &str, text: Option<&str>) -> Request {
    request(id, Command::Enter { channel: channel(name), word: text.and_then(word) })
}

fn word(text: &str) -> Option<MemberWord> {
    MemberWord::parse(text.to_owned().into()).ok()
}

fn reserved(name: &str) -> Channel {
    channel(name).presence().expect("short enough")
}
