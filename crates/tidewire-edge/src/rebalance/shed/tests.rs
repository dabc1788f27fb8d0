use super::*;

const CONFIG: RebalanceConfig = RebalanceConfig { permille: 600, patience: Duration::from_mins(1) };

fn node(number: usize) -> NodeId {
    NodeId::parse(&format!("node-{number}")).expect("node")
}

fn lease(number: usize, connections: u64) -> NodeLease {
    NodeLease {
        node: node(number),
        slot: None,
        state: NodeState::Ready,
        weight: 100,
        connections,
        started_at_ms: 0,
        beats: false,
        // Of many cores, so that nothing but the rate bounds what is shed.
        load: NodeLoad { cores_milli: 1_000_000, resume_us: 1_000, ..NodeLoad::default() },
        url: None,
    }
}

/// What the first of these nodes makes of what all of them have.
fn standing(connections: &[u64]) -> Option<Standing> {
    let members: Vec<_> = (0..).zip(connections).map(|(at, count)| lease(at, *count)).collect();
    Standing::of(&node(0), &members, connections[0], Underway::default())
}

/// Looks each second for so long; gives what was asked for in all.
fn shed_for(shed: &mut Shed, from: Instant, seconds: u64, connections: &[u64]) -> u64 {
    let look = |second| shed.look(from + Duration::from_secs(second), standing(connections));
    (0..seconds).map(look).sum()
}

/// One that has been up for long.
fn shed(now: Instant) -> Shed {
    Shed::new(CONFIG, now - Duration::from_mins(10))
}

#[test]
fn a_share_follows_the_weights_and_everybody_there_is() {
    let mut members = vec![lease(0, 0), lease(1, 300), lease(2, 300)];
    let shares = |members: &[NodeLease], underway| {
        let standing = Standing::of(&node(0), members, 600, underway).expect("others");
        (standing.share, standing.largest_share)
    };

    assert_eq!(shares(&members, Underway::default()), (400, 400));
    members[0].weight = 200;
    assert_eq!(shares(&members, Underway::default()), (600, 600));
    members[0].weight = 100;
    assert_eq!(shares(&members, Underway { here: 60, gone: 90 }), (380, 430));
    let left = Standing::of(&node(0), &members, 600, Underway { here: 60, gone: 0 });
    assert_eq!(left.expect("others").own, 540);
}

#[test]
fn nothing_is_shed_before_it_was_too_much_for_a_while() {
    let now = Instant::now();
    let mut shed = shed(now);

    assert_eq!(shed_for(&mut shed, now, 60, &[1_000, 0]), 0);
    // For a moment it was not.
    shed.look(now + Duration::from_mins(1), standing(&[570, 500]));
    assert_eq!(shed_for(&mut shed, now + Duration::from_secs(61), 60, &[1_000, 0]), 0);
    assert_eq!(shed.look(now + Duration::from_secs(121), standing(&[1_000, 0])), 10);
}

#[test]
fn a_node_that_has_just_come_up_sheds_nothing() {
    let now = Instant::now();
    let mut new = Shed::new(CONFIG, now);

    assert_eq!(shed_for(&mut new, now, 120, &[1_000, 0]), 0);
    assert_eq!(new.look(now + Duration::from_mins(2), standing(&[1_000, 0])), 10);
}

#[test]
fn a_little_too_much_is_left_where_it_is() {
    let now = Instant::now();

    for even in [[10_000, 10_000, 10_000], [11_500, 9_300, 9_300], [90, 60, 30], [0, 9_000, 9_000]]
    {
        assert_eq!(shed_for(&mut shed(now), now, 300, &even), 0, "{even:?}");
    }
    for uneven in [[11_900, 9_000, 9_000], [150, 60, 30]] {
        assert!(shed_for(&mut shed(now), now, 300, &uneven) > 0, "{uneven:?}");
    }
}

