use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use proptest::prelude::*;
use tidewire_hub::Hub;
use tidewire_model::{
    Channel, ConnectionId, GapReason, Incarnation, JoinId, Live, Payload, Position, Publication,
    Tenure,
};

use super::*;

/// Clients that note what they are handed.
#[derive(Default)]
struct Script {
    hub: Hub,
    /// In the order of sending: whose, of which channel, to whom, up to which offset.
    sends: Vec<(Tenant, Channel, ConnectionId, Vec<u64>)>,
    gaps: usize,
    lagged: Vec<TenantChannel>,
    /// Who is to wait, and for how long.
    waits: HashMap<Tenant, Duration>,
}

impl Script {
    /// Subscribers of a channel who are nobody else's.
    fn crowd(&mut self, channel: &TenantChannel, size: u64) {
        for _ in 0..size {
            let connection = ConnectionId(self.hub.subscriptions() as u64);
            self.hub.add(channel, Tenure(1), Subscriber { connection, join: JoinId(0) });
        }
    }

    fn sends_of(&self, tenant: &str) -> usize {
        self.sends.iter().filter(|(of, ..)| of.as_str() == tenant).count()
    }
}

impl Clients for Script {
    fn subscribers(&self, channel: &TenantChannel) -> Option<Subscribers> {
        self.hub.subscribers(channel)
    }

    fn hand(&mut self, subscriber: Subscriber, _at_once: bool, run: &mut Run) {
        let TenantChannel { tenant, channel } = run.channel().clone();
        let offsets = run.envelopes().iter().map(|one| one.position.offset).collect();
        self.sends.push((tenant, channel, subscriber.connection, offsets));
    }

    fn tell(&mut self, _subscriber: Subscriber, _gap: Gap) {
        self.gaps += 1;
    }

    fn wait(&self, tenant: &Tenant) -> Duration {
        self.waits.get(tenant).copied().unwrap_or_default()
    }

    fn perform(&mut self, delivery: Delivery) {
        if let Delivery::Lagged { channel, tenure } = delivery {
            self.hub.evict(&channel, tenure);
            self.lagged.push(channel);
        }
    }
}

#[test]
fn a_tenant_that_was_sent_too_much_waits_and_keeps_nobody_else_waiting() {
    let (mut fan_out, mut script) = (unlimited(), Script::default());
    let (greedy, other) = (channel("greedy", "a"), channel("other", "a"));
    script.crowd(&greedy, 1);
    script.crowd(&other, 1);
    script.waits.insert(greedy.tenant.clone(), Duration::from_millis(200));
    let now = Instant::now();
    for offset in 1..=2 {
        assert_eq!(fan_out.push(publication(&greedy, offset), now), None);
        assert_eq!(fan_out.push(publication(&other, offset), now), None);
    }

    fan_out.step(now, &mut script);
    let sent = std::mem::take(&mut script.sends);
    assert!(!fan_out.has_work());
    assert_eq!(fan_out.wake_at(), Some(now + Duration::from_millis(200)));
    script.waits.clear();
    fan_out.step(now + Duration::from_millis(199), &mut script);
    assert_eq!(script.sends.len(), 0);
    fan_out.step(now + Duration::from_millis(200), &mut script);

    assert!(sent.iter().all(|(tenant, ..)| *tenant == other.tenant));
    let offsets = script.sends.iter().flat_map(|(_, _, _, offsets)| offsets);
    assert!(offsets.eq(&[1, 2]));
}

#[test]
fn a_publication_waits_for_a_slice_of_a_neighbours_flood_and_not_for_all_of_it() {
    let (mut fan_out, mut script) = (unlimited(), Script::default());
    let (flooded, quiet) = (channel("flooder", "hot"), channel("victim", "quiet"));
    script.crowd(&flooded, 5_000);
    script.crowd(&quiet, 1);
    let now = Instant::now();
    assert_eq!(fan_out.push(publication(&flooded, 1), now), None);
    fan_out.step(now, &mut script);
    let before = script.sends.len();

    assert_eq!(fan_out.push(publication(&quiet, 1), now), None);
    fan_out.step(now, &mut script);

    let at = script.sends.iter().position(|(of, ..)| of.as_str() == "victim");
    let waited = at.expect("handed out in the very turn") - before;
    assert!(waited <= 64, "{waited} sends went first");
}

