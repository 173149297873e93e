//! Which addresses a client that follows somebody's URL may dial.
//!
//! Judged is the address that the socket will connect to, after every notation, name and redirection
//! of a resolver has become 4 or 16 bytes. IPv6 addresses that stand for IPv4 ones are judged as
//! those. The ranges are those of the IANA special-purpose address registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whom one reaches at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// A host of the Internet.
    Public,
    /// This machine or its own network: only for who names the host on purpose.
    Private,
    /// Nobody who could be a cache: multicast, unspecified, link-local with the cloud's metadata
    /// services, reserved and documentation ranges, and deprecated ways to embed IPv4.
    Never,
}

impl Reach {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => v4(address),
            IpAddr::V6(address) => v6(address),
        }
    }
}

/// A range of IPv4 addresses and who is there; the first that contains an address decides.
const V4: [(Ipv4Addr, u32, Reach); 18] = {
    use Reach::{Never, Private};
    const fn ip(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
        Ipv4Addr::new(a, b, c, d)
    }
    [
        (ip(100, 100, 100, 200), 32, Never), // a cloud's metadata, within the shared range
        (ip(168, 63, 129, 16), 32, Never),   // a cloud's own services, at a public address
        (ip(0, 0, 0, 0), 8, Never),
        (ip(10, 0, 0, 0), 8, Private),
        (ip(100, 64, 0, 0), 10, Private), // shared with the provider's customers
        (ip(127, 0, 0, 0), 8, Private),
        (ip(169, 254, 0, 0), 16, Never),
        (ip(172, 16, 0, 0), 12, Private),
        (ip(192, 0, 0, 0), 24, Never),
        (ip(192, 0, 2, 0), 24, Never),
        (ip(192, 31, 196, 0), 24, Never),
        (ip(192, 52, 193, 0), 24, Never),
        (ip(192, 88, 99, 0), 24, Never),
        (ip(192, 168, 0, 0), 16, Private),
        (ip(198, 18, 0, 0), 15, Never),
        (ip(198, 51, 100, 0), 24, Never),
        (ip(203, 0, 113, 0), 24, Never),
        (ip(224, 0, 0, 0), 3, Never), // multicast, reserved, broadcast
    ]
};

fn v4(address: Ipv4Addr) -> Reach {
    let within = |(base, length, _): &&(Ipv4Addr, u32, Reach)| {
        (address.to_bits() ^ base.to_bits()) >> (32 - length) == 0
    };
    V4.iter()
        .find(within)
        .map_or(Reach::Public, |(_, _, reach)| *reach)
}

/// The same for IPv6. What is not in the global range 2000::/3 and not here is nobody.
const V6: [(Ipv6Addr, u32, Reach); 15] = {
    use Reach::{Never, Private, Public};
    const fn ip(start: [u16; 4]) -> Ipv6Addr {
        let [a, b, c, d] = start;
        Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)
    }
    const LOCALHOST: Ipv6Addr = Ipv6Addr::LOCALHOST;
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    [
        (LOCALHOST, 128, Private),
        (METADATA, 128, Never),
        (ip([0xfd20, 0xce, 0, 0]), 64, Never), // another cloud's metadata
        (ip([0xfc00, 0, 0, 0]), 7, Private),
        (ip([0xfec0, 0, 0, 0]), 10, Private), // site-local, deprecated
        (ip([0x64, 0xff9b, 1, 0]), 48, Private), // NAT64 within one network
        (ip([0x2001, 0x1, 0, 0]), 32, Never), // anycast of protocols
        (ip([0x2001, 0x2, 0, 0]), 48, Never), // benchmarking
        (ip([0x2001, 0xdb8, 0, 0]), 32, Never),
        (ip([0x2001, 0, 0, 0]), 32, Never), // Teredo
        (ip([0x2001, 0x10, 0, 0]), 28, Never),
        (ip([0x2001, 0x20, 0, 0]), 28, Never),
        (ip([0x2620, 0x4f, 0x8000, 0]), 48, Never),
        (ip([0x3fff, 0, 0, 0]), 20, Never),
        (ip([0x2000, 0, 0, 0]), 3, Public),
    ]
};

fn v6(address: Ipv6Addr) -> Reach {
    if let Some(inner) = embedded(address) {
        return v4(inner);
    }
    let within = |(base, length, _): &&(Ipv6Addr, u32, Reach)| {
        (address.to_bits() ^ base.to_bits()) >> (128 - length) == 0
    };
    let outer = V6
        .iter()
        .find(within)
        .map_or(Reach::Never, |(_, _, reach)| *reach);
    match address.segments() {
        // An ISATAP interface: the packets go to the IPv4 address at the end.
        [.., 0 | 0x200, 0x5efe, high, low] => outer.max(v4(joined(high, low))),
        _ => outer,
    }
}

/// The IPv4 address to which packets for this one go.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]             // mapped
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]        // NAT64
        | [0x2002, high, low, ..] => Some(joined(high, low)), // 6to4
        _ => None,
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
