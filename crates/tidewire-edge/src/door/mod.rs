//! Who may come in from outside, and how fast, before anything is proved.

mod addresses;
mod forwarded;
mod handshakes;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use tidewire_model::{ErrorCode, Failure, Limit, Pace};
use tidewire_transport::guard::{Network, is_public};
use tokio::time::Duration;

use self::addresses::Addresses;
pub(crate) use self::handshakes::Handshakes;

/// Who comes, and how fast.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// Connections that one listener shakes hands with. Who comes faster waits with the kernel.
    pub handshakes: Pace,
    /// Connections of one address, at all listeners: one of IPv4, or 64 bits of IPv6. More are
    /// refused with 503. Those that are not of the public Internet are not counted, unless a proxy
    /// has named them.
    pub address: Pace,
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: Vec<Network>,
}

impl DoorConfig {
    /// Faster than anybody comes: for tests, and for one's own machine.
    pub const OPEN: Self = Self {
        handshakes: Pace { per_second: 1_000_000, burst: 1_000_000 },
        address: Pace { per_second: 1_000_000, burst: 1_000_000 },
        proxies: Vec::new(),
    };
}

/// The door of a node; all of its listeners share it. Moments are counted from when the edge began.
#[derive(Debug)]
pub(crate) struct Door {
    proxies: Vec<Network>,
    addresses: Addresses,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Peer {
    socket: SocketAddr,
    /// On whose behalf, if a proxy that is believed says so.
    named: Option<IpAddr>,
}

/// What a credential that is not valid costs beside the connection it came over.
const COST_OF_BAD_CREDENTIAL: u32 = 9;
/// When who is refused at the door is to come back, at the soonest and at the latest, if nothing says
/// that it has to be later.
const SOONEST: Duration = Duration::from_secs(1);
const SPREAD: Duration = Duration::from_secs(4);

impl Door {
    pub(crate) fn new(config: &DoorConfig) -> Self {
        Self { proxies: config.proxies.clone(), addresses: Addresses::new(config.address) }
    }

    /// Judges who has just connected. Proxies may come as fast as they like: those for whom they come
    /// are [judged](Self::judge) when they say who that is.
    ///
    /// # Errors
    ///
    /// If its address has come too often.
    pub(crate) fn knock(&self, peer: Peer, now: Duration) -> Result<(), Failure> {
        match self.counted(peer) {
            Some(address) if peer.named.is_none() => self.count(address, now),
            _ => Ok(()),
        }
    }

    /// Says on whose behalf somebody asks who has connected, if it is a proxy that is believed.
    pub(crate) fn named(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        if !self.is_proxy(peer.socket.ip()) {
            return peer;
        }
        let named = forwarded::address(headers, |address| self.is_proxy(address));
        Peer { named, ..peer }
    }

    /// Judges who comes by way of a proxy.
    ///
    /// # Errors
    ///
    /// If its address has come too often.
    pub(crate) fn judge(&self, peer: Peer, now: Duration) -> Result<(), Failure> {
        peer.named.map_or(Ok(()), |address| self.count(address, now))
    }

    /// Charges whose credential was not valid: guessing is to be slow.
    pub(crate) fn distrust(&self, peer: Peer, now: Duration) {
        if let Some(address) = self.counted(peer) {
            self.addresses.owe(address, COST_OF_BAD_CREDENTIAL, now);
        }
    }

    /// The address that counts, if there is one: whoever is on a network of the operator's own is a
    /// balancer as well as not.
    fn counted(&self, peer: Peer) -> Option<IpAddr> {
        let own = peer.socket.ip();
        peer.named.or_else(|| (is_public(own) && !self.is_proxy(own)).then_some(own))
    }

    fn count(&self, address: IpAddr, now: Duration) -> Result<(), Failure> {
        self.addresses.take(address, now).map_err(|wait| {
            let (most, wait) = (self.addresses.pace().per_second, come_back_after(wait));
            let seconds = wait.as_secs_f64();
            let message =
                format!("an address may connect {most} times a second: again in {seconds:.1} s");
            let failure = Failure::new(ErrorCode::RateExceeded, message);
            failure.retry_after(wait).exceeding(Limit::AddressRate, most.into())
        })
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|network| network.contains(address))
    }
}

