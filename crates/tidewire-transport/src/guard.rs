//! Which addresses may be connected to because somebody outside has named them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Admits addresses of the public Internet, and what an operator has added.
///
/// Whoever may name a URL that a node fetches could otherwise have it reach what only the node can:
/// itself, its neighbours, a cloud's metadata.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: Vec<Network>,
}

impl Guard {
    /// Admits `allowed` beside what is public.
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { allowed }
    }

    pub fn admits(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.iter().any(|network| network.contains(address))
    }
}

/// A block of addresses, written `10.0.0.0/8`, or as one address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    /// Leading bits that an address has in common with it.
    bits: u32,
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                has_prefix(address.to_bits().into(), network.to_bits().into(), self.bits + 96)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                has_prefix(address.to_bits(), network.to_bits(), self.bits)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| InvalidNetwork)?;
        if bits > most { Err(InvalidNetwork) } else { Ok(Self { address, bits }) }
    }
}

/// A text that is no block of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected a block of addresses such as `10.1.0.0/16`")]
pub struct InvalidNetwork;

/// Whether an address is one of the public Internet: none that is private, shared, local, reserved,
/// for documentation or for groups, by the registries of RFC 6890.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    const NOT_PUBLIC: [([u8; 4], u32); 14] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        // Groups, and what is reserved after them.
        ([224, 0, 0, 0], 3),
    ];
    let is_in = |(network, bits): &([u8; 4], u32)| {
        let network = Ipv4Addr::from(*network).to_bits();
        has_prefix(address.to_bits().into(), network.into(), bits + 96)
    };
    !NOT_PUBLIC.iter().any(is_in)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    /// What is assigned for unicast.
    const GLOBAL: (u128, u32) = (0x2000 << 112, 3);
    const NOT_PUBLIC: [(u128, u32); 4] = [
        // Protocols, among them Teredo.
        (0x2001 << 112, 23),
        // Documentation.
        (0x2001_0db8 << 96, 32),
        // 6to4, which leads to any IPv4 address.
        (0x2002 << 112, 16),
        // Documentation.
        (0x3fff << 112, 20),
    ];
    /// Addresses of IPv4 in 32 bits: as a socket shows them, and behind a translator (RFC 6052).
    const EMBEDDED: [(u128, u32); 2] = [(0xffff << 32, 96), (0x0064_ff9b << 96, 96)];
    let bits = address.to_bits();
    if EMBEDDED.iter().any(|(network, length)| has_prefix(bits, *network, *length)) {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    has_prefix(bits, GLOBAL.0, GLOBAL.1)
        && !NOT_PUBLIC.iter().any(|(network, length)| has_prefix(bits, *network, *length))
}

/// Whether the first `length` of 128 bits are the same.
fn has_prefix(bits: u128, network: u128, length: u32) -> bool {
    let shift = 128 - length;
    bits.checked_shr(shift).unwrap_or(0) == network.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "
        1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255
        128.0.0.1 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0
        192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
        198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 2001:200::1
        2001:4860:4860::8888 2003::1 2600::1 2a00:1450::1 3ffe::1 3fff:1000::1
        ::ffff:8.8.8.8 64:ff9b::808:808";
    const NOT_PUBLIC: &str = "
        0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1
        127.255.255.255 169.254.0.0 169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.1
        192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255
        198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1
        ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:10.0.0.1 64:ff9b::7f00:1
        64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:1ff:ffff::1 2001:db8::1
        2002:7f00:1:: 3fff::1 3fff:fff::1 4000::1 fc00::1 fd00:ec2::254 fe80::1 febf::1
        fec0::1 ff02::1";

    #[test]
    fn only_what_is_of_the_public_internet_is_public() {
        for public in PUBLIC.split_whitespace() {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
        for not_public in NOT_PUBLIC.split_whitespace() {
            assert!(!is_public(not_public.parse().expect("an address")), "{not_public}");
        }
    }

    #[test]
    fn what_an_operator_adds_is_admitted_and_its_neighbours_are_not() {
        let networks =
            ["10.1.0.0/16", "fd00::/8", "127.0.0.1"].map(|text| text.parse().expect(text));
        let guard = Guard::new(networks.to_vec());

        for admitted in ["10.1.2.3", "fd12::1", "127.0.0.1", "8.8.8.8"] {
            assert!(guard.admits(admitted.parse().expect("an address")), "{admitted}");
        }
        for refused in ["10.2.0.0", "10.0.255.255", "fc00::1", "127.0.0.2", "::ffff:10.1.2.3"] {
            assert!(!guard.admits(refused.parse().expect("an address")), "{refused}");
        }
        assert!(!Guard::default().admits("127.0.0.1".parse().expect("an address")));
    }

    #[test]
    fn everything_and_one_address_are_networks_and_nonsense_is_none() {
        let all: Network = "0.0.0.0/0".parse().expect("a network");
        assert!(all.contains("203.0.113.7".parse().expect("an address")));
        assert!(!all.contains("2600::1".parse().expect("an address")));
        let all: Network = "::/0".parse().expect("a network");
        assert!(all.contains("fe80::1".parse().expect("an address")));
        for text in
            ["", "10.0.0.0/33", "::/129", "10.0.0/8", "example.com", "10.0.0.0/-1", "10.0.0.0/"]
        {
            assert_eq!(text.parse::<Network>(), Err(InvalidNetwork), "{text}");
        }
    }
}
