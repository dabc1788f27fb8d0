use tidewire_client::{Came, Channel, Position};
use tidewire_model::{Incarnation, Recovery, Subscribed};

use super::*;

#[test]
fn a_client_that_overlaps_has_moved_when_it_has_left() {
    let origin = Instant::now();
    let mut client = Move::new(Kind::Overlapping, 1);

    client.note(&asked(), at(origin, 0));
    client.note(&connected(Came::Over), at(origin, 40));
    client.note(&subscribed(), at(origin, 50));
    assert_eq!(client.outcome(), Outcome::Stranded);
    client.note(&Happening::Left, at(origin, 60));

    assert_eq!(client.outcome(), Outcome::Moved);
    assert_eq!(client.current, Some(at(origin, 60)));
}

#[test]
fn what_is_delivered_while_a_client_moves_counts_and_nothing_else() {
    let origin = Instant::now();
    let mut client = Move::new(Kind::Overlapping, 1);

    assert!(!client.deliver(at(origin, 0), at(origin, 900)));
    client.note(&asked(), at(origin, 1_000));
    assert!(client.deliver(at(origin, 990), at(origin, 1_010)));
    client.note(&Happening::Left, at(origin, 1_100));
    assert!(client.deliver(at(origin, 1_600), at(origin, 1_640)));
    assert!(!client.deliver(at(origin, 1_601), at(origin, 1_999)));

    assert_eq!(client.worst, Some(Duration::from_millis(40)));
}

#[test]
fn a_client_that_lost_its_connection_is_back_with_the_last_of_its_channels() {
    let origin = Instant::now();
    let mut client = Move::new(Kind::Overlapping, 2);

    client.note(&lost(), at(origin, 0));
    client.note(&connected(Came::Back), at(origin, 100));
    client.note(&subscribed(), at(origin, 110));
    assert_eq!(client.outcome(), Outcome::Stranded);
    client.note(&lost(), at(origin, 120));
    client.note(&connected(Came::Back), at(origin, 200));
    client.note(&subscribed(), at(origin, 210));
    client.note(&subscribed(), at(origin, 250));

    assert_eq!(client.outcome(), Outcome::Returned(Duration::from_millis(250)));
    assert!(!client.deliver(at(origin, 260), at(origin, 270)));
}

#[test]
fn a_client_apart_is_away_from_when_it_closes() {
    let origin = Instant::now();
    let mut client = Move::new(Kind::Apart, 1);

    client.note(&asked(), at(origin, 0));
    client.note(&connected(Came::Over), at(origin, 300));
    client.note(&subscribed(), at(origin, 350));

    // It was asked to move after a quarter of a second.
    assert_eq!(client.outcome(), Outcome::Returned(Duration::from_millis(100)));
}

#[test]
fn a_client_nothing_happened_to_stayed() {
    assert_eq!(Move::new(Kind::Bystander, 1).outcome(), Outcome::Stayed);
}

#[test]
fn sums_are_of_all_clients() {
    let origin = Instant::now();
    let moves = Moves::new();
    let mut clients =
        [Kind::Overlapping, Kind::Apart, Kind::Bystander].map(|kind| Move::new(kind, 1));
    assert!(moves.sums().is_none());

    for client in &mut clients {
        moves.deliver(client, at(origin, 0), at(origin, 1));
    }
    moves.begin(at(origin, 10));
    for client in &mut clients[..2] {
        client.note(&asked(), at(origin, 20));
    }
    for client in &mut clients {
        moves.deliver(client, at(origin, 30), at(origin, 35));
    }
    clients[0].note(&Happening::Left, at(origin, 40));
    for client in &clients {
        moves.end(client);
    }

    let (begun, sums) = moves.sums().expect("it has begun");
    assert_eq!(begun, at(origin, 10));
    assert_eq!((sums.before.len(), sums.moving.len(), sums.worst.len()), (3, 1, 1));
    assert_eq!(sums.bystanders.map(|one| one.len()), [1, 1]);
    assert_eq!((sums.moved, sums.returned, sums.stranded, sums.stayed), (1, 0, 1, 1));
    assert_eq!(sums.current, Some(at(origin, 40)));
}

fn at(origin: Instant, ms: u64) -> Instant {
    origin + Duration::from_millis(ms)
}

fn asked() -> Happening {
    Happening::Asked { after: Duration::from_millis(250), window: Duration::from_secs(10) }
}

fn connected(came: Came) -> Happening {
    Happening::Connected { node: "node".into(), resumed: true, came }
}

fn lost() -> Happening {
    Happening::Lost { reason: "it broke".into() }
}

fn subscribed() -> Happening {
    Happening::Subscribed(Subscribed {
        request: None,
        channel: Channel::parse("loadtest/0/0").expect("valid"),
        recovery: Recovery::Recovered,
        position: Position::new(Incarnation::ZERO.epoch(1), 0),
        delta: None,
        sampled: false,
    })
}
