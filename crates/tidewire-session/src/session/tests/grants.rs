//! Tokens of one channel.

use tidewire_model::{Actions, Provenance, Token, Trace};

use super::*;
use crate::Wish;

#[test]
fn a_token_of_a_channel_allows_there_what_it_says_as_long_as_its_subscription_lasts() {
    let mut client = Client::granted(Permissions::default());

    client.show(subscribe_with(1, "a"), grant("a", &[Action::Subscribe, Action::Publish]));
    client.send(publish(2, "a", 1));
    client.send(publish(3, "b", 1));
    client.send(history(4, "a"));
    assert!(matches!(client.effects()[..], [Effect::Join { .. }, Effect::Publish { .. }]));
    client.send(unsubscribe(5, "a"));
    client.send(publish(6, "a", 1));

    assert_eq!(client.refusals(), [ErrorCode::PermissionDenied; 3]);
    assert!(client.session.rare.is_none(), "it keeps nothing of it");
}

#[test]
fn what_the_token_of_the_session_denies_no_other_allows() {
    let filter = Filter::parse("a").expect("filter");
    for denied in [Action::Subscribe, Action::Publish] {
        let mut client = Client::granted(Permissions::default().deny(filter.clone(), [denied]));

        client.show(subscribe_with(1, "a"), grant("a", &Action::ALL));
        client.send(publish(2, "a", 1));

        assert_eq!(client.refusals()[0], ErrorCode::PermissionDenied, "{denied:?}");
        assert_eq!(client.session.grants().is_empty(), denied == Action::Subscribe);
    }
}

#[test]
fn a_token_that_allows_no_subscribing_is_of_no_use_afterwards() {
    let mut client = Client::granted(Permissions::default());

    client.show(subscribe_with(1, "a"), grant("a", &[Action::Publish]));
    client.send(publish(2, "a", 1));

    assert_eq!(client.refusals(), [ErrorCode::PermissionDenied; 2]);
}

#[test]
fn the_newest_take_the_right_to_history_from_either_token() {
    let mut client = Client::granted(Permissions::default());

    let last = Command::Subscribe {
        channel: channel("a"),
        since: Since::Last(1),
        delta: None,
        token: Some("it".into()),
    };
    client.show(request(1, last.clone()), grant("a", &[Action::Subscribe]));
    assert_eq!(client.refusals(), [ErrorCode::PermissionDenied]);
    client.show(request(2, last), grant("a", &[Action::Subscribe, Action::History]));

    client.only_join("a", Since::Last(1));
}

#[test]
fn when_a_token_of_a_channel_has_run_out_its_subscription_ends_and_no_other() {
    let mut client = Client::live("b", 0);
    let filter = Filter::parse("b").expect("filter");
    client.session.identity.permissions = Permissions::default().grant(filter, [Action::Subscribe]);
    client.show(subscribe_with(2, "a"), grant("a", &[Action::Subscribe, Action::Presence]));
    client.send(request(3, Command::Watch { channel: channel("a") }));
    client.send(request(4, Command::Enter { channel: channel("a"), word: None }));
    client.answer_all();
    client.out = Outputs::default();

    assert!(!client.session.judge_grants(NOW + 9, |_| false, &mut client.out));
    assert!(client.session.judge_grants(NOW + 10, |_| false, &mut client.out));

    assert_eq!(
        ended(client.events()),
        [("$presence/a", ErrorCode::TokenExpired), ("a", ErrorCode::TokenExpired)]
            .map(|(name, code)| (name.to_owned(), code))
    );
    assert!(client.effects().iter().any(|effect| matches!(effect, Effect::Depart { .. })));
    assert_eq!(client.session.joins().count(), 1);
    assert_eq!(client.session.grants_until(), None);
}

#[test]
fn a_token_that_was_revoked_ends_what_it_has_allowed() {
    let mut client = Client::granted(Permissions::default());
    for (id, name) in [(1, "a"), (2, "b")] {
        client.show(subscribe_with(id, name), grant(name, &[Action::Subscribe]));
    }

    let is_void = |grant: &ChannelGrant| grant.channel == channel("a");
    client.session.judge_grants(NOW, is_void, &mut client.out);

    assert_eq!(ended(client.events()), [("a".to_owned(), ErrorCode::TokenRevoked)]);
    assert_eq!(client.session.grants().len(), 1);
}

#[test]
fn another_token_in_time_goes_on_and_one_that_allows_less_ends_it() {
    let mut client = Client::granted(Permissions::default());
    client.show(subscribe_with(1, "a"), grant("a", &[Action::Subscribe]));
    let later = ChannelGrant { expires_at: NOW + 20, ..grant("a", &[Action::Subscribe]) };

    client.show(refresh(2, "a"), later);
    client.show(refresh(3, "b"), grant("b", &[Action::Subscribe]));
    client.session.judge_grants(NOW + 10, |_| false, &mut client.out);

    assert_eq!(ended(client.events()), []);
    assert_eq!(client.refusals(), [ErrorCode::NotSubscribed]);
    let refreshed = |event: &Event| matches!(event, Event::Refreshed { expires_at, .. } if *expires_at == Some(NOW + 20));
    assert!(client.events().iter().any(refreshed));

    client.show(refresh(4, "a"), grant("a", &[Action::Publish]));
    assert_eq!(ended(client.events()), [("a".to_owned(), ErrorCode::PermissionDenied)]);
    assert_eq!(client.session.grants(), []);
}

