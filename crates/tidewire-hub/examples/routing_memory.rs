//! What a worker's routing table costs: `routing_memory [hub|map] [channels]`, one subscriber each.
//!
//! Prints the bytes per channel by which the process grew (its resident pages, so freshly started
//! each time), names included, and what one lookup takes, drawn at random. `map` is the same with
//! a bare hash map from channel to list, for comparison.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::io::{self, Write};
use std::time::Duration;

use hashbrown::HashMap;
use tidewire_hub::{Hub, Subscriber};
use tidewire_model::{Channel, ConnectionId, JoinId, Tenant, TenantChannel, Tenure};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

const CHANNELS: u32 = 1_000_000;
const LOOKUPS: u32 = 5_000_000;
const PAGE_BYTES: u64 = 4_096;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "hub".into());
    let channels = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(CHANNELS);
    let tenant = Tenant::parse("acme").map_err(io::Error::other)?;
    let before = resident_bytes()?;
    let figures = if kind == "map" { map(&tenant, channels)? } else { hub(&tenant, channels)? };
    let Figures { grown_to, took, wall } = figures;
    let each = (grown_to - before) / u64::from(channels);
    let lookup = took.as_nanos() / u128::from(LOOKUPS);
    let add = wall.as_nanos() / u128::from(channels);
    writeln!(
        io::stdout(),
        "{kind}: {channels} channels, {each} bytes each, lookup {lookup} ns, add {add} ns"
    )
}

struct Figures {
    grown_to: u64,
    /// All lookups.
    took: Duration,
    /// All additions, the making of names included.
    wall: Duration,
}

fn hub(tenant: &Tenant, channels: u32) -> io::Result<Figures> {
    let mut hub = Hub::default();
    let started = Instant::now();
    for number in 0..channels {
        hub.add(&channel(tenant, number)?, Tenure(number), subscriber(number));
    }
    let wall = started.elapsed();
    let grown_to = resident_bytes()?;
    let took = look_up(tenant, channels, |channel| {
        hub.subscribers(channel).map_or(0, |subscribers| subscribers.len())
    })?;
    Ok(Figures { grown_to, took, wall })
}

fn map(tenant: &Tenant, channels: u32) -> io::Result<Figures> {
    let mut map: HashMap<TenantChannel, Vec<Subscriber>, Seeded> =
        HashMap::with_hasher(Seeded(RandomState::new().hash_one(0)));
    let started = Instant::now();
    for number in 0..channels {
        map.entry(channel(tenant, number)?).or_default().push(subscriber(number));
    }
    let wall = started.elapsed();
    let grown_to = resident_bytes()?;
    let took = look_up(tenant, channels, |channel| map.get(channel).map_or(0, Vec::len))?;
    Ok(Figures { grown_to, took, wall })
}

/// Looks names up that are not those in the table, as a publication's are not, in an order that no
/// cache foresees.
fn look_up(
    tenant: &Tenant,
    channels: u32,
    mut count: impl FnMut(&TenantChannel) -> usize,
) -> io::Result<Duration> {
    const NAMES: u32 = 50_000;
    /// A prime larger than either number.
    const STRIDE: u32 = 2_147_483_647;
    let names: io::Result<Vec<_>> =
        (0..NAMES).map(|number| channel(tenant, number.wrapping_mul(STRIDE) % channels)).collect();
    let names = names?;
    let started = Instant::now();
    let mut found = 0;
    for _ in 0..LOOKUPS / NAMES {
        found += names.iter().map(|name| count(black_box(name))).sum::<usize>();
    }
    let took = started.elapsed();
    if found != LOOKUPS as usize {
        return Err(io::Error::other(format!("{found} of {LOOKUPS} found")));
    }
    Ok(took)
}

fn channel(tenant: &Tenant, number: u32) -> io::Result<TenantChannel> {
    let channel = Channel::parse(&format!("room:{number}")).map_err(io::Error::other)?;
    Ok(TenantChannel::new(tenant.clone(), channel))
}

fn subscriber(number: u32) -> Subscriber {
    Subscriber { connection: ConnectionId(u64::from(number)), join: JoinId(1) }
}

fn resident_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.map(|pages| pages * PAGE_BYTES).ok_or_else(|| io::Error::other("no such figure"))
}

/// The hub's hash function as a hash map takes it.
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = Xxh3;

    fn build_hasher(&self) -> Xxh3 {
        Xxh3::with_seed(self.0)
    }
}
