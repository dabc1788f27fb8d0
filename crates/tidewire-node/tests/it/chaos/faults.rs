use std::time::Duration;

use tidewire_broker::MemoryNetwork;
use tidewire_model::NodeId;
use tokio::time::Instant;

use super::dice::Dice;
use super::log::FaultyLog;
use super::world::World;

impl World {
    /// Lets one fault follow another, two at a time, and mends everything at the end.
    pub(super) async fn suffer(&mut self, length: Duration) {
        let until = Instant::now() + length;
        let (one, other) = (self.dice.fork(), self.dice.fork());
        tokio::join!(self.faults(one).run(until), self.faults(other).run(until));
        self.network.lose_next(0);
        self.network.release();
        self.network.heal();
        self.log.lose_replies(0);
        self.log.switch(true);
    }

    fn faults(&self, dice: Dice) -> Faults<'_> {
        Faults {
            dice,
            network: &self.network,
            log: &self.log,
            nodes: self.nodes.iter().map(|node| node.id().clone()).collect(),
            loses_publications: self.loses_publications,
        }
    }
}

struct Faults<'a> {
    dice: Dice,
    network: &'a MemoryNetwork,
    log: &'a FaultyLog,
    nodes: Vec<NodeId>,
    loses_publications: bool,
}

impl Faults<'_> {
    async fn run(mut self, until: Instant) {
        while Instant::now() < until {
            tokio::time::sleep(self.dice.millis(20, 700)).await;
            self.happen().await;
        }
    }

    async fn happen(&mut self) {
        match self.dice.between(0, 7) {
            0 => self.network.lose_next(self.dice.index(5) + 1),
            1 => {
                self.network.hold();
                self.last(400).await;
                self.network.release_reversed();
            }
            2 => {
                self.network.hold();
                self.last(1_000).await;
                self.network.release();
            }
            3 => {
                self.network.partition([self.dice.pick(&self.nodes)]);
                self.last(3_000).await;
                self.network.heal();
            }
            4 => self.network.suspect(),
            5 => self.restart(),
            6 => {
                self.log.switch(false);
                self.last(1_500).await;
                self.log.switch(true);
            }
            _ => self.log.lose_replies(self.dice.index(3) + 1),
        }
    }

    fn restart(&mut self) {
        let lost = if self.loses_publications { self.dice.between(0, 4) } else { 0 };
        // Now and then more lives pass than a lineage can name.
        for _ in 0..self.dice.pick(&[1, 1, 1, 1, 2, 9]) {
            self.log.restart(lost);
        }
    }

    async fn last(&mut self, most: u64) {
        tokio::time::sleep(self.dice.millis(5, most)).await;
    }
}
