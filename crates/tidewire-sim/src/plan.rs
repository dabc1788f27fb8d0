use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::dice::Dice;

/// A run before it begins: what the world is like, and what goes wrong when. Every fault has drawn
/// all its numbers, so that leaving one out changes nothing about the others.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub(crate) knobs: Knobs,
    pub(crate) faults: Vec<Fault>,
}

/// What the world of a run is like.
#[derive(Clone, Debug)]
pub(crate) struct Knobs {
    pub(crate) nodes: usize,
    pub(crate) channels: u64,
    pub(crate) clients: u64,
    pub(crate) publishers: u64,
    /// The longest pause of a publisher, in milliseconds.
    pub(crate) pause: u64,
    /// Whether a publisher may send more at once than a read of the log returns.
    pub(crate) may_flood: bool,
    /// Publications kept in the memory of a node, for each channel.
    pub(crate) ring: usize,
    pub(crate) log_size: usize,
    pub(crate) log_ttl: Duration,
    /// The longest way to the log in one direction, in milliseconds.
    pub(crate) log_distance: u64,
    pub(crate) loss_percent: u64,
    /// The longest that an event is under way between two nodes, in milliseconds.
    pub(crate) wire_distance: u64,
    /// The longest until the network knows of a new interest, in milliseconds.
    pub(crate) ignorance: u64,
    /// What the outbox of a worker holds.
    pub(crate) outbox: usize,
    /// Whether a change of the primary loses what it stored last.
    pub(crate) loses_tails: bool,
    /// Whether one such change follows another before its loss could be made good.
    pub(crate) is_hasty: bool,
    /// How long faults happen.
    pub(crate) length: Duration,
}

/// Something that goes wrong, and when.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) at: Duration,
    pub(crate) kind: FaultKind,
}

#[derive(Clone, Debug)]
pub(crate) enum FaultKind {
    LoseFrames {
        count: usize,
    },
    Hold {
        length: Duration,
        reversed: bool,
    },
    Partition {
        node: usize,
        length: Duration,
    },
    Suspect,
    LoseReplies {
        count: usize,
    },
    LoseCalls {
        count: usize,
    },
    PauseRedis {
        length: Duration,
        acts_first: bool,
    },
    CutRedis {
        node: usize,
        length: Duration,
    },
    FlushFunctions,
    /// Redis has no memory left.
    Fill {
        length: Duration,
    },
    /// The clock of the primary goes wrong.
    Skew {
        millis: i64,
    },
    /// A replica that is so far behind takes the place of a primary that dies.
    FailOver {
        lag: Duration,
        away: Duration,
    },
    /// The primary comes back without what it stored last; so many times over.
    Restart {
        lag: Duration,
        away: Duration,
        times: u64,
    },
    /// As a failover, but the old primary lives on, and some nodes follow it.
    Split {
        lag: Duration,
        followers: BTreeSet<usize>,
        length: Duration,
    },
    Empty,
    KillNode {
        node: usize,
        back_after: Duration,
    },
    /// It does nothing for a while, and does not know.
    StopNode {
        node: usize,
        length: Duration,
    },
}

/// How far a clock goes wrong, in milliseconds.
const MOST_SKEW: u64 = 60_000;
const SHORT_TTL: Duration = Duration::from_secs(1);

impl Plan {
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (mut about_world, mut about_faults) = (dice.fork(), dice.fork());
        let knobs = Knobs::draw(&mut about_world);
        let faults = draw_faults(&mut about_faults, &knobs);
        Self { seed, knobs, faults }
    }

    /// The same without all faults but these.
    #[must_use]
    pub fn keeping(&self, indices: &[usize]) -> Self {
        let mut kept = self.clone();
        kept.faults = indices.iter().filter_map(|index| self.faults.get(*index).cloned()).collect();
        kept
    }

    /// How many faults there are; they are numbered from 0.
    pub fn faults(&self) -> usize {
        self.faults.len()
    }

    /// The dice of those who act in the run.
    pub(crate) fn dice(&self) -> Dice {
        let mut dice = Dice::new(self.seed);
        let _for_the_plan = (dice.fork(), dice.fork());
        dice.fork()
    }
}

impl Knobs {
    fn draw(dice: &mut Dice) -> Self {
        let day = Duration::from_mins(5);
        Self {
            nodes: dice.index(2) + 2,
            channels: dice.between(1, 3),
            clients: dice.between(3, 6),
            publishers: dice.between(2, 4),
            pause: dice.pick(&[30, 150, 400]),
            may_flood: dice.chance(5),
            ring: dice.pick(&[2, 10, 256]),
            log_size: dice.pick(&[8, 40, 1_000]),
            log_ttl: dice.pick(&[day, day, SHORT_TTL]),
            log_distance: dice.pick(&[0, 2, 40]),
            loss_percent: dice.pick(&[0, 5, 30]),
            wire_distance: dice.pick(&[0, 3, 80]),
            ignorance: dice.pick(&[0, 200, 1_500]),
            outbox: dice.pick(&[3, 40, 16_384]),
            loses_tails: dice.chance(60),
            is_hasty: dice.chance(25),
            length: dice.millis(2_000, 9_000),
        }
    }
}

