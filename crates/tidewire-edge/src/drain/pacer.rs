//! How quickly clients are asked to move: as quickly as those who will have them can take them.

use std::time::Duration;

use tidewire_store::NodeLoad;

use crate::DrainConfig;

/// Clients are asked to move in slices of this length.
pub(super) const SLICE: Duration = Duration::from_millis(SLICE_MILLIS);
const SLICE_MILLIS: u64 = 50;
/// A whole node takes at least this long.
const SHORTEST: Duration = Duration::from_secs(2);
/// Processor in use, in thousandths, above which a survivor has nothing to spare.
const FULL_PERMILLE: u32 = 750;
/// Waits above these say that a survivor does not keep up; upper bounds of what [`NodeLoad`] tells
/// apart.
const LONG_ACCEPT_MS: u32 = 256;
const LONG_RESUME_MS: u32 = 512;
/// Of what survivors have to spare this much is used, in tenths.
const USED_TENTHS: u64 = 6;
/// What is assumed of a survivor that says nothing.
const UNKNOWN: NodeLoad = NodeLoad {
    cores_milli: 1_000,
    cpu_permille: 500,
    resume_us: 1_200,
    accept_p99_ms: 0,
    resume_p99_ms: 0,
};

/// What a drain looks at once a second.
#[derive(Debug)]
pub(super) struct Outlook {
    /// What the nodes that stay say of themselves.
    pub(super) survivors: Vec<NodeLoad>,
    /// Nodes that are leaving and share what the survivors can take, this one included.
    pub(super) leaving: u32,
    /// Clients that have not been asked.
    pub(super) unasked: usize,
    /// Until everybody is to have been asked.
    pub(super) left: Duration,
}

/// How many clients the next slice asks.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Clients per second, however much survivors could take.
    most: u32,
    /// Clients per second as far as survivors are concerned.
    gentle: u32,
    is_hurrying: bool,
    slices: Slices,
}

impl Pacer {
    pub(super) fn new(config: DrainConfig, outlook: &Outlook) -> Self {
        let most = config.rate.min(per_second(outlook.unasked, SHORTEST)).max(1);
        let gentle = outlook.budget().unwrap_or(most).min(most);
        let mut pacer = Self { most, gentle, is_hurrying: false, slices: Slices::new(1) };
        pacer.keep_to(outlook);
        pacer
    }

    /// Adapts to what is so a second later: half as quick if any survivor does not keep up, else a
    /// tenth quicker, within what they can take.
    pub(super) fn hear(&mut self, outlook: &Outlook) {
        let budget = outlook.budget().unwrap_or(self.most).min(self.most);
        self.gentle = if outlook.survivors.iter().any(is_hot) {
            self.gentle / 2
        } else {
            self.gentle.saturating_add(self.gentle / 10 + 1)
        };
        self.gentle = self.gentle.min(budget);
        self.keep_to(outlook);
    }

    /// The deadline comes first, whatever survivors say.
    fn keep_to(&mut self, outlook: &Outlook) {
        let needed = per_second(outlook.unasked, outlook.left.max(Duration::from_secs(1)));
        let is_hurrying = needed > self.gentle;
        if is_hurrying && !self.is_hurrying {
            tracing::warn!(
                needed,
                gentle = self.gentle,
                "drain is quicker than it should be for the nodes that stay, or it would miss its deadline"
            );
        }
        self.is_hurrying = is_hurrying;
        self.slices.per_second = self.gentle.max(needed).max(1);
    }

    pub(super) fn per_second(&self) -> u32 {
        self.slices.per_second
    }

    pub(super) fn next_slice(&mut self) -> usize {
        self.slices.next_slice()
    }
}

impl Outlook {
    /// Clients per second that the survivors can take of this node, or `None` if there are none.
    fn budget(&self) -> Option<u32> {
        if self.survivors.is_empty() {
            return None;
        }
        let ours = spare(self.survivors.iter()) / u64::from(self.leaving.max(1));
        Some(u32::try_from(ours).unwrap_or(u32::MAX))
    }
}

