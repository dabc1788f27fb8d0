use std::collections::BTreeMap;

use tidewire_model::{Channel, Tenant};

use super::*;

#[test]
fn a_channel_has_its_own_subscribers_and_its_tenants_only() {
    let mut hub = Hub::default();
    hub.add(&channel("acme", "a"), Tenure(1), subscriber(1));
    hub.add(&channel("acme", "a"), Tenure(1), subscriber(2));
    hub.add(&channel("acme", "b"), Tenure(2), subscriber(3));
    hub.add(&channel("ajax", "a"), Tenure(3), subscriber(4));

    assert_eq!(listed(&hub, "acme", "a"), [1, 2]);
    assert_eq!(listed(&hub, "acme", "b"), [3]);
    assert_eq!(listed(&hub, "ajax", "a"), [4]);
    assert_eq!(listed(&hub, "ajax", "b"), [0_u64; 0]);
    assert_eq!((hub.channels(), hub.subscriptions()), (3, 4));
}

#[test]
fn leaving_takes_the_named_join_only_and_says_under_which_tenure_it_was() {
    let mut hub = Hub::default();
    let news = channel("acme", "news");
    hub.add(&news, Tenure(7), subscriber(1));

    assert_eq!(hub.remove(&news, ConnectionId(1), JoinId(9)), None);
    assert_eq!(hub.remove(&news, ConnectionId(9), JoinId(1)), None);
    assert_eq!(hub.remove(&news, ConnectionId(1), JoinId(1)), Some(Tenure(7)));
    assert_eq!(hub.remove(&news, ConnectionId(1), JoinId(1)), None);
    assert!(hub.subscribers(&news).is_none());
    assert_eq!((hub.channels(), hub.subscriptions()), (0, 0));
}

#[test]
fn one_connection_may_be_there_under_two_joins() {
    let mut hub = Hub::default();
    let news = channel("acme", "news");
    let again = Subscriber { connection: ConnectionId(1), join: JoinId(2) };
    hub.add(&news, Tenure(1), subscriber(1));
    hub.add(&news, Tenure(1), again);

    hub.remove(&news, ConnectionId(1), JoinId(1));

    assert_eq!(hub.subscribers(&news).as_deref(), Some(&[again][..]));
}

#[test]
fn a_snapshot_is_not_touched_by_what_happens_later() {
    let mut hub = Hub::default();
    let news = channel("acme", "news");
    hub.add(&news, Tenure(1), subscriber(1));
    let one = hub.subscribers(&news).expect("one");
    hub.add(&news, Tenure(1), subscriber(2));
    hub.add(&news, Tenure(1), subscriber(3));
    let three = hub.subscribers(&news).expect("three");

    hub.remove(&news, ConnectionId(2), JoinId(2));
    let two = hub.subscribers(&news).expect("two");
    hub.evict(&news, Tenure(1));

    assert_eq!(one[..], [subscriber(1)]);
    assert_eq!(three[..], [subscriber(1), subscriber(2), subscriber(3)]);
    assert_eq!(two[..], [subscriber(1), subscriber(3)]);
}

#[test]
fn the_end_of_a_tenure_takes_everybody_of_it_and_nobody_else() {
    let mut hub = Hub::default();
    let (news, other) = (channel("acme", "news"), channel("acme", "other"));
    hub.add(&news, Tenure(2), subscriber(1));
    hub.add(&news, Tenure(2), subscriber(2));
    hub.add(&other, Tenure(2), subscriber(1));

    assert_eq!(hub.evict(&news, Tenure(1)), [], "an earlier tenure");
    assert_eq!(hub.evict(&news, Tenure(2)), [subscriber(1), subscriber(2)]);
    assert_eq!(hub.evict(&news, Tenure(2)), [], "nobody is left");
    assert_eq!(listed(&hub, "acme", "other"), [1]);
    assert_eq!(hub.subscriptions(), 1);

    hub.add(&news, Tenure(3), subscriber(2));
    assert_eq!(hub.evict(&news, Tenure(2)), []);
    assert_eq!(listed(&hub, "acme", "news"), [2]);
}

#[test]
#[should_panic(expected = "two tenures at once")]
fn two_tenures_of_a_channel_at_once_are_a_mistake_of_ours() {
    let mut hub = Hub::default();
    hub.add(&channel("acme", "news"), Tenure(1), subscriber(1));
    hub.add(&channel("acme", "news"), Tenure(2), subscriber(2));
}

#[test]
fn a_route_costs_56_bytes() {
    assert_eq!(size_of::<Route>(), 56);
    assert_eq!(size_of::<Subscriber>(), 16);
}

