use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

use proptest::prelude::*;

use super::Reach::{self, Never, Private, Public};

fn of(text: &str) -> Reach {
    Reach::of(text.parse().expect("an address"))
}

#[test]
fn every_range_has_its_first_and_last_address() {
    for (first, last, reach) in [
        ("0.0.0.0", "0.255.255.255", Never),
        ("10.0.0.0", "10.255.255.255", Private),
        ("100.64.0.0", "100.127.255.255", Private),
        ("127.0.0.0", "127.255.255.255", Private),
        ("169.254.0.0", "169.254.255.255", Never),
        ("172.16.0.0", "172.31.255.255", Private),
        ("192.0.0.0", "192.0.0.255", Never),
        ("192.0.2.0", "192.0.2.255", Never),
        ("192.88.99.0", "192.88.99.255", Never),
        ("192.168.0.0", "192.168.255.255", Private),
        ("198.18.0.0", "198.19.255.255", Never),
        ("198.51.100.0", "198.51.100.255", Never),
        ("203.0.113.0", "203.0.113.255", Never),
        ("224.0.0.0", "255.255.255.255", Never),
        ("::", "::", Never),
        ("::1", "::1", Private),
        ("::2", "::ffff:0:0:0", Never),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", Private),
        ("100::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", Never),
        ("2001:10::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        (
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            Never,
        ),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Private),
        ("fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Private),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
    ] {
        assert_eq!((of(first), of(last)), (reach, reach), "{first} to {last}");
    }
    for outside in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "8.8.8.8",
        "2000::",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "3ffe::",
        "2001:30::",
    ] {
        assert_eq!(of(outside), Public, "{outside}");
    }
}

#[test]
fn the_metadata_services_are_nobody() {
    for address in [
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "::ffff:168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ] {
        assert_eq!(of(address), Never, "{address}");
    }
}

#[test]
fn every_notation_that_the_resolver_reads_is_the_same_address() {
    for notation in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "127.1",
        "0x7f.1",
        "0177.0.0.01",
        "127.0x1",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "localhost",
    ] {
        // Resolvers differ in what they read; what this one reads must be seen through.
        let Ok(addresses) = (notation, 443).to_socket_addrs() else {
            assert!(!matches!(notation, "127.0.0.1" | "::1"), "{notation}");
            continue;
        };
        for address in addresses {
            assert_eq!(Reach::of(address.ip()), Private, "{notation} is {address}");
        }
    }
}

/// IPv4 addresses, those of special ranges and their neighbours more often than by chance.
fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let near = (0..super::V4.len(), -2i64..=2).prop_map(|(at, step)| {
        let (base, length, _) = super::V4[at];
        let edge = if step < 0 {
            i64::from(base.to_bits())
        } else {
            i64::from(base.to_bits()) + (1i64 << (32 - length))
        };
        Ipv4Addr::from_bits(
            u32::try_from((edge + step).clamp(0, i64::from(u32::MAX))).expect("clamped"),
        )
    });
    prop_oneof![any::<u32>().prop_map(Ipv4Addr::from_bits), near]
}

proptest! {
    #[test]
    fn an_embedded_address_is_judged_as_itself(inner in any_v4(), rest in any::<[u16; 5]>()) {
        let expected = Reach::of(IpAddr::V4(inner));
        let [high, low] = [(inner.to_bits() >> 16) as u16, inner.to_bits() as u16];
        let [a, b, c, d, e] = rest;
        for outer in [
            inner.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, a, b, c, d, e),
        ] {
            prop_assert_eq!(Reach::of(IpAddr::V6(outer)), expected, "{}", outer);
        }
        // A tunnel is never better than its inner end.
        for marker in [0, 0x200] {
            let isatap = Ipv6Addr::new(0x2606, a, b, c, marker, 0x5efe, high, low);
            prop_assert!(Reach::of(IpAddr::V6(isatap)) >= expected, "{}", isatap);
        }
    }

    #[test]
    fn it_agrees_with_the_standard_library(bits in any::<u128>(), short in any_v4()) {
        let v4_local = short.is_private() || short.is_loopback();
        let v4_never = short.is_link_local() || short.is_multicast() || short.is_broadcast()
            || short.is_unspecified() || short.is_documentation();
        let reach = Reach::of(IpAddr::V4(short));
        prop_assert!(!v4_local || reach == Private, "{}", short);
        prop_assert!(!v4_never || reach == Never, "{}", short);
        for address in [Ipv6Addr::from_bits(bits), Ipv6Addr::from_bits(bits | 0xfc << 120), Ipv6Addr::from_bits(bits & 0xffff)] {
            let reach = Reach::of(IpAddr::V6(address));
            let never = address.is_multicast() || address.is_unspecified() || address.is_unicast_link_local();
            let local = address.is_loopback() || address.is_unique_local();
            prop_assert!(!never || reach == Never, "{}", address);
            prop_assert!(!local || reach != Public, "{}", address);
        }
    }

    #[test]
    fn public_is_a_subset_of_the_global_ranges(bits in any::<u128>()) {
        let address = Ipv6Addr::from_bits(bits);
        if Reach::of(IpAddr::V6(address)) == Public {
            let [first, ..] = address.segments();
            prop_assert!(first & 0xe000 == 0x2000 || super::embedded(address).is_some());
        }
    }
}