/// What is used of what nodes with these loads have to spare, in clients per second.
pub(crate) fn spare<'a>(loads: impl Iterator<Item = &'a NodeLoad>) -> u64 {
    loads.map(spare_per_second).sum::<u64>() * USED_TENTHS / 10
}

/// Clients per second that a node can take until it is full.
fn spare_per_second(load: &NodeLoad) -> u64 {
    let load = if *load == NodeLoad::default() { &UNKNOWN } else { load };
    let spare = FULL_PERMILLE.saturating_sub(load.cpu_permille.into());
    // Thousandths of thousandths of a core in a second are microseconds of it.
    u64::from(load.cores_milli) * u64::from(spare) / u64::from(load.resume_us.max(1))
}

/// Whether a node does not keep up with who comes, or is about not to.
pub(crate) fn is_hot(load: &NodeLoad) -> bool {
    u32::from(load.cpu_permille) > FULL_PERMILLE
        || load.accept_p99_ms > LONG_ACCEPT_MS
        || load.resume_p99_ms > LONG_RESUME_MS
}

/// A rate, cut into slices.
#[derive(Debug)]
pub(super) struct Slices {
    per_second: u32,
    /// Thousandths of a client that slices before had to leave over.
    carried: u64,
}

impl Slices {
    pub(super) fn new(per_second: u32) -> Self {
        // All but a whole one, so that a lone client is asked in the first slice.
        Self { per_second, carried: 999 }
    }

    /// How many clients are in the next slice: over a second, exactly the rate.
    pub(super) fn next_slice(&mut self) -> usize {
        let thousandths = self.carried + u64::from(self.per_second) * SLICE_MILLIS;
        self.carried = thousandths % 1_000;
        usize::try_from(thousandths / 1_000).unwrap_or(usize::MAX)
    }
}