#[test]
fn it_goes_on_until_hardly_anything_is_above_and_asks_for_no_more_than_that() {
    let now = Instant::now();
    let mut shed = shed(now);
    shed_for(&mut shed, now, 61, &[14_000, 6_000]);
    let mut at = |second: u64, counts: &[u64]| {
        shed.look(now + Duration::from_secs(second), standing(counts))
    };

    assert_eq!(at(61, &[11_000, 9_000]), 110);
    assert_eq!(at(62, &[10_507, 9_493]), 7);
    assert_eq!(at(63, &[10_500, 9_500]), 0);
    // It has stopped: this is not too much for whoever has not begun.
    assert_eq!(at(64, &[11_000, 9_000]), 0);
}

#[test]
fn nobody_is_asked_while_those_on_the_way_may_be_all_it_takes() {
    let now = Instant::now();
    let mut shed = shed(now);
    shed_for(&mut shed, now, 61, &[1_000, 0]);
    let members = [lease(0, 110), lease(1, 60)];
    let mut ask = |second, gone| {
        let standing = Standing::of(&node(0), &members, 110, Underway { here: 0, gone });
        shed.look(now + Duration::from_secs(second), standing)
    };

    assert_eq!(ask(61, 40), 0);
    // They were not: some have left for good.
    assert_eq!(ask(62, 0), 1);
}

#[test]
fn the_rate_is_kept_in_small_numbers_too_and_is_one_a_second_at_least() {
    let now = Instant::now();
    let slow = RebalanceConfig { permille: 10, ..CONFIG };
    let mut of_many = Shed::new(slow, now - Duration::from_mins(10));
    let mut of_few = Shed::new(slow, now - Duration::from_mins(10));

    // A hundredth of 100,000 in a minute.
    assert_eq!(shed_for(&mut of_many, now, 120, &[100_000, 0]), 1_000);
    assert_eq!(shed_for(&mut of_few, now, 120, &[1_000, 0]), 60);
}

#[test]
fn what_others_can_take_bounds_it_and_nobody_is_sent_to_who_does_not_keep_up() {
    let now = Instant::now();
    let ask = |load: NodeLoad| {
        let members = [lease(0, 100_000), NodeLease { load, ..lease(1, 0) }];
        let standing = Standing::of(&node(0), &members, 100_000, Underway::default());
        let look = |shed: &mut Shed, second| shed.look(now + Duration::from_secs(second), standing);
        let mut shed = shed(now);
        look(&mut shed, 0);
        look(&mut shed, 60)
    };

    // A core at a millisecond each has 750 a second to spare, of which 3 in 10 are taken.
    assert_eq!(ask(NodeLoad { cores_milli: 1_000, resume_us: 1_000, ..NodeLoad::default() }), 225);
    assert_eq!(ask(NodeLoad { cpu_permille: 800, ..lease(1, 0).load }), 0);
    assert_eq!(ask(NodeLoad { accept_p99_ms: 512, ..lease(1, 0).load }), 0);
}

#[test]
fn a_drain_anywhere_or_being_alone_ends_it() {
    let draining = NodeLease { state: NodeState::Draining, ..lease(1, 0) };
    let of = |members: &[NodeLease]| Standing::of(&node(0), members, 500, Underway::default());

    assert_eq!(of(&[lease(0, 500), draining, lease(2, 0)]), None);
    assert_eq!(of(&[lease(0, 500)]), None);
    assert_eq!(of(&[lease(1, 0), lease(2, 0)]), None, "it does not know itself yet");

    let now = Instant::now();
    let mut shed = shed(now);
    assert!(shed_for(&mut shed, now, 62, &[1_000, 0]) > 0);
    shed.look(now + Duration::from_secs(62), None);
    assert_eq!(shed_for(&mut shed, now + Duration::from_secs(63), 60, &[1_000, 0]), 0);
}

#[test]
fn it_rests_if_most_come_back_and_then_tries_again() {
    let now = Instant::now();
    let mut shed = shed(now);
    shed_for(&mut shed, now, 61, &[1_000, 0]);

    assert!(!shed.heed(now, Fates { gone: 9, back: 10 }), "too few to tell");
    assert!(shed.heed(now, Fates { gone: 0, back: 1 }));

    assert!(shed.is_resting());
    assert_eq!(shed_for(&mut shed, now, 600 + 60, &[1_000, 0]), 0);
    assert!(shed_for(&mut shed, now + Duration::from_mins(11), 2, &[1_000, 0]) > 0);
    assert!(!shed.heed(now, Fates { gone: 11, back: 9 }));
    assert!(!shed.is_resting());
}

