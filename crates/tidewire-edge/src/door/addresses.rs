//! How often addresses have come.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;
use tidewire_model::{Bucket, Pace};
use tokio::time::Duration;

use crate::metrics;

/// What each address has taken of its pace, for as long as that is not earned back.
#[derive(Debug)]
pub(super) struct Addresses {
    pace: Pace,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    taken: HashMap<Prefix, Bucket>,
    swept_at: Duration,
}

/// What one household or machine has of the addresses: one of IPv4, or 64 bits of IPv6.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Prefix {
    V4(u32),
    V6(u64),
}

/// Prefixes that are remembered at once. Whoever comes when none of them can be forgotten is not
/// judged: a flood of addresses is for the pace of handshakes to bear.
const MOST: usize = 65_536;
/// A sweep looks at all of them.
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// Nobody is kept out for longer because of others at its address who guess.
const MOST_OWED: Duration = Duration::from_secs(30);

impl Addresses {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, known: Mutex::default() }
    }

    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    /// Counts one connection.
    ///
    /// # Errors
    ///
    /// If the address has come too often; how long it takes until it may again.
    pub(super) fn take(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let taken = self.with(address, now, |bucket| bucket.take(self.pace, 1, now));
        taken.unwrap_or_else(|| {
            metrics::unjudged_address();
            Ok(())
        })
    }

    /// Charges an address whether or not it has as much.
    pub(super) fn owe(&self, address: IpAddr, cost: u32, now: Duration) {
        self.with(address, now, |bucket| {
            if bucket.wait_for(self.pace, 1, now) < MOST_OWED {
                bucket.owe(self.pace, cost, now);
            }
        });
    }

    /// Nothing if there is no room for one more.
    fn with<T>(
        &self,
        address: IpAddr,
        now: Duration,
        change: impl FnOnce(&mut Bucket) -> T,
    ) -> Option<T> {
        let prefix = Prefix::of(address);
        let mut known = self.known.lock();
        if known.taken.len() >= MOST && !known.taken.contains_key(&prefix) {
            known.sweep(now);
            if known.taken.len() >= MOST {
                return None;
            }
        }
        let before = known.taken.len();
        let changed = change(known.taken.entry(prefix).or_default());
        if known.taken.len() > before {
            metrics::addresses(known.taken.len());
        }
        Some(changed)
    }
}

impl Known {
    /// Forgets those who owe nothing, once a second at the most.
    fn sweep(&mut self, now: Duration) {
        if now < self.swept_at + SWEPT_EVERY {
            return;
        }
        self.swept_at = now;
        self.taken.retain(|_, bucket| !bucket.is_full(now));
    }
}

impl Prefix {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments().map(u64::from);
                Self::V6(a << 48 | b << 32 | c << 16 | d)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn once_a_second() -> Addresses {
        Addresses::new(Pace { per_second: 1, burst: 1 })
    }

    fn number(bits: usize) -> IpAddr {
        Ipv4Addr::from_bits(u32::try_from(bits).expect("small")).into()
    }

    fn v6(network: u64, host: u64) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(network) << 64 | u128::from(host)).into()
    }

    #[test]
    fn a_household_of_ipv6_is_one_and_its_neighbour_another() {
        let addresses = once_a_second();

        assert!(addresses.take(v6(7, 1), Duration::ZERO).is_ok());
        assert!(addresses.take(v6(7, 2), Duration::ZERO).is_err());
        assert!(addresses.take(v6(8, 1), Duration::ZERO).is_ok());
    }

    #[test]
    fn an_address_of_ipv4_is_the_same_however_it_is_written() {
        let addresses = once_a_second();
        let mapped = Ipv4Addr::from_bits(9).to_ipv6_mapped().into();

        assert!(addresses.take(number(9), Duration::ZERO).is_ok());
        assert!(addresses.take(mapped, Duration::ZERO).is_err());
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for_and_those_who_owe_nothing_make_some() {
        let addresses = once_a_second();
        let flood = |now| {
            let passed = (0..2 * MOST).filter(|bits| addresses.take(number(*bits), now).is_ok());
            assert_eq!(passed.count(), 2 * MOST);
            addresses.known.lock().taken.len()
        };

        assert_eq!(flood(Duration::ZERO), MOST);
        let stranger = number(3 * MOST);
        assert!((0..2).all(|_| addresses.take(stranger, Duration::ZERO).is_ok()), "not judged");

        let later = Duration::from_secs(2);
        assert!(addresses.take(stranger, later).is_ok());
        assert!(addresses.take(stranger, later).is_err());
        assert_eq!(addresses.known.lock().taken.len(), 1);
    }

    #[test]
    fn what_is_owed_has_a_bound() {
        let addresses = once_a_second();

        (0..1_000).for_each(|_| addresses.owe(number(1), 9, Duration::ZERO));

        let wait = addresses.take(number(1), Duration::ZERO).expect_err("it owes");
        assert!(wait <= MOST_OWED + Duration::from_secs(9), "{wait:?}");
    }
}