/// The rate at which so many take no longer than `within`.
pub(super) fn per_second(count: usize, within: Duration) -> u32 {
    let millis = within.as_millis().max(1);
    u32::try_from((count as u128 * 1_000).div_ceil(millis)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_BUSY: NodeLoad = NodeLoad { cores_milli: 4_000, ..UNKNOWN };

    fn outlook(survivors: &[NodeLoad], unasked: usize, seconds: u64) -> Outlook {
        let left = Duration::from_secs(seconds);
        Outlook { survivors: survivors.to_vec(), leaving: 1, unasked, left }
    }

    fn rate(rate: u32) -> DrainConfig {
        DrainConfig { rate, ..DrainConfig::default() }
    }

    fn pace(config: DrainConfig, outlook: &Outlook) -> u32 {
        Pacer::new(config, outlook).per_second()
    }

    #[test]
    fn alone_a_small_node_takes_two_seconds_and_a_large_one_keeps_the_configured_rate() {
        assert_eq!(pace(rate(2_000), &outlook(&[], 100, 100)), 50);
        assert_eq!(pace(rate(2_000), &outlook(&[], 100_000, 100)), 2_000);
        assert_eq!(pace(rate(2_000), &outlook(&[], 0, 100)), 1);
    }

    #[test]
    fn what_survivors_have_to_spare_bounds_the_pace() {
        let nine = [HALF_BUSY; 9];

        assert_eq!(pace(rate(2_000), &outlook(&nine, 100_000, 100)), 2_000);
        assert_eq!(pace(rate(50_000), &outlook(&nine, 100_000, 100)), 4_498);
        assert_eq!(pace(rate(50_000), &outlook(&nine[..1], 40_000, 100)), 499);
        let full = NodeLoad { cpu_permille: 750, ..HALF_BUSY };
        assert_eq!(pace(rate(2_000), &outlook(&[full], 100, 100)), 1);
        let silent = NodeLoad::default();
        assert_eq!(pace(rate(2_000), &outlook(&[silent], 1_000, 100)), 124);
    }

    #[test]
    fn nodes_that_leave_together_share_what_survivors_can_take() {
        let alone = outlook(&[HALF_BUSY], 10_000, 100);
        let together = Outlook { leaving: 2, ..outlook(&[HALF_BUSY], 10_000, 100) };

        assert_eq!((pace(rate(2_000), &alone), pace(rate(2_000), &together)), (499, 249));
    }

    #[test]
    fn a_survivor_that_does_not_keep_up_halves_the_pace_and_then_it_grows_by_a_tenth() {
        let calm = outlook(&[HALF_BUSY; 9], 100_000, 10_000);
        let hots = [
            NodeLoad { cpu_permille: 751, ..HALF_BUSY },
            NodeLoad { accept_p99_ms: 512, ..HALF_BUSY },
            NodeLoad { resume_p99_ms: 1_024, ..HALF_BUSY },
        ];
        for hot in hots {
            let mut pacer = Pacer::new(rate(2_000), &calm);
            let mut heard = Vec::new();

            pacer.hear(&outlook(&[&[hot][..], &[HALF_BUSY; 9]].concat(), 100_000, 10_000));
            heard.push(pacer.per_second());
            for _ in 0..2 {
                pacer.hear(&calm);
                heard.push(pacer.per_second());
            }

            assert_eq!(heard, [1_000, 1_101, 1_212], "{hot:?}");
            (0..20).for_each(|_| pacer.hear(&calm));
            assert_eq!(pacer.per_second(), 2_000, "never more than configured");
        }
    }

    #[test]
    fn the_deadline_is_kept_even_if_that_takes_more_than_anybody_likes() {
        assert_eq!(pace(rate(500), &outlook(&[], 100_000, 50)), 2_000);
        let hot = NodeLoad { cpu_permille: 1_000, ..HALF_BUSY };
        assert_eq!(pace(rate(500), &outlook(&[hot], 100_000, 50)), 2_000);
        assert_eq!(pace(rate(500), &outlook(&[hot], 1_000, 0)), 1_000);
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

        fn load(&mut self) -> NodeLoad {
            let mut below = |bound: u32| u32::try_from(self.below(bound.into())).expect("small");
            NodeLoad {
                cores_milli: below(8_000),
                cpu_permille: u16::try_from(below(1_001)).expect("small"),
                resume_us: below(10_000),
                accept_p99_ms: 1 << below(12),
                resume_p99_ms: 1 << below(12),
            }
        }
    }

    #[test]
    fn everybody_has_been_asked_in_time_whatever_survivors_say() {
        const SECONDS: u64 = 60;
        for seed in 0..200 {
            let mut dice = Dice(seed);
            let mut unasked = usize::try_from(dice.below(200_000)).expect("small");
            let config = rate(u32::try_from(dice.below(5_000)).expect("small"));
            let mut pacer = Pacer::new(config, &outlook(&[], unasked, SECONDS));

            for left in (1..=SECONDS).rev() {
                let survivors: Vec<_> = (0..dice.below(4)).map(|_| dice.load()).collect();
                pacer.hear(&outlook(&survivors, unasked, left));
                for _ in 0..1_000 / SLICE_MILLIS {
                    unasked = unasked.saturating_sub(pacer.next_slice());
                }
            }

            assert_eq!(unasked, 0, "seed {seed}");
        }
    }

    #[test]
    fn slices_add_up_to_the_rate_and_the_first_has_somebody() {
        for per_second in [1, 19, 39, 50, 2_001] {
            let mut slices = Slices::new(per_second);

            let slices: Vec<_> = (0..1_000 / SLICE_MILLIS).map(|_| slices.next_slice()).collect();

            assert_eq!(slices.iter().sum::<usize>(), per_second as usize, "{slices:?}");
            assert!(slices[0] > 0, "{slices:?}");
        }
    }
}
