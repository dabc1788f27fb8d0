use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::Arc;

use hashbrown::HashTable;
use tidewire_model::{ConnectionId, JoinId, TenantChannel, Tenure};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A worker's routing table: which of its connections have a place in which channel.
///
/// A subscriber is on a channel's list exactly as long as it is in step with it: from the answer to
/// its join in the worker's inbox until it is taken off. All subscribers of a channel are under one
/// tenure, because the last word of a tenure and its last release both come before the first answer
/// of the next.
///
/// Costs 56 bytes per route and 5 to 12 per channel in the index, and the channel's name, which is
/// shared with whoever else holds it.
#[derive(Debug)]
pub struct Hub {
    /// Places in `routes`, by the route's hash.
    index: HashTable<u32>,
    /// Without a hole: a route that goes makes room for the last.
    routes: Vec<Route>,
    subscriptions: usize,
    /// Channel names are chosen by clients, who must not know which of them collide.
    seed: u64,
}

/// A connection in step with a channel.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Subscriber {
    pub connection: ConnectionId,
    pub join: JoinId,
}

/// The subscribers of a channel as they were when it was asked for. Later changes of the hub do not
/// touch it.
#[derive(Clone, Debug)]
pub struct Subscribers(List);

#[derive(Debug)]
struct Route {
    channel: TenantChannel,
    subscribers: Listed,
    tenure: Tenure,
    /// Kept, so that the index grows and shrinks without reading names.
    hash: u32,
}

/// A list as a route keeps it: one subscriber, which is what most channels have, takes no
/// allocation.
#[derive(Debug)]
enum Listed {
    One { connection: ConnectionId, join: JoinId },
    Many(Arc<Vec<Subscriber>>),
}

#[derive(Clone, Debug)]
enum List {
    One([Subscriber; 1]),
    Many(Arc<Vec<Subscriber>>),
}

/// Room is given back when less than a quarter of it is taken, so that no change of size is undone
/// by the next change.
const SPARSE: usize = 4;
/// What is never given back: a hub this small is not worth moving.
const KEPT_ROUTES: usize = 64;

impl Default for Hub {
    fn default() -> Self {
        let seed = RandomState::new().hash_one(0);
        Self { index: HashTable::new(), routes: Vec::new(), subscriptions: 0, seed }
    }
}

impl Hub {
    /// Puts a subscriber on a channel's list. The shard has brought it in step under `tenure`, which
    /// is that of everybody on the list.
    pub fn add(&mut self, channel: &TenantChannel, tenure: Tenure, subscriber: Subscriber) {
        self.subscriptions += 1;
        let hash = self.hash(channel);
        if let Some(place) = self.find(hash, channel) {
            let route = &mut self.routes[place];
            debug_assert_eq!(route.tenure, tenure, "{channel}: two tenures at once");
            route.subscribers.push(subscriber);
            return;
        }
        let place = u32::try_from(self.routes.len()).expect("fewer channels than 2^32");
        let Subscriber { connection, join } = subscriber;
        let subscribers = Listed::One { connection, join };
        self.routes.push(Route { channel: channel.clone(), subscribers, tenure, hash });
        let routes = &self.routes;
        self.index.insert_unique(spread(hash), place, |place| hash_at(routes, *place));
    }

    /// Takes a subscriber off, and says under which tenure it had its place; `None` if it was not on
    /// the list. The channel is forgotten with its last subscriber. Takes time linear in the number
    /// of the channel's subscribers.
    pub fn remove(
        &mut self,
        channel: &TenantChannel,
        connection: ConnectionId,
        join: JoinId,
    ) -> Option<Tenure> {
        let hash = self.hash(channel);
        let place = self.find(hash, channel)?;
        let route = &mut self.routes[place];
        let tenure = route.tenure;
        let left = route.subscribers.remove(Subscriber { connection, join })?;
        self.subscriptions -= 1;
        if left == 0 {
            self.forget(place);
        }
        Some(tenure)
    }

    /// The subscribers of a channel now, to hand a publication to them in as many slices as it
    /// takes; `None` if it has none. A change while the answer is held copies the list.
    pub fn subscribers(&self, channel: &TenantChannel) -> Option<Subscribers> {
        let place = self.find(self.hash(channel), channel)?;
        Some(self.routes[place].subscribers.snapshot())
    }