/// Deals out numbers that look random: splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Nodes that shed, with leases that are two seconds old and clients that take up to three to move.
struct Played {
    sheds: Vec<Shed>,
    counts: Vec<u64>,
    /// What leases said in the last seconds.
    leases: Vec<Vec<NodeLease>>,
    /// When each arrives, from where.
    underway: Vec<(u64, usize)>,
    moved: u64,
    dice: Dice,
}

const NODES: usize = 50;

impl Played {
    fn new(seed: u64, started: Instant) -> Self {
        let mut dice = Dice(seed);
        let config = RebalanceConfig { permille: 300, patience: Duration::from_mins(1) };
        Self {
            sheds: (0..NODES).map(|_| Shed::new(config, started)).collect(),
            counts: (0..NODES).map(|_| dice.below(4_000)).collect(),
            leases: Vec::new(),
            underway: Vec::new(),
            moved: 0,
            dice,
        }
    }

    fn weight(at: usize) -> u32 {
        if at.is_multiple_of(5) { 200 } else { 100 }
    }

    /// What each would have if all had as much for their weight.
    fn shares(&self) -> Vec<u64> {
        let all: u64 = (0..NODES).map(|at| u64::from(Self::weight(at))).sum();
        let total = self.counts.iter().sum::<u64>() + self.underway.len() as u64;
        (0..NODES).map(|at| total * u64::from(Self::weight(at)) / all).collect()
    }

    fn excess(&self) -> u64 {
        let both = self.counts.iter().zip(self.shares());
        both.map(|(count, share)| count.saturating_sub(share)).sum()
    }

    fn second(&mut self, second: u64, now: Instant) {
        let leases = (0..)
            .zip(&self.counts)
            .map(|(at, count)| NodeLease { weight: Self::weight(at), ..lease(at, *count) });
        self.leases.push(leases.collect());
        let known = &self.leases[self.leases.len().saturating_sub(3)];
        for at in 0..NODES {
            let gone = self.underway.iter().filter(|(_, from)| *from == at).count() as u64;
            let underway = Underway { here: 0, gone };
            let standing = Standing::of(&node(at), known, self.counts[at], underway);
            let asked = self.sheds[at].look(now, standing);
            self.counts[at] -= asked;
            self.moved += asked;
            let dice = &mut self.dice;
            self.underway.extend((0..asked).map(|_| (second + 2 + dice.below(3), at)));
        }
        // As a hint does: by lot among those that have less than their share.
        let shares = self.shares();
        let (arriving, underway) = self.underway.drain(..).partition(|(by, _)| *by <= second);
        self.underway = underway;
        let arriving: Vec<(u64, usize)> = arriving;
        for _ in arriving {
            let below: Vec<_> = (0..NODES).filter(|at| self.counts[*at] < shares[*at]).collect();
            let lot = usize::try_from(self.dice.below(below.len() as u64)).expect("small");
            self.counts[below[lot]] += 1;
        }
    }
}

#[test]
fn fifty_nodes_come_to_their_shares_and_no_client_is_moved_in_vain() {
    for seed in 0..4 {
        let started = Instant::now();
        let mut played = Played::new(seed, started);
        let (before, mut excess) = (played.excess(), u64::MAX);

        for second in 0..900 {
            played.second(second, started + Duration::from_secs(second));
            let less = played.excess();
            assert!(less <= excess, "seed {seed}: it rose in second {second}");
            excess = less;
        }

        assert!(played.moved <= before, "seed {seed}: {} of {before}", played.moved);
        for (at, share) in played.shares().into_iter().enumerate() {
            let count = played.counts[at];
            let most = share + (share * MUCH_PERCENT / 100).max(MUCH);
            assert!(count <= most, "seed {seed}: node {at} has {count} of {share}");
        }
    }
}
