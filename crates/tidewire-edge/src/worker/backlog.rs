//! What shards had no room for.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tidewire_model::{Tenant, TenantChannel};
use tidewire_node::{Ask, Node};

/// What a worker's connections have asked of shards that had no room, in order for each channel.
///
/// Nothing more is read from a tenant's connections while something of that tenant's waits here, so
/// it holds what some frames ask and not more. The tenants that wait for a shard take turns at it:
/// one that fills a shard keeps the others from it for as long as the shard takes for what it has, and
/// from the other shards not at all.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Those that have something waiting, by the numbers of the shards.
    shards: BTreeMap<usize, Queue>,
    /// How much waits of each tenant, for all shards.
    tenants: HashMap<Tenant, usize>,
}

/// What waits for one shard.
#[derive(Debug, Default)]
struct Queue {
    asks: HashMap<Tenant, VecDeque<Ask>>,
    /// Those that have something in it, the next first.
    turns: VecDeque<Tenant>,
}

/// Whom everything is asked of.
pub(crate) trait Shards {
    fn number(&self, channel: &TenantChannel) -> usize;

    /// Gives it back if there is no room for it.
    #[expect(clippy::result_large_err, reason = "moved once, and mostly not at all")]
    fn ask(&self, ask: Ask) -> Result<(), Ask>;
}

impl Shards for Node {
    fn number(&self, channel: &TenantChannel) -> usize {
        self.shard_of(channel)
    }

    fn ask(&self, ask: Ask) -> Result<(), Ask> {
        Self::ask(self, ask)
    }
}

impl Backlog {
    /// Whether something of this tenant's waits.
    pub(crate) fn has(&self, tenant: &Tenant) -> bool {
        !self.tenants.is_empty() && self.tenants.contains_key(tenant)
    }

    /// Asks, after everything of the tenant's that waits for the same shard.
    pub(crate) fn ask(&mut self, ask: Ask, shards: &impl Shards) {
        if self.waits_with_others(&ask, shards) {
            return self.push(ask, shards);
        }
        if let Err(ask) = shards.ask(ask) {
            self.push(ask, shards);
        }
    }

    fn waits_with_others(&self, ask: &Ask, shards: &impl Shards) -> bool {
        let channel = ask.channel();
        self.has(&channel.tenant)
            && self
                .shards
                .get(&shards.number(channel))
                .is_some_and(|queue| queue.asks.contains_key(&channel.tenant))
    }

    fn push(&mut self, ask: Ask, shards: &impl Shards) {
        let tenant = ask.channel().tenant.clone();
        let queue = self.shards.entry(shards.number(ask.channel())).or_default();
        *self.tenants.entry(tenant.clone()).or_default() += 1;
        let asks = queue.asks.entry(tenant.clone()).or_default();
        if asks.is_empty() {
            queue.turns.push_back(tenant);
        }
        asks.push_back(ask);
    }

    /// Asks what waits, as far as there is room now.
    pub(crate) fn ask_again(&mut self, shards: &impl Shards) {
        let Self { shards: queues, tenants } = self;
        queues.retain(|_, queue| {
            queue.ask_again(shards, tenants);
            !queue.turns.is_empty()
        });
    }

    /// For each shard that something waits for, one channel of its.
    pub(crate) fn blocked(&self) -> Vec<TenantChannel> {
        let first =
            |queue: &Queue| Some(queue.asks.get(queue.turns.front()?)?.front()?.channel().clone());
        self.shards.values().filter_map(first).collect()
    }
}