/// Rows of faults, of which any two may overlap: two of small ones, one of changes of the primary, one
/// of killed nodes, so that there is always one left.
fn draw_faults(dice: &mut Dice, knobs: &Knobs) -> Vec<Fault> {
    let mut faults = Vec::new();
    for _ in 0..2 {
        draw_row(&mut faults, dice.fork(), (knobs, 20, 700), draw_small);
    }
    let pause = if knobs.is_hasty { 20 } else { CHANGES_APART };
    draw_row(&mut faults, dice.fork(), (knobs, pause, pause + 3_000), draw_change);
    if dice.chance(60) {
        draw_row(&mut faults, dice.fork(), (knobs, 500, 5_000), draw_kill);
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// The time it takes to append again what a change has lost, in milliseconds: another one within it
/// would be a second fault.
const CHANGES_APART: u64 = 4_000;

fn draw_row(
    faults: &mut Vec<Fault>,
    mut dice: Dice,
    (knobs, least, most): (&Knobs, u64, u64),
    draw: impl Fn(&mut Dice, &Knobs) -> FaultKind,
) {
    let mut at = dice.millis(20, most);
    while at < knobs.length {
        let kind = draw(&mut dice, knobs);
        let length = kind.length();
        faults.push(Fault { at, kind });
        at += length + dice.millis(least, most);
    }
}

fn draw_small(dice: &mut Dice, knobs: &Knobs) -> FaultKind {
    match dice.between(0, 12) {
        0 => FaultKind::LoseFrames { count: dice.index(5) + 1 },
        1 => FaultKind::Hold { length: dice.millis(5, 400), reversed: true },
        2 => FaultKind::Hold { length: dice.millis(5, 1_000), reversed: false },
        3 => {
            let (node, length) = (dice.index(knobs.nodes), dice.millis(5, 3_000));
            FaultKind::Partition { node, length }
        }
        4 => FaultKind::Suspect,
        5 => {
            let (length, acts_first) = (dice.millis(5, 4_000), dice.chance(50));
            FaultKind::PauseRedis { length, acts_first }
        }
        6 => {
            let (node, length) = (dice.index(knobs.nodes), dice.millis(5, 3_000));
            FaultKind::CutRedis { node, length }
        }
        7 => FaultKind::FlushFunctions,
        8 => FaultKind::Fill { length: dice.millis(5, 1_500) },
        12 => {
            let (length, ahead) = (dice.between(0, MOST_SKEW), dice.chance(50));
            let millis = i64::try_from(length).expect("a minute");
            FaultKind::Skew { millis: if ahead { millis } else { -millis } }
        }
        9 => FaultKind::LoseCalls { count: dice.index(3) + 1 },
        10 => FaultKind::StopNode { node: dice.index(knobs.nodes), length: dice.millis(5, 3_000) },
        _ => FaultKind::LoseReplies { count: dice.index(3) + 1 },
    }
}

fn draw_change(dice: &mut Dice, knobs: &Knobs) -> FaultKind {
    let lag = if knobs.loses_tails { dice.millis(0, 1_000) } else { Duration::ZERO };
    let away = dice.millis(0, 1_500);
    match dice.between(0, 9) {
        0..=3 => FaultKind::FailOver { lag, away },
        4..=5 => {
            // Now and then more lives pass than a lineage can name.
            let times = if knobs.is_hasty { dice.pick(&[1, 1, 2, 9]) } else { 1 };
            FaultKind::Restart { lag, away, times }
        }
        6..=8 => {
            let followers = (0..knobs.nodes).filter(|_| dice.chance(50)).collect();
            let length = dice.millis(5, 3_000);
            let lag = if knobs.loses_tails { lag } else { Duration::ZERO };
            FaultKind::Split { lag, followers, length }
        }
        _ if knobs.is_hasty => FaultKind::Empty,
        _ => FaultKind::FailOver { lag: Duration::ZERO, away },
    }
}

fn draw_kill(dice: &mut Dice, knobs: &Knobs) -> FaultKind {
    let (node, back_after) = (dice.index(knobs.nodes), dice.millis(5, 9_000));
    FaultKind::KillNode { node, back_after }
}

impl FaultKind {
    /// How long it lasts.
    fn length(&self) -> Duration {
        match self {
            Self::Hold { length, .. }
            | Self::Partition { length, .. }
            | Self::PauseRedis { length, .. }
            | Self::CutRedis { length, .. }
            | Self::Fill { length }
            | Self::Split { length, .. }
            | Self::StopNode { length, .. } => *length,
            Self::FailOver { away, .. } | Self::Restart { away, .. } => *away,
            Self::KillNode { back_after, .. } => *back_after,
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {:?}", self.seed, self.knobs)?;
        for (index, fault) in self.faults.iter().enumerate() {
            writeln!(f, "[{index}] {fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s {:?}", self.at.as_secs_f64(), self.kind)
    }
}
