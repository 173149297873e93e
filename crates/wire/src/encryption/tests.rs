use std::collections::HashSet;

use super::*;

const TENANT: &str = "12345678-1234-1234-1234-123456789abc";

fn master(byte: u8) -> MasterKey {
    MasterKey::from_bytes(&[byte; 32]).expect("32 bytes")
}

fn ring(current: u8, previous: &[u8]) -> Keyring {
    let previous = previous.iter().map(|byte| master(*byte)).collect();
    Keyring::new(master(current), previous).expect("different keys")
}

fn keys(current: u8, previous: &[u8], tenant: &str) -> TenantKeys {
    TenantKeys::derive(&ring(current, previous), tenant, 7).expect("a tenant")
}

fn binding() -> Binding<'static> {
    Binding {
        tenant: TENANT,
        key: "ns:shop:func:m.f:args:00:1s",
        format: "msgpack",
        compressed: true,
        original_type: Some("msgpack"),
    }
}

fn bytes_of(binding: &Binding<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    binding.write(&mut bytes);
    bytes
}

fn sealed(keys: &TenantKeys, binding: &Binding<'_>, payload: &[u8]) -> Vec<u8> {
    let mut middle = payload.to_vec();
    let (nonce, tag) = keys.seal(1, &bytes_of(binding), &mut middle);
    [&nonce[..], &middle, &tag].concat()
}

fn opened(
    keys: &TenantKeys,
    sealed: &[u8],
    fingerprint: Option<&str>,
    binding: &Binding<'_>,
) -> Result<(Vec<u8>, Opened), OpenError> {
    let mut into = vec![1; 9];
    let result = keys.open(sealed, fingerprint, &bytes_of(binding), &mut into);
    assert!(
        result.is_ok() || into.is_empty(),
        "nothing of a refused entry"
    );
    result.map(|opened| (into, opened))
}

/// The protocol's example.
#[test]
fn the_fingerprint_of_the_protocol() {
    let keys = keys(0x61, &[], TENANT);
    assert_eq!(
        keys.fingerprint().as_str(),
        "a96cccd7b110780e88c810525b9b5946"
    );
    assert_ne!(
        keys.fingerprint(),
        self::keys(0x61, &[], "other").fingerprint()
    );
    assert_ne!(
        keys.fingerprint(),
        self::keys(0x62, &[], TENANT).fingerprint()
    );
}

#[test]
fn the_binding_is_exact() {
    let binding = Binding {
        tenant: "t",
        key: "kéy",
        format: "arrow",
        compressed: false,
        original_type: Some("series"),
    };
    let with_type =
        b"\x03\0\0\0\x01t\0\0\0\x04k\xc3\xa9y\0\0\0\x05arrow\0\0\0\x05False\0\0\0\x06series";
    assert_eq!(bytes_of(&binding), with_type);
    for original_type in [None, Some("")] {
        let interop = Binding {
            original_type,
            compressed: true,
            ..binding
        };
        let without = b"\x03\0\0\0\x01t\0\0\0\x04k\xc3\xa9y\0\0\0\x05arrow\0\0\0\x04True";
        assert_eq!(bytes_of(&interop), without);
    }
}

#[test]
#[should_panic(expected = "bound to its key")]
fn an_empty_key_binds_nothing() {
    bytes_of(&Binding {
        key: "",
        ..binding()
    });
}

#[test]
fn what_is_sealed_opens() {
    let keys = keys(1, &[], TENANT);
    for payload in [&b""[..], b"x", &[7; 100_000]] {
        let sealed = sealed(&keys, &binding(), payload);
        assert_eq!(sealed.len(), NONCE_LEN + payload.len() + TAG_LEN);
        let mut apart = vec![0; sealed.len()];
        keys.seal_into(1, &bytes_of(&binding()), payload, &mut apart);
        let (same, _) = opened(&keys, &apart, None, &binding()).expect("sealed out of place");
        assert_eq!(same, payload);
        let (back, by) = opened(
            &keys,
            &sealed,
            Some(keys.fingerprint().as_str()),
            &binding(),
        )
        .expect("what was sealed");
        assert_eq!(back, payload);
        assert_eq!(
            by,
            Opened {
                key: 0,
                named: true
            }
        );
    }
}

