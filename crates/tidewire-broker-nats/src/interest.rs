use std::collections::{HashMap, HashSet};

use tidewire_broker::Partition;

/// Which partitions the node wants, and what NATS is known to have heard of it.
///
/// Every change takes the next ticket. A probe that carries a ticket is sent after the change was,
/// and its return confirms that ticket and all before it.
#[derive(Default)]
pub(crate) struct Interest {
    /// With the ticket under which each was first wanted.
    wanted: HashMap<Partition, Ticket>,
    /// Wanted or no longer wanted since [`Interest::take_changed`].
    changed: HashSet<Partition>,
    last_ticket: Ticket,
    confirmed: Ticket,
    /// Once this is confirmed, the node has to compare its positions.
    suspect_after: Option<Ticket>,
}

pub(crate) type Ticket = u64;

impl Interest {
    /// The ticket that proves interest in `partition`, when it is confirmed.
    pub(crate) fn want(&mut self, partition: &Partition) -> Ticket {
        if let Some(&ticket) = self.wanted.get(partition) {
            return ticket;
        }
        let ticket = self.draw();
        self.wanted.insert(partition.clone(), ticket);
        self.changed.insert(partition.clone());
        ticket
    }

    pub(crate) fn unwant(&mut self, partition: &Partition) {
        if self.wanted.remove(partition).is_some() {
            self.changed.insert(partition.clone());
        }
    }

    pub(crate) fn wants(&self, partition: &Partition) -> bool {
        self.wanted.contains_key(partition)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The partitions to subscribe to or to leave, and the ticket to put on a probe once that is
    /// done. Tickets drawn later stand for changes that this probe does not follow.
    pub(crate) fn take_changed(&mut self) -> (Vec<Partition>, Ticket) {
        (self.changed.drain().collect(), self.last_ticket)
    }

    pub(crate) fn draw(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    pub(crate) fn is_confirmed(&self, ticket: Ticket) -> bool {
        ticket <= self.confirmed
    }

    /// Takes note of a probe that came back. Tickets that were never drawn are somebody's invention.
    pub(crate) fn confirm(&mut self, ticket: Ticket) -> bool {
        let is_news = (self.confirmed + 1..=self.last_ticket).contains(&ticket);
        if is_news {
            self.confirmed = ticket;
        }
        is_news
    }

    /// Remembers that publications may be lost until `ticket` is confirmed.
    pub(crate) fn suspect_after(&mut self, ticket: Ticket) {
        self.suspect_after = self.suspect_after.max(Some(ticket));
    }

    /// Whether the node has to be told, now that the network is known to deliver again.
    pub(crate) fn take_suspect(&mut self) -> bool {
        self.suspect_after.take_if(|ticket| *ticket <= self.confirmed).is_some()
    }
}

#[cfg(test)]
mod tests {
    use tidewire_model::Tenant;

    use super::*;

    #[test]
    fn wanting_a_partition_twice_is_one_change_with_one_ticket() {
        let mut interest = Interest::default();

        let tickets = [interest.want(&partition(1)), interest.want(&partition(1))];

        assert_eq!(tickets, [1, 1]);
        assert_eq!(interest.take_changed(), (vec![partition(1)], 1));
        assert_eq!(interest.take_changed(), (vec![], 1));
    }

    #[test]
    fn a_probe_confirms_its_ticket_and_all_before_it() {
        let mut interest = Interest::default();
        interest.want(&partition(1));
        interest.want(&partition(2));
        interest.want(&partition(3));

        assert!(interest.confirm(2));
        assert_eq!([1, 2, 3].map(|ticket| interest.is_confirmed(ticket)), [true, true, false]);
        assert!(!interest.confirm(1), "late probes say nothing new");
        assert!(!interest.confirm(4), "nobody drew this ticket");
        assert!(interest.confirm(3));
    }

    #[test]
    fn a_change_made_while_others_are_carried_out_is_not_confirmed_with_them() {
        let mut interest = Interest::default();
        interest.want(&partition(1));
        let (_, ticket) = interest.take_changed();

        let later = interest.want(&partition(2));
        interest.confirm(ticket);

        assert!(!interest.is_confirmed(later));
        assert_eq!(interest.take_changed(), (vec![partition(2)], later));
    }

    #[test]
    fn the_node_is_told_once_and_not_before_the_network_delivers_again() {
        let mut interest = Interest::default();
        let first = interest.draw();
        let second = interest.draw();
        interest.suspect_after(second);
        interest.suspect_after(first);

        interest.confirm(first);
        assert!(!interest.take_suspect());
        interest.confirm(second);

        assert_eq!([interest.take_suspect(), interest.take_suspect()], [true, false]);
    }

    #[test]
    fn a_partition_wanted_again_takes_a_new_ticket() {
        let mut interest = Interest::default();
        interest.want(&partition(1));
        interest.unwant(&partition(1));

        assert!(!interest.wants(&partition(1)));
        assert!(interest.is_empty());
        assert_eq!(interest.want(&partition(1)), 2);
    }

    fn partition(index: u8) -> Partition {
        Partition { tenant: Tenant::parse("acme").unwrap(), index }
    }
}