#[test]
fn tenants_that_always_have_something_get_the_same() {
    let (mut fan_out, mut script) = (unlimited(), Script::default());
    let channels = [channel("one", "a"), channel("two", "b"), channel("three", "c")];
    let now = Instant::now();
    // Of very different numbers of publications, to as many subscribers.
    for (channel, count) in channels.iter().zip([1_000, 100, 30]) {
        script.crowd(channel, 300);
        for offset in 1..=count {
            // Each in a run of its own.
            assert_eq!(fan_out.push(publication(channel, 2 * offset), now), None);
        }
    }

    for _ in 0..100 {
        fan_out.step(now, &mut script);
    }

    assert!(fan_out.has_work());
    let sends = ["one", "two", "three"].map(|tenant| script.sends_of(tenant));
    let (least, most) = (sends.iter().min().unwrap(), sends.iter().max().unwrap());
    assert!(most - least <= 64, "{sends:?}");
}

#[test]
fn whoever_is_alone_has_all_of_a_turn() {
    let (mut fan_out, mut script) = (unlimited(), Script::default());
    let only = channel("one", "a");
    script.crowd(&only, 5_000);
    let now = Instant::now();
    assert_eq!(fan_out.push(publication(&only, 1), now), None);

    fan_out.step(now, &mut script);

    assert!(script.sends.len() * (SEND + 256) > TURN_ALONE - SEND, "{}", script.sends.len());
}

#[test]
fn large_publications_are_paid_for() {
    let (mut fan_out, mut script) = (unlimited(), Script::default());
    let (large, small) = (channel("large", "a"), channel("small", "b"));
    script.crowd(&large, 5_000);
    script.crowd(&small, 5_000);
    let now = Instant::now();
    assert_eq!(fan_out.push(sized(&large, 1, 60_000), now), None);
    assert_eq!(fan_out.push(publication(&small, 1), now), None);

    for _ in 0..10 {
        fan_out.step(now, &mut script);
    }

    let (large, small) = (script.sends_of("large"), script.sends_of("small"));
    assert!(large > 0 && small > 10 * large, "{large} large ones and {small} small ones");
}

#[test]
fn a_flooder_has_half_of_the_room_and_is_told_once() {
    let (mut fan_out, mut script) = (limited(100, 1 << 30), Script::default());
    let (flooded, quiet) = (channel("flooder", "hot"), channel("victim", "quiet"));
    script.crowd(&flooded, 1);
    script.crowd(&quiet, 1);
    let now = Instant::now();

    let overflowed: Vec<_> =
        (1..=1_000).filter_map(|offset| fan_out.push(publication(&flooded, offset), now)).collect();

    assert_eq!(overflowed, std::slice::from_ref(&flooded));
    assert_eq!(fan_out.volume.offers, 50);
    assert_eq!(fan_out.push(publication(&quiet, 1), now), None, "the others have room");

    // The shard's last word comes behind what it has sent.
    let lagged = Delivery::Lagged { channel: flooded.clone(), tenure: Tenure(1) };
    assert!(fan_out.push_place(&flooded, lagged).is_none());
    while fan_out.has_work() {
        fan_out.step(now, &mut script);
    }
    let heard: Vec<_> =
        script.sends.iter().filter(|(of, ..)| of.as_str() == "flooder").cloned().collect();
    let offsets: Vec<_> = heard.into_iter().flat_map(|(.., offsets)| offsets).collect();
    assert!(offsets.into_iter().eq(1..=50), "in order up to where it was given up, then nobody");
    assert_eq!(script.lagged, std::slice::from_ref(&flooded));
    assert_eq!(fan_out.volume, Volume::default());
    assert_eq!(fan_out.push(publication(&flooded, 1_001), now), None);
    assert_eq!(fan_out.volume.offers, 1, "it is taken again");
}

#[test]
fn what_weighs_much_is_bounded_by_bytes() {
    let mut fan_out = limited(1_000_000, 1 << 20);
    let (flooded, now) = (channel("flooder", "hot"), Instant::now());

    let refused = (1..=100).find(|offset| {
        let publication = sized(&flooded, *offset, 60_000);
        fan_out.push(publication, now).is_some()
    });

    assert!(refused.is_some() && fan_out.volume.bytes <= (1 << 20) / 2 + 128 * 1_024);
}

#[test]
fn a_gap_is_bounded_like_a_publication() {
    let mut fan_out = limited(10, 1 << 20);
    let flooded = channel("flooder", "hot");
    let gap = Gap { reason: GapReason::Reset, position: position(1), missed: None };

    let overflowed = (0..100).filter_map(|_| fan_out.push_gap(flooded.clone(), gap)).count();

    assert_eq!((overflowed, fan_out.volume.offers), (1, 5));
}

#[test]
fn tenants_that_have_gone_are_forgotten() {
    let (mut fan_out, mut script) = (unlimited(), Script::default());
    let now = Instant::now();

    for number in 0..10 * KEPT_SHARES {
        let channel = channel(&format!("tenant-{number}"), "a");
        assert_eq!(fan_out.push(publication(&channel, 1), now), None);
        fan_out.step(now, &mut script);
    }

    assert!(fan_out.shares.by_tenant.len() <= KEPT_SHARES);
}