    /// Takes everybody off the channel who is there under `tenure`, because nothing more comes under
    /// it; those of another tenure stay.
    pub fn evict(&mut self, channel: &TenantChannel, tenure: Tenure) -> Vec<Subscriber> {
        let Some(place) = self.find(self.hash(channel), channel) else { return Vec::new() };
        if self.routes[place].tenure != tenure {
            return Vec::new();
        }
        let evicted = self.routes[place].subscribers.snapshot().to_vec();
        self.subscriptions -= evicted.len();
        self.forget(place);
        evicted
    }

    /// Channels with a subscriber.
    pub fn channels(&self) -> usize {
        self.routes.len()
    }

    /// Subscribers, over all channels.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    fn find(&self, hash: u32, channel: &TenantChannel) -> Option<usize> {
        let routes = &self.routes;
        let is_it = |place: &u32| routes[*place as usize].channel == *channel;
        self.index.find(spread(hash), is_it).map(|place| *place as usize)
    }

    /// Removes a route; the last one takes its place.
    fn forget(&mut self, place: usize) {
        let last = self.routes.len() - 1;
        self.unlist(place);
        if place != last {
            let moved = spread(self.routes[last].hash);
            if let Some(entry) = self.index.find_mut(moved, |entry| *entry as usize == last) {
                *entry = u32::try_from(place).expect("less than the last, which is one");
            }
        }
        self.routes.swap_remove(place);
        if self.routes.len() < self.routes.capacity() / SPARSE {
            self.give_back();
        }
    }

    fn unlist(&mut self, place: usize) {
        let hash = spread(self.routes[place].hash);
        if let Ok(entry) = self.index.find_entry(hash, |entry| *entry as usize == place) {
            entry.remove();
        }
    }

    fn give_back(&mut self) {
        let room = (2 * self.routes.len()).max(KEPT_ROUTES);
        self.routes.shrink_to(room);
        let routes = &self.routes;
        self.index.shrink_to(room, |place| hash_at(routes, *place));
    }

    #[expect(clippy::cast_possible_truncation, reason = "any half of a hash is one")]
    fn hash(&self, channel: &TenantChannel) -> u32 {
        let seed = xxh3_64_with_seed(channel.tenant.as_str().as_bytes(), self.seed);
        xxh3_64_with_seed(channel.channel.as_str().as_bytes(), seed) as u32
    }
}

fn hash_at(routes: &[Route], place: u32) -> u64 {
    spread(routes[place as usize].hash)
}

/// Makes of half a hash a whole one: a hash table uses the upper bits as well as the lower.
fn spread(hash: u32) -> u64 {
    /// 2^64 by the golden ratio, made odd: Knuth's multiplicative hashing.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    u64::from(hash).wrapping_mul(GOLDEN)
}

impl Listed {
    fn push(&mut self, subscriber: Subscriber) {
        match self {
            Self::One { connection, join } => {
                let first = Subscriber { connection: *connection, join: *join };
                *self = Self::Many(Arc::new(vec![first, subscriber]));
            }
            Self::Many(subscribers) => Arc::make_mut(subscribers).push(subscriber),
        }
    }

    /// Says how many are left, if `subscriber` was there.
    fn remove(&mut self, subscriber: Subscriber) -> Option<usize> {
        match self {
            Self::One { connection, join } => {
                (subscriber == Subscriber { connection: *connection, join: *join }).then_some(0)
            }
            Self::Many(subscribers) => {
                let index = subscribers.iter().position(|listed| *listed == subscriber)?;
                let list = Arc::make_mut(subscribers);
                list.swap_remove(index);
                if list.len() < list.capacity() / SPARSE {
                    list.shrink_to(2 * list.len());
                }
                let left = list.len();
                if let [Subscriber { connection, join }] = list[..] {
                    *self = Self::One { connection, join };
                }
                Some(left)
            }
        }
    }

    fn snapshot(&self) -> Subscribers {
        Subscribers(match self {
            Self::One { connection, join } => {
                List::One([Subscriber { connection: *connection, join: *join }])
            }
            Self::Many(subscribers) => List::Many(Arc::clone(subscribers)),
        })
    }
}

impl Deref for Subscribers {
    type Target = [Subscriber];

    fn deref(&self) -> &[Subscriber] {
        match &self.0 {
            List::One(one) => one,
            List::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests;