#[test]
fn room_is_given_back_when_a_crowd_has_left() {
    let mut hub = Hub::default();
    let crowd: Vec<_> = (0..10_000).map(|n| channel("acme", &format!("c{n}"))).collect();
    for (channel, number) in crowd.iter().zip(0..) {
        hub.add(channel, Tenure(number), subscriber(1));
    }
    let big = channel("acme", "big");
    (0..10_000).for_each(|number| hub.add(&big, Tenure(1), subscriber(number)));

    for channel in &crowd[10..] {
        assert!(hub.remove(channel, ConnectionId(1), JoinId(1)).is_some());
    }
    (0..9_990).for_each(|number| {
        hub.remove(&big, ConnectionId(number), join(number));
    });

    assert!(hub.routes.capacity() <= 4 * KEPT_ROUTES, "{}", hub.routes.capacity());
    assert!(hub.index.capacity() <= 8 * KEPT_ROUTES, "{}", hub.index.capacity());
    let Some(Subscribers(List::Many(left))) = hub.subscribers(&big) else { panic!("ten are left") };
    assert_eq!(left.len(), 10);
    assert!(left.capacity() <= 64, "{}", left.capacity());
    assert_eq!((hub.channels(), hub.subscriptions()), (11, 20));
    for (channel, number) in crowd[..10].iter().zip(0..) {
        assert_eq!(hub.remove(channel, ConnectionId(1), JoinId(1)), Some(Tenure(number)));
    }
}

/// Plays random changes to a hub and to the plainest thing that could be one.
#[test]
fn a_hub_does_what_a_map_of_lists_does() {
    const CHANNELS: u64 = 40;
    let mut dice = 1_u64;
    let mut draw = |sides: u64| {
        // An xorshift: any sequence does that repeats itself in the next run.
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % sides
    };
    let mut hub = Hub::default();
    let mut plain: BTreeMap<u64, (Tenure, Vec<Subscriber>)> = BTreeMap::new();
    let mut tenure = 0;

    for _ in 0..60_000 {
        let (name, who) = (draw(CHANNELS), subscriber(draw(6)));
        let channel = channel("acme", &format!("c{name}"));
        match draw(20) {
            0 => {
                let wanted = plain.get(&name).map_or(Tenure(1), |(tenure, _)| *tenure);
                let expected = plain.remove(&name).map(|(_, list)| list).unwrap_or_default();
                assert_eq!(sorted(&hub.evict(&channel, wanted)), sorted(&expected));
            }
            1..=9 => {
                let (tenure, list) = plain.entry(name).or_insert_with(|| {
                    tenure += 1;
                    (Tenure(tenure), Vec::new())
                });
                if !list.contains(&who) {
                    list.push(who);
                    hub.add(&channel, *tenure, who);
                }
            }
            _ => {
                let is_listed = |(_, list): &&mut (Tenure, Vec<_>)| list.contains(&who);
                let expected = plain.get_mut(&name).filter(is_listed).map(|(tenure, list)| {
                    list.retain(|listed| *listed != who);
                    *tenure
                });
                plain.retain(|_, (_, list)| !list.is_empty());
                assert_eq!(hub.remove(&channel, who.connection, who.join), expected);
            }
        }
        let found = hub.subscribers(&channel).map(|list| sorted(&list));
        assert_eq!(found, plain.get(&name).map(|(_, list)| sorted(list)));
        assert_eq!(hub.channels(), plain.len());
    }
    assert_eq!(hub.subscriptions(), plain.values().map(|(_, list)| list.len()).sum::<usize>());
    for (name, (_, list)) in &plain {
        let found = hub.subscribers(&channel("acme", &format!("c{name}"))).expect("listed");
        assert_eq!(sorted(&found), sorted(list));
    }
}

fn channel(tenant: &str, name: &str) -> TenantChannel {
    TenantChannel::new(
        Tenant::parse(tenant).expect("tenant"),
        Channel::parse(name).expect("channel"),
    )
}

fn join(number: u64) -> JoinId {
    JoinId(u32::try_from(number).expect("a small number"))
}

fn subscriber(number: u64) -> Subscriber {
    Subscriber { connection: ConnectionId(number), join: join(number) }
}

fn sorted(list: &[Subscriber]) -> Vec<Subscriber> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list
}

fn listed(hub: &Hub, tenant: &str, name: &str) -> Vec<u64> {
    let list = hub.subscribers(&channel(tenant, name));
    list.iter().flat_map(|list| list.iter()).map(|listed| listed.connection.0).collect()
}