/// Made by another implementation of AES-256-GCM and HKDF (Python's `cryptography`) from master
/// 0x61 × 32, tenant `TENANT`, nonce 00…0b and the binding of `binding()`.
#[test]
fn what_others_sealed_opens() {
    let keys = keys(0x61, &[], TENANT);
    let foreign = unhex(FOREIGN);
    let (back, _) = opened(&keys, &foreign, None, &binding()).expect("the same construction");
    assert_eq!(back, b"attack at dawn");
}

const FOREIGN: &str =
    "000102030405060708090a0b4c680b49ab80396d95ab64001c950b40e2704e4a292b1f762c0e9c2f3c01";

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).expect("ASCII"))
        .map(|pair| u8::from_str_radix(pair, 16).expect("digits"))
        .collect()
}

#[test]
fn every_flipped_bit_and_every_length_is_refused() {
    let keys = keys(1, &[2], TENANT);
    let good = sealed(&keys, &binding(), b"payload");
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            opened(&keys, &bad, None, &binding()),
            Err(OpenError::Unauthentic),
            "bit {bit}"
        );
    }
    for len in 0..good.len() {
        let short = OpenError::Short { have: len };
        let expected = if len < NONCE_LEN + TAG_LEN {
            short
        } else {
            OpenError::Unauthentic
        };
        assert_eq!(opened(&keys, &good[..len], None, &binding()), Err(expected));
    }
    let longer = [&good[..], b"\0"].concat();
    assert_eq!(
        opened(&keys, &longer, None, &binding()),
        Err(OpenError::Unauthentic)
    );
}

#[test]
fn an_entry_opens_nowhere_else() {
    let keys = keys(1, &[], TENANT);
    let good = sealed(&keys, &binding(), b"payload");
    let elsewhere = [
        Binding {
            tenant: "other",
            ..binding()
        },
        Binding {
            key: "ns:shop:func:m.g:args:00:1s",
            ..binding()
        },
        Binding {
            format: "arrow",
            ..binding()
        },
        Binding {
            compressed: false,
            ..binding()
        },
        Binding {
            original_type: Some("series"),
            ..binding()
        },
        Binding {
            original_type: None,
            ..binding()
        },
        // The same text, cut elsewhere.
        Binding {
            key: "ns:shop:func:m.f:args:00:1sm",
            format: "sgpack",
            ..binding()
        },
    ];
    for other in elsewhere {
        assert_eq!(
            opened(&keys, &good, None, &other),
            Err(OpenError::Unauthentic),
            "{other:?}"
        );
    }
    let tenant = self::keys(1, &[], "other");
    assert_eq!(
        opened(&tenant, &good, None, &binding()),
        Err(OpenError::Unauthentic)
    );
}

#[test]
fn the_ring_opens_what_its_keys_sealed() {
    let old = keys(1, &[], TENANT);
    let entry = sealed(&old, &binding(), b"payload");
    let name = old.fingerprint().as_str();
    let rotated = keys(3, &[2, 1], TENANT);
    let by = |keys: &TenantKeys, name: Option<&str>| {
        opened(keys, &entry, name, &binding()).map(|(_, by)| by)
    };
    assert_eq!(
        by(&rotated, Some(name)),
        Ok(Opened {
            key: 2,
            named: true
        })
    );
    assert_eq!(
        by(&rotated, None),
        Ok(Opened {
            key: 2,
            named: false
        })
    );
    // A name that is not in the ring tries the current key alone, so that a changed header is no way
    // to choose.
    let unknown = [
        "".to_owned(),
        "00".to_owned(),
        name.to_uppercase(),
        "0".repeat(32),
        format!("{name} "),
    ];
    for unknown in &unknown {
        assert_eq!(
            by(&rotated, Some(unknown)),
            Err(OpenError::Unauthentic),
            "{unknown}"
        );
        assert_eq!(
            by(&old, Some(unknown)),
            Ok(Opened {
                key: 0,
                named: false
            }),
            "{unknown}"
        );
    }
    let newer = rotated.fingerprint().as_str();
    assert_eq!(by(&rotated, Some(newer)), Err(OpenError::Unauthentic));
    assert_eq!(
        by(&keys(3, &[2], TENANT), None),
        Err(OpenError::Unauthentic)
    );
}