#[test]
fn a_token_that_is_refused_changes_nothing() {
    let mut client = Client::granted(Permissions::default());
    client.show(subscribe_with(1, "a"), grant("a", &[Action::Subscribe]));
    for wish in [subscribe_with(2, "b"), refresh(3, "a")] {
        client.send(wish);
        let wish = client.wish();
        let failure = Failure::new(ErrorCode::BadToken, "not valid");
        client.session.granted(wish, Err(failure), &mut client.out);
    }

    assert_eq!(client.refusals(), [ErrorCode::BadToken; 2]);
    assert_eq!(client.session.grants(), [grant("a", &[Action::Subscribe])]);
}

#[test]
fn a_subscription_there_is_keeps_the_token_it_has() {
    let mut client = Client::granted(Permissions::default());
    client.show(subscribe_with(1, "a"), grant("a", &[Action::Subscribe]));

    client.show(subscribe_with(2, "a"), grant("a", &Action::ALL));

    assert_eq!(client.refusals(), [ErrorCode::AlreadySubscribed]);
    assert_eq!(client.session.grants(), [grant("a", &[Action::Subscribe])]);
}

#[test]
fn a_subscription_that_fails_or_is_one_too_many_takes_its_token_with_it() {
    let mut client = Client::granted(Permissions::default());
    Arc::make_mut(&mut client.session.limits).subscriptions = 1;
    client.show(subscribe_with(1, "a"), grant("a", &[Action::Subscribe]));
    client.show(subscribe_with(2, "b"), grant("b", &[Action::Subscribe]));
    assert_eq!(client.session.grants().len(), 1);

    let join = client.only_join("a", Since::Now);
    let failure = Failure::new(ErrorCode::Unavailable, "away");
    client.session.joined(join, Err(failure), &mut client.out);

    assert_eq!(client.refusals(), [ErrorCode::LimitExceeded, ErrorCode::Unavailable]);
    assert!(client.session.rare.is_none());
}

#[test]
fn a_session_that_is_resumed_has_what_it_was_granted_and_until_when() {
    let mut client = Client::granted(Permissions::default());
    client.show(subscribe_with(1, "a"), grant("a", &[Action::Subscribe, Action::Presence]));
    client.send(request(2, Command::Watch { channel: channel("a") }));
    let snapshot = client.session.snapshot();
    let text = serde_json::to_string(&snapshot).expect("json");

    let mut out = Outputs::default();
    let snapshot: Snapshot = serde_json::from_str(&text).expect("a snapshot");
    let mut resumed = Session::resume(snapshot, Vec::new(), Limits::default(), &mut out);

    assert_eq!(ended(&out.events), []);
    assert_eq!(resumed.joins().count(), 2);
    assert_eq!(resumed.grants_until(), Some(NOW + 10));
    resumed.judge_grants(NOW + 10, |_| false, &mut out);
    assert_eq!(ended(&out.events).len(), 2);
    assert_eq!(resumed.joins().count(), 0);
}

#[test]
fn a_new_token_of_the_session_that_denies_the_channel_ends_it_though_it_was_granted() {
    let mut client = Client::granted(Permissions::default());
    client.show(subscribe_with(1, "a"), grant("a", &[Action::Subscribe, Action::Presence]));
    client.send(request(2, Command::Watch { channel: channel("a") }));
    let filter = Filter::parse("a").expect("filter");
    let permissions = Permissions::default().deny(filter, [Action::Subscribe]);

    let identity = Identity { permissions, ..identity() };
    client.session.refreshed(RequestId(3), Ok(identity), &mut client.out);

    assert_eq!(ended(client.events()).len(), 2, "it watches by the same token");
    assert_eq!(client.session.grants(), []);
}

#[test]
fn whose_own_token_has_run_out_shows_no_other() {
    let mut client = Client::granted(Permissions::all());
    client.session.identity.expires_at = Some(NOW);

    client.send(subscribe_with(1, "a"));
    client.send(refresh(2, "a"));

    assert_eq!(client.refusals(), [ErrorCode::TokenExpired; 2]);
    assert_eq!(client.effects(), []);
}

impl Client {
    /// Sends a command with a token, which is judged to allow this.
    fn show(&mut self, request: Request, grant: ChannelGrant) {
        self.send(request);
        let wish = self.wish();
        self.session.granted(wish, Ok(grant), &mut self.out);
    }

    /// What it wants to have judged.
    fn wish(&mut self) -> Wish {
        let Some(Effect::Examine(wish)) = self.out.effects.pop() else { panic!("no wish") };
        *wish
    }
}

/// The subscriptions that have ended by themselves, in the order of their names.
fn ended(events: &[Event]) -> Vec<(String, ErrorCode)> {
    let ended = |event: &Event| match event {
        Event::Unsubscribed { request: None, channel, failure: Some(failure) } => {
            Some((channel.to_string(), failure.code))
        }
        _ => None,
    };
    let mut ended: Vec<_> = events.iter().filter_map(ended).collect();
    ended.sort_by(|one, other| one.0.cmp(&other.0));
    ended
}

fn grant(name: &str, actions: &[Action]) -> ChannelGrant {
    let (key, actions) = (Trace::from_digest([1; 8]), actions.iter().copied().collect::<Actions>());
    let provenance = Provenance { key, token: None, issued_at: NOW };
    ChannelGrant { channel: channel(name), actions, expires_at: NOW + 10, provenance }
}

fn subscribe_with(id: u32, name: &str) -> Request {
    let token = Some(Token::from("it"));
    let (channel, since) = (channel(name), Since::Now);
    request(id, Command::Subscribe { channel, since, delta: None, token })
}

fn refresh(id: u32, name: &str) -> Request {
    request(id, Command::Refresh { token: "it".into(), channel: Some(channel(name)) })
}
