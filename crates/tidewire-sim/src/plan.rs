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
    /// The log begins a new life, so many times, without the newest of each channel.
    Restart {
        times: u64,
        lost: u64,
    },
    LogAway {
        length: Duration,
    },
    LoseReplies {
        count: usize,
    },
}

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
            length: dice.millis(2_000, 8_000),
        }
    }
}

/// Two rows of faults, so that any two may overlap.
fn draw_faults(dice: &mut Dice, knobs: &Knobs) -> Vec<Fault> {
    let loses_publications = dice.chance(60);
    let mut faults = Vec::new();
    for _ in 0..2 {
        let mut at = dice.millis(20, 700);
        while at < knobs.length {
            let kind = draw_fault(dice, knobs, loses_publications);
            let length = kind.length();
            faults.push(Fault { at, kind });
            at += length + dice.millis(20, 700);
        }
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn draw_fault(dice: &mut Dice, knobs: &Knobs, loses_publications: bool) -> FaultKind {
    match dice.between(0, 7) {
        0 => FaultKind::LoseFrames { count: dice.index(5) + 1 },
        1 => FaultKind::Hold { length: dice.millis(5, 400), reversed: true },
        2 => FaultKind::Hold { length: dice.millis(5, 1_000), reversed: false },
        3 => {
            let (node, length) = (dice.index(knobs.nodes), dice.millis(5, 3_000));
            FaultKind::Partition { node, length }
        }
        4 => FaultKind::Suspect,
        5 => {
            let lost = if loses_publications { dice.between(0, 4) } else { 0 };
            // Now and then more lives pass than a lineage can name.
            FaultKind::Restart { times: dice.pick(&[1, 1, 1, 1, 2, 9]), lost }
        }
        6 => FaultKind::LogAway { length: dice.millis(5, 1_500) },
        _ => FaultKind::LoseReplies { count: dice.index(3) + 1 },
    }
}

impl FaultKind {
    /// How long it lasts.
    fn length(&self) -> Duration {
        match self {
            Self::Hold { length, .. }
            | Self::Partition { length, .. }
            | Self::LogAway { length } => *length,
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
