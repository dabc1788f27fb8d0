//! Strict sessions: what the store does not have is not confirmed.

use tidewire_model::SessionKind;

use super::*;

#[test]
fn a_subscription_is_confirmed_once_the_store_has_it_and_where_it_begins() {
    let mut client = strict();
    client.send(subscribe(1, "a", Since::Now));
    let join = client.only_join("a", Since::Now);

    let is_taken = client.session.joined(join, Ok(at(7, &[], true)), &mut client.out);

    assert!(!is_taken, "it has a place in a channel before its client knows");
    assert!(client.events().is_empty());
    assert_eq!(*client.effects(), [Effect::Save]);

    let written = client.session.begin_save();

    assert_eq!(written.subscriptions[0].start, Some(position_of(7)));
    assert!(client.events().is_empty());

    client.save_lands();

    assert_eq!(client.confirmed(), [(1, 7)]);
    client.only_join("a", Since::Position(position_of(7)));
}

#[test]
fn nothing_is_missed_or_repeated_between_asking_and_being_confirmed() {
    let mut client = strict();
    client.send(subscribe(1, "a", Since::Position(position_of(5))));
    let join = client.only_join("a", Since::Position(position_of(5)));
    client.joined(join, at(5, &[6, 7], true));
    client.session.deliver(join, envelope(8), &mut client.out);

    client.session.begin_save();
    client.save_lands();
    client.join = client.only_join("a", Since::Position(position_of(5)));
    client.joined(client.join, at(5, &[6, 7, 8], true));
    client.deliver(9);

    assert!(matches!(client.events()[0], Event::Subscribed(Subscribed { position, .. })
        if position == position_of(5)));
    assert_eq!(client.publications(), [vec![6, 7, 8, 9]]);
}

#[test]
fn what_is_asked_after_a_write_has_begun_waits_for_the_next() {
    let mut client = strict();
    client.ask_for(1, "a");
    client.session.begin_save();
    client.ask_for(2, "b");

    client.save_lands();

    assert_eq!(client.confirmed(), [(1, 7)]);

    client.session.begin_save();
    client.save_lands();

    assert_eq!(client.confirmed(), [(1, 7), (2, 7)]);
}

#[test]
fn a_write_that_failed_confirms_nothing_and_the_next_confirms_all() {
    let mut client = strict();
    client.ask_for(1, "a");
    client.session.begin_save();
    client.ask_for(2, "b");

    client.session.begin_save();
    client.save_lands();

    assert_eq!(client.confirmed(), [(1, 7), (2, 7)]);
}

#[test]
fn an_end_is_confirmed_once_the_store_does_not_have_the_subscription() {
    let mut client = strict();
    client.ask_for(1, "a");
    client.session.begin_save();
    client.save_lands();
    client.out = Outputs::default();

    client.send(unsubscribe(2, "a"));

    assert!(client.events().is_empty());
    assert!(client.effects().contains(&Effect::Save));

    let written = client.session.begin_save();
    client.save_lands();

    assert!(written.subscriptions.is_empty());
    assert!(matches!(
        client.events(),
        [Event::Unsubscribed { request: Some(RequestId(2)), failure: None, .. }]
    ));
    assert!(client.session.rare.is_none());
}

#[test]
fn a_subscription_that_ends_before_it_is_confirmed_never_is() {
    let mut client = strict();
    client.ask_for(1, "a");

    client.send(unsubscribe(2, "a"));
    client.session.begin_save();
    client.save_lands();

    assert!(client.confirmed().is_empty());
    assert!(matches!(client.events(), [Event::Unsubscribed { .. }]));
    assert!(joins_of(client.effects()).is_empty());
}

#[test]
fn ends_that_wait_for_a_store_that_is_away_are_bounded() {
    let mut client = strict();
    Arc::make_mut(&mut client.session.limits).subscriptions = 2;

    for round in 0..3 {
        client.ask_for(round * 2, "a");
        client.send(unsubscribe(round * 2 + 1, "a"));
    }

    assert_eq!(client.refusals(), [ErrorCode::Unavailable]);
    assert_eq!(client.session.snapshot().subscriptions.len(), 1);
}

#[test]
fn a_session_that_is_idle_keeps_nothing_of_having_waited_for_the_store() {
    let mut client = strict();
    client.ask_for(1, "a");
    client.session.begin_save();
    client.save_lands();

    client.answer_all();

    assert!(client.session.rare.is_none());
    assert!(client.session.subscriptions.iter_mut().all(|one| one.held().is_none()));
}

#[test]
fn a_lazy_session_waits_for_no_store() {
    let mut client = Client::new();

    client.ask_for(1, "a");
    client.send(unsubscribe(2, "a"));

    assert!(matches!(client.events(), [Event::Subscribed(_), Event::Unsubscribed { .. }]));
}

fn strict() -> Client {
    let session = Session::new(identity(), Limits::default()).of_kind(SessionKind::Strict);
    Client { session, out: Outputs::default(), join: JoinId::default() }
}

impl Client {
    /// Subscribes, and has the join answered at offset 7.
    fn ask_for(&mut self, id: u32, name: &str) {
        self.send(subscribe(id, name, Since::Now));
        self.join = self.only_join(name, Since::Now);
        self.joined(self.join, at(7, &[], true));
    }

    fn save_lands(&mut self) {
        self.session.saved(&mut self.out);
    }

    /// The requests whose subscriptions were confirmed, each with its offset.
    fn confirmed(&self) -> Vec<(u32, u64)> {
        let confirmed = |event: &Event| match event {
            Event::Subscribed(Subscribed { request, position, .. }) => {
                Some((request.expect("it was asked for").0, position.offset))
            }
            _ => None,
        };
        self.events().iter().filter_map(confirmed).collect()
    }
}