/// What happens to a fan-out.
#[derive(Clone, Debug)]
enum Step {
    /// The next publication of a channel of a tenant, which may leave one out before.
    Push(usize, bool),
    Gap(usize),
    Turn,
    /// The answer to having given up.
    Lagged(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channels = 0..CHANNELS.len();
    let step = prop_oneof![
        8 => (channels.clone(), any::<bool>()).prop_map(|(of, skips)| Step::Push(of, skips)),
        1 => channels.clone().prop_map(Step::Gap),
        2 => Just(Step::Turn),
        2 => channels.prop_map(Step::Lagged),
    ];
    prop::collection::vec(step, 1..300)
}

const CHANNELS: [(&str, &str); 5] =
    [("one", "a"), ("one", "b"), ("two", "a"), ("two", "c"), ("three", "d")];

proptest! {
    #[test]
    fn order_and_bounds_hold_whatever_happens(steps in steps(), room in 1_usize..60) {
        let (mut fan_out, mut script) = (limited(room, 1 << 30), Script::default());
        let channels = CHANNELS.map(|(tenant, name)| channel(tenant, name));
        for channel in &channels {
            script.crowd(channel, 40);
        }
        let mut given_up = HashSet::new();
        let (mut next, now) = ([1_u64; CHANNELS.len()], Instant::now());
        let mut taken: HashMap<TenantChannel, Vec<u64>> = HashMap::new();
        for step in steps {
            match step {
                Step::Push(of, skips) => {
                    next[of] += u64::from(skips);
                    let overflowed = fan_out.push(publication(&channels[of], next[of]), now);
                    let is_new = overflowed.is_some() && given_up.insert(channels[of].clone());
                    prop_assert_eq!(overflowed.is_some(), is_new, "said once");
                    if !given_up.contains(&channels[of]) && script.hub.subscribers(&channels[of]).is_some() {
                        taken.entry(channels[of].clone()).or_default().push(next[of]);
                    }
                    next[of] += 1;
                }
                Step::Gap(of) => {
                    let gap = Gap { reason: GapReason::Reset, position: position(1), missed: None };
                    given_up.extend(fan_out.push_gap(channels[of].clone(), gap));
                }
                Step::Turn => fan_out.step(now, &mut script),
                Step::Lagged(of) if given_up.remove(&channels[of]) => {
                    // Of a tenure that was over: everybody stays, so that all that is taken is heard.
                    let channel = channels[of].clone();
                    let lagged = Delivery::Lagged { channel, tenure: Tenure::default() };
                    if let Some(lagged) = fan_out.push_place(&channels[of], lagged) {
                        script.perform(lagged);
                    }
                }
                Step::Lagged(_) => {}
            }
            prop_assert!(fan_out.volume.offers <= room);
        }
        while fan_out.has_work() {
            fan_out.step(now, &mut script);
        }

        prop_assert_eq!(fan_out.volume, Volume::default());
        let mut heard: HashMap<(TenantChannel, ConnectionId), Vec<u64>> = HashMap::new();
        for (tenant, channel, connection, offsets) in script.sends {
            heard.entry((TenantChannel::new(tenant, channel), connection)).or_default().extend(offsets);
        }
        for ((channel, _), offsets) in &heard {
            prop_assert_eq!(offsets, &taken[channel]);
        }
        prop_assert_eq!(heard.len(), 40 * taken.len());
    }
}

fn unlimited() -> FanOut {
    limited(1 << 20, 1 << 40)
}

fn limited(deliveries: usize, bytes: usize) -> FanOut {
    FanOut::new(Live::new(ChannelRules::default()).reader(), QueueLimits { deliveries, bytes })
}

fn channel(tenant: &str, name: &str) -> TenantChannel {
    TenantChannel::new(
        Tenant::parse(tenant).expect("a tenant"),
        Channel::parse(name).expect("a channel"),
    )
}

fn position(offset: u64) -> Position {
    Position::new(Incarnation::ZERO.epoch(0), offset)
}

fn publication(channel: &TenantChannel, offset: u64) -> Arc<Envelope> {
    sized(channel, offset, 100)
}

fn sized(channel: &TenantChannel, offset: u64, bytes: usize) -> Arc<Envelope> {
    Arc::new(Envelope::new(Publication {
        channel: channel.clone(),
        position: position(offset),
        id: None,
        time_ms: 0,
        publisher: None,
        payload: Payload::binary(Bytes::from(vec![b'x'; bytes])),
    }))
}
