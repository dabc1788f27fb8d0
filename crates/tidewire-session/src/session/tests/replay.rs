//! How much of what it missed a client is sent that comes back.

use super::*;

const LIMITS: Limits = Limits {
    subscriptions: 512,
    payload_bytes: 1_024,
    page: 100,
    joins_in_flight: 1,
    replay_each: 4,
    replay_all: 6,
    replay_bytes: 1_000,
};

/// A client that comes back to channels in which it has seen 7, the first of which joins.
fn back(channels: &[&str], limits: Limits) -> Client {
    let mut out = Outputs::default();
    let snapshot = Snapshot {
        identity: identity(),
        subscriptions: Vec::new(),
        presence: SavedPresence::default(),
        grants: Vec::new(),
    };
    let positions = channels.iter().map(|name| (channel(name), position_of(7))).collect();
    let session = Session::resume(snapshot, positions, limits, &mut out);
    Client { session, out, join: JoinId::default() }
}

/// Sends two of what it missed, and is asked to go on.
fn page(client: &mut Client, join: JoinId, from: u64) -> JoinId {
    client.joined(join, at(from, &[from + 1, from + 2], false));
    client.only_join("a", Since::Position(position_of(from + 2)))
}

fn limit(position: u64, missed: u64) -> Gap {
    Gap { reason: GapReason::Limit, position: position_of(position), missed: Some(missed) }
}

#[test]
fn what_is_more_than_a_channels_share_is_left_out_and_told() {
    let mut client = back(&["a"], LIMITS);
    let join = client.only_join("a", Since::Position(position_of(7)));

    let join = page(&mut client, join, 7);
    client.joined(join, at(9, &[10, 11], false));
    let join = client.only_join("a", Since::Now);
    client.joined(join, Joined { recovery: Recovery::NotAsked, ..at(50, &[], true) });
    client.join = join;
    client.deliver(51);

    assert_eq!(client.publications(), [vec![8, 9, 10, 11], vec![51]]);
    let gaps: Vec<_> = client.gaps();
    assert_eq!(gaps, [limit(50, 39)]);
}

#[test]
fn what_ends_with_the_limit_has_no_gap() {
    let mut client = back(&["a"], LIMITS);
    let join = client.only_join("a", Since::Position(position_of(7)));

    let join = page(&mut client, join, 7);
    client.joined(join, at(9, &[10, 11], false));
    let join = client.only_join("a", Since::Now);
    client.joined(join, Joined { recovery: Recovery::NotAsked, ..at(11, &[], true) });

    assert_eq!(client.gaps(), []);
}

#[test]
fn channels_that_have_not_begun_when_all_have_had_enough_begin_at_their_newest() {
    let mut client = back(&["a", "b"], Limits { replay_all: 2, ..LIMITS });
    let join = client.only_join("a", Since::Position(position_of(7)));

    client.joined(join, at(7, &[8, 9], true));
    let join = client.only_join("b", Since::Now);
    client.joined(join, Joined { recovery: Recovery::NotAsked, ..at(20, &[], true) });

    let Some(Event::Subscribed(subscribed)) = client.events().last() else {
        unreachable!("{:?}", client.events())
    };
    assert_eq!(subscribed.recovery, Recovery::Failed(GapReason::Limit));
    assert_eq!(subscribed.position, position_of(20));
}

#[test]
fn bytes_count_too() {
    let mut client = back(&["a"], Limits { replay_bytes: 2, ..LIMITS });
    let join = client.only_join("a", Since::Position(position_of(7)));

    client.joined(join, at(7, &[8, 9], false));

    client.only_join("a", Since::Now);
}

#[test]
fn counting_begins_anew_once_a_client_has_caught_up() {
    let mut client = back(&["a"], LIMITS);
    let join = client.only_join("a", Since::Position(position_of(7)));
    client.joined(join, at(7, &[8, 9, 10, 11, 12, 13], true));

    client.send(subscribe(1, "b", Since::Position(position_of(3))));

    client.only_join("b", Since::Position(position_of(3)));
    assert!(client.session.rare.is_none());
}

#[test]
fn what_a_slow_client_misses_while_it_is_there_is_not_limited() {
    let mut client = Client::live("a", 7);
    client.session.limits = Arc::new(LIMITS);

    client.lag();
    let mut join = client.only_join("a", Since::Position(position_of(7)));
    for from in [7, 9, 11, 13] {
        join = page(&mut client, join, from);
    }

    assert_eq!(client.gaps(), []);
}

impl Client {
    fn gaps(&self) -> Vec<Gap> {
        let gap = |event: &Event| match event {
            Event::Gap { gap, .. } => Some(*gap),
            _ => None,
        };
        self.events().iter().filter_map(gap).collect()
    }
}
