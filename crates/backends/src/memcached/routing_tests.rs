use super::*;

const KEYS: usize = 40;

fn tcp(host: String, port: u16) -> Address {
    Address::Tcp { host, port }
}

fn key(number: usize) -> String {
    format!("ns:f:{number}:1s")
}

/// The first server of each key, one digit per key.
fn firsts(router: &Router) -> String {
    let first = |number| router.order(&key(number))[0].to_string();
    (0..KEYS).map(first).collect()
}

#[test]
fn the_hash_is_murmur3() {
    // `murmur3_32` of pymemcache 4.0.
    for (text, hash) in [
        ("", 0),
        ("a", 1_009_084_850),
        ("ab", 2_613_040_991),
        ("abc", 3_017_643_002),
        ("abcd", 1_139_631_978),
        ("hello, world", 345_750_399),
    ] {
        assert_eq!(murmur3(text.as_bytes()), hash, "{text:?}");
    }
}

/// What `RendezvousHash` of pymemcache 4.0 says.
#[test]
fn rendezvous_is_pymemcaches() {
    let server = |i: u16| tcp(format!("cache-{i}.example"), 11210 + i);
    let servers: Vec<Address> = (1..=6).map(server).collect();
    for (count, expected) in [
        (2, "0110010010100011111010000101010101011011"),
        (3, "0212020220220211121210220221012101221221"),
        (4, "0212023233223211121313230221033331223231"),
        (5, "0214043233223211124443430241034334423231"),
        (6, "0214543233223215125445435241534334423231"),
    ] {
        let router = Router::new(Routing::Rendezvous, &servers[..count]);
        assert_eq!(firsts(&router), expected, "{count} servers");
    }
    // In which order it names them when the first one is removed again and again.
    let router = Router::new(Routing::Rendezvous, &servers);
    assert_eq!(router.order(&key(7)), [2, 0, 1, 4, 5, 3]);
}

/// Where libmemcached 1.0.16 (through pylibmc 1.6.3, `ketama_weighted`) stored the keys.
#[test]
fn ketama_is_libmemcacheds() {
    let server = |i: u16| tcp(format!("127.0.0.{}", i + 2), 11211 + i % 2);
    let servers: Vec<Address> = (0..6).map(server).collect();
    for (count, expected) in [
        (2, "1100010001001000100110100000110001010000"),
        (3, "1220012021001020120122200000220001010020"),
        (4, "3220032021001020130132200003220001310023"),
        (5, "3240432021004420130142240003220001410023"),
        (6, "3250432025004520130542540003255001410023"),
    ] {
        let router = Router::new(Routing::Ketama, &servers[..count]);
        assert_eq!(firsts(&router), expected, "{count} servers");
    }
}

#[test]
fn without_a_server_only_its_own_keys_move() {
    let servers: Vec<Address> = (0..6).map(|i| tcp(format!("h{i}"), 1000 + i)).collect();
    for routing in [Routing::Rendezvous, Routing::Ketama] {
        let whole = Router::new(routing, &servers);
        let rest = Router::new(routing, &servers[..5]);
        for number in 0..2000 {
            let mut order = whole.order(&key(number));
            let mut seen = order.clone();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5], "every server once");
            order.retain(|&index| index != 5);
            assert_eq!(order, rest.order(&key(number)));
        }
    }
}

#[test]
fn keys_are_spread_evenly() {
    let servers: Vec<Address> = (0..4).map(|i| tcp(format!("h{i}"), 11211)).collect();
    for routing in [Routing::Rendezvous, Routing::Ketama] {
        let router = Router::new(routing, &servers);
        let mut counts = [0; 4];
        for number in 0..8000 {
            counts[usize::from(router.order(&key(number))[0])] += 1;
        }
        let expected = 1500..2500;
        assert!(
            counts.iter().all(|count| expected.contains(count)),
            "{counts:?}"
        );
    }
}