#[test]
fn malformed_keys_are_refused_without_showing_them() {
    let hex = "a1b2c3d4e5f6789012345678901234567890abcdef12345678901234567890";
    let refused = |text: &str| MasterKey::from_hex(text).expect_err("not a key");
    assert_eq!(refused("my-secret-key"), KeyError::NotHex);
    assert_eq!(refused(&format!("{hex}0")), KeyError::NotHex);
    assert_eq!(refused(&"é".repeat(32)), KeyError::NotHex);
    assert_eq!(refused(hex), KeyError::Short { bytes: 31 });
    assert_eq!(refused(""), KeyError::Short { bytes: 0 });
    assert!(refused(hex).to_string().contains("31 bytes"));
    for text in [
        format!("{hex}ff"),
        format!(" {}\n", format!("{hex}ff").to_uppercase()),
    ] {
        let key = MasterKey::from_hex(&text).expect("32 bytes");
        assert_eq!(format!("{key:?}"), "MasterKey([REDACTED])");
        assert_eq!(key.expose()[..3], [0xa1, 0xb2, 0xc3]);
    }
}

#[test]
fn a_ring_has_few_keys_and_each_once() {
    let new = |current: u8, previous: &[u8]| {
        let previous = previous.iter().map(|byte| master(*byte)).collect();
        Keyring::new(master(current), previous).map(|_| ())
    };
    assert_eq!(new(1, &[2, 3, 4]), Ok(()));
    assert_eq!(new(1, &[2, 3, 4, 5]), Err(KeyError::TooMany { count: 4 }));
    assert_eq!(new(1, &[2, 1]), Err(KeyError::Repeated));
    assert_eq!(new(1, &[2, 2]), Err(KeyError::Repeated));
    assert!(!format!("{:?}", ring(65, &[66])).contains("65"));
}

#[test]
fn tenants_have_bounded_names() {
    let derived = |tenant: &str| TenantKeys::derive(&ring(1, &[]), tenant, 0).map(|_| ());
    assert_eq!(derived(""), Err(TenantError::Empty));
    assert_eq!(derived(&"x".repeat(MAX_TENANT_BYTES)), Ok(()));
    let bytes = MAX_TENANT_BYTES + 1;
    assert_eq!(
        derived(&"x".repeat(bytes)),
        Err(TenantError::Long { bytes })
    );
}

#[test]
fn nonces_differ_even_where_the_randomness_is_stuck() {
    let nonces = Nonces::starting_at(u32::MAX - 1);
    let seen: HashSet<_> = (0..1000).map(|_| nonces.next(9)).collect();
    assert_eq!(seen.len(), 1000);
    // Two processes that continue from one state.
    let twins = [Nonces::starting_at(5), Nonces::starting_at(5)];
    assert_ne!(twins[0].next(1), twins[1].next(2));
    assert_eq!(
        Nonces::starting_at(0x0a0b_0c0d).next(0x0102_0304_0506_0708),
        [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13]
    );
}

#[test]
fn threads_share_the_counter() {
    let keys = keys(1, &[], TENANT);
    let all: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let work = || {
            (0..500)
                .map(|_| sealed(&keys, &binding(), b""))
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    let nonces: HashSet<_> = all.iter().map(|entry| &entry[..NONCE_LEN]).collect();
    assert_eq!(nonces.len(), 2000);
}