impl Queue {
    /// Lets the tenants take turns until there is no room for the next. `tenants` is what waits of
    /// each, here and elsewhere.
    fn ask_again(&mut self, shards: &impl Shards, tenants: &mut HashMap<Tenant, usize>) {
        while let Some(tenant) = self.turns.pop_front() {
            let Some(asks) = self.asks.get_mut(&tenant) else { continue };
            let Some(ask) = asks.pop_front() else { continue };
            if let Err(ask) = shards.ask(ask) {
                asks.push_front(ask);
                return self.turns.push_front(tenant);
            }
            if let Some(waiting) = tenants.get_mut(&tenant) {
                *waiting -= 1;
                if *waiting == 0 {
                    tenants.remove(&tenant);
                }
            }
            if asks.is_empty() {
                self.asks.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use proptest::prelude::*;
    use tidewire_model::{Channel, ConnectionId, JoinId};

    use super::*;

    /// Two shards, of which the channel's name says which is whose.
    #[derive(Default)]
    struct Scripted {
        room: [Cell<usize>; 2],
        asked: RefCell<Vec<(TenantChannel, u32)>>,
    }

    impl Shards for Scripted {
        fn number(&self, channel: &TenantChannel) -> usize {
            usize::from(channel.channel.as_str().starts_with('b'))
        }

        fn ask(&self, ask: Ask) -> Result<(), Ask> {
            let room = &self.room[self.number(ask.channel())];
            if room.get() == 0 {
                return Err(ask);
            }
            room.set(room.get() - 1);
            let Ask::Withdraw { channel, join, .. } = ask else { unreachable!("only these") };
            self.asked.borrow_mut().push((channel, join.0));
            Ok(())
        }
    }

    fn channel(tenant: &str, name: &str) -> TenantChannel {
        let (tenant, name) = (Tenant::parse(tenant), Channel::parse(name));
        TenantChannel::new(tenant.expect("tenant"), name.expect("channel"))
    }

    fn ask(tenant: &str, name: &str, number: u32) -> Ask {
        let channel = channel(tenant, name);
        Ask::Withdraw { channel, connection: ConnectionId(1), join: JoinId(number) }
    }

    #[test]
    fn who_waits_for_one_shard_is_not_kept_from_another_nor_by_others() {
        let (mut backlog, shards) = (Backlog::default(), Scripted::default());
        shards.room[1].set(1);

        backlog.ask(ask("acme", "a", 1), &shards);
        backlog.ask(ask("acme", "b", 2), &shards);
        shards.room[0].set(1);
        backlog.ask(ask("umbrella", "a", 3), &shards);

        let asked = [(channel("acme", "b"), 2), (channel("umbrella", "a"), 3)];
        assert_eq!(*shards.asked.borrow(), asked);
        let has = |tenant| backlog.has(&Tenant::parse(tenant).expect("tenant"));
        assert!(has("acme") && !has("umbrella"));
        assert_eq!(backlog.blocked(), [channel("acme", "a")]);
    }

    #[test]
    fn tenants_take_turns_at_a_shard_that_has_room_again() {
        let (mut backlog, shards) = (Backlog::default(), Scripted::default());
        (0..100).for_each(|number| backlog.ask(ask("acme", "a", number), &shards));
        backlog.ask(ask("umbrella", "a", 100), &shards);
        backlog.ask(ask("umbrella", "a", 101), &shards);

        shards.room[0].set(4);
        backlog.ask_again(&shards);

        let order: Vec<_> = shards.asked.borrow().iter().map(|(_, number)| *number).collect();
        assert_eq!(order, [0, 100, 1, 101]);
        assert!(!backlog.has(&Tenant::parse("umbrella").expect("tenant")));
    }

    proptest! {
        #[test]
        fn all_is_asked_once_and_in_order_for_each_channel(
            steps in prop::collection::vec((0..3_usize, 0..4_usize, 0..3_usize), 1..200)
        ) {
            let (mut backlog, shards) = (Backlog::default(), Scripted::default());
            let (tenants, names) = (["acme", "umbrella", "globex"], ["a", "ab", "b", "bb"]);
            for (number, (tenant, name, room)) in (0..).zip(&steps) {
                shards.room[number as usize % 2].set(*room);
                backlog.ask_again(&shards);
                backlog.ask(ask(tenants[*tenant], names[*name], number), &shards);
            }
            shards.room.iter().for_each(|room| room.set(1_000));
            backlog.ask_again(&shards);

            prop_assert!(backlog.shards.is_empty() && backlog.tenants.is_empty());
            let asked = shards.asked.borrow();
            prop_assert_eq!(asked.len(), steps.len());
            let mut newest = HashMap::new();
            for (channel, number) in asked.iter() {
                prop_assert!(newest.insert(channel, number).is_none_or(|before| before < number));
            }
        }
    }
}