impl From<SocketAddr> for Peer {
    fn from(socket: SocketAddr) -> Self {
        let socket = SocketAddr::new(socket.ip().to_canonical(), socket.port());
        Self { socket, named: None }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.named {
            Some(address) => write!(f, "{address} by {}", self.socket),
            None => self.socket.fmt(f),
        }
    }
}

/// When who is refused is to come back: `least` from now, and one to five seconds in any case, drawn so
/// that those who were refused together do not return together.
pub(crate) fn come_back_after(least: Duration) -> Duration {
    // Without random numbers all come at the latest.
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    least.max(SOONEST) + SPREAD.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn door(proxies: &[&str]) -> Door {
        Door::new(&DoorConfig {
            address: Pace { per_second: 1, burst: 10 },
            proxies: proxies.iter().map(|text| text.parse().expect("a network")).collect(),
            ..DoorConfig::OPEN
        })
    }

    fn peer(address: &str) -> Peer {
        SocketAddr::new(address.parse().expect("an address"), 4_711).into()
    }

    fn behalf(address: &str) -> HeaderMap {
        HeaderMap::from_iter([(forwarded::HEADER, address.parse().expect("a value"))])
    }

    fn passing(count: usize, knock: impl Fn() -> Result<(), Failure>) -> usize {
        (0..count).filter(|_| knock().is_ok()).count()
    }

    #[test]
    fn an_address_that_comes_too_often_is_told_why_and_until_when_and_disturbs_no_other() {
        let door = door(&[]);

        assert_eq!(passing(30, || door.knock(peer("8.8.8.8"), NOW)), 10);
        let failure = door.knock(peer("8.8.8.8"), NOW).expect_err("too often");

        let exceeded = failure.exceeded.expect("a limit");
        assert_eq!((exceeded.limit.as_str(), exceeded.value), ("address_rate", 1));
        let wait = failure.retry_after.expect("a time");
        assert!((SOONEST..=SOONEST + SPREAD).contains(&wait), "{wait:?}");
        assert_eq!(passing(30, || door.knock(peer("8.8.4.4"), NOW)), 10);
        assert_eq!(passing(30, || door.knock(peer("8.8.8.8"), Duration::from_secs(5))), 5);
    }

    #[test]
    fn the_operators_own_networks_and_proxies_may_come_as_often_as_they_like() {
        let door = door(&["8.8.8.0/24"]);

        for own in ["10.0.0.7", "127.0.0.1", "::1", "8.8.8.8", "::ffff:8.8.8.8"] {
            assert_eq!(passing(30, || door.knock(peer(own), NOW)), 30, "{own}");
        }
    }

    #[test]
    fn whom_a_proxy_names_is_counted_and_whom_a_stranger_names_is_not() {
        let door = door(&["10.0.0.0/8"]);
        let by = |proxy, address| door.named(peer(proxy), &behalf(address));

        assert_eq!(passing(30, || door.judge(by("10.0.0.7", "192.168.1.2"), NOW)), 10);
        assert_eq!(passing(30, || door.judge(by("10.0.0.8", "192.168.1.2"), NOW)), 0);
        assert_eq!(passing(30, || door.judge(by("10.0.0.8", "192.168.1.3"), NOW)), 10);
        let stranger = by("9.9.9.9", "192.168.1.4");
        assert_eq!(stranger, peer("9.9.9.9"));
        assert_eq!(passing(30, || door.knock(stranger, NOW)), 10);
    }

    #[test]
    fn a_credential_that_is_not_valid_costs_as_much_as_nine_connections() {
        let door = door(&[]);

        door.distrust(peer("8.8.8.8"), NOW);

        assert_eq!(passing(30, || door.knock(peer("8.8.8.8"), NOW)), 1);
    }

    #[test]
    fn those_who_are_refused_together_come_back_one_by_one_and_not_too_soon() {
        let waits: Vec<_> = (0..64).map(|_| come_back_after(Duration::from_secs(2))).collect();

        assert!(waits.iter().all(|wait| (2..=6).contains(&wait.as_secs())), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
