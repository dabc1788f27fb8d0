//! What an idle session costs, and that many subscriptions are found like few.

use std::mem::size_of;

use crate::subscription::Subscription;

use super::*;

// A node has one session, and one of these on the heap, for every connection that only listens.
const _: () = assert!(size_of::<Session>() <= 136);
const _: () = assert!(size_of::<Subscription>() <= 72);

#[test]
fn an_idle_session_keeps_nothing_of_how_it_came_to_be_so() {
    let names: Vec<_> = (0..6).map(|n| format!("c{n}")).collect();
    let mut client = Client::new();
    for name in &names {
        client.send(subscribe(1, name, Since::Now));
    }
    assert!(client.session.rare.is_some());

    client.answer_all();

    assert!(client.session.rare.is_none());
    assert_eq!(client.session.joins_in_flight, 0);
}

#[test]
fn ending_all_that_wait_leaves_no_queue() {
    let mut client = Client::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        client.send(subscribe(1, name, Since::Now));
    }
    let narrower = Identity { permissions: Permissions::default(), ..identity() };

    client.session.refreshed(RequestId(2), Ok(narrower), &mut client.out);

    assert!(client.session.rare.is_none());
    assert_eq!(client.session.joins_in_flight, 0);
    assert_eq!(client.session.joins().count(), 0);
}

#[test]
fn subscribing_to_what_waits_again_and_again_makes_the_queue_no_longer() {
    let mut client = Client::new();
    for name in ["a", "b", "c", "d"] {
        client.send(subscribe(1, name, Since::Now));
    }

    for _ in 0..100 {
        client.send(subscribe(2, "e", Since::Now));
        client.send(unsubscribe(3, "e"));
        client.send(subscribe(4, "e", Since::Now));
        client.send(unsubscribe(5, "e"));
    }
    client.send(subscribe(6, "e", Since::Now));

    assert_eq!(client.session.rare.as_ref().map(|rare| rare.channels.len()), Some(1));
}

#[test]
fn each_of_512_subscriptions_takes_its_own_publications() {
    let names: Vec<_> = (0..512).map(|n| format!("c{n}")).collect();
    let mut client = Client::new();
    for name in &names {
        client.send(subscribe(1, name, Since::Now));
    }
    client.answer_all();
    // Others come and go, so that the rest move.
    for name in names.iter().step_by(3) {
        client.send(unsubscribe(2, name));
    }
    for name in names.iter().step_by(6) {
        client.send(subscribe(3, name, Since::Now));
    }
    client.answer_all();
    let joins: Vec<_> =
        client.session.joins().map(|(channel, join)| (channel.clone(), join)).collect();
    client.out = Outputs::default();

    for (_, join) in &joins {
        client.session.deliver(*join, envelope(8), &mut client.out);
    }

    let heard = client.events().iter().map(|event| match event {
        Event::Publications { channel, publications, .. } => (channel, publications.len()),
        other => unreachable!("{other:?}"),
    });
    assert_eq!(joins.len(), 512 - 171 + 86);
    assert!(heard.eq(joins.iter().map(|(channel, _)| (channel, 1))));
    assert!(client.effects().is_empty());
}

#[test]
fn what_is_left_of_many_subscriptions_is_found_as_before() {
    let names: Vec<_> = (0..40).map(|n| format!("c{n}")).collect();
    let mut client = Client::new();
    for name in &names {
        client.send(subscribe(1, name, Since::Now));
    }
    client.answer_all();

    // All but the last, whose place is another each time.
    for name in names.iter().filter(|name| *name != "c9") {
        client.send(unsubscribe(2, name));
    }
    let (_, join) = client.session.joins().next().expect("the last");

    assert_eq!(
        client.session.meet(join, position_of(8), position_of(9)),
        Meeting::InStep { deltas: Deltas::Unasked }
    );
    assert_eq!(client.session.snapshot().subscriptions.len(), 1);
}
