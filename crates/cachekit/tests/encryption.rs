//! Encrypted entries in a store: what is read, what is refused, in frames and in interop mode.

mod common;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cachekit::{
    CacheBuilder, Function,
    backends::{Backend, RedisBackend},
    encryption::{Keychain, MasterKey},
    prelude::*,
};
use cachekit_testkit::servers::RedisServer;
use common::{Runs, backend, built, process};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);
const DEPLOYMENT: &str = "12345678-1234-1234-1234-123456789abc";
const HEADROOM: usize = 12 + 16;

type Never = std::convert::Infallible;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Found {
    a: u8,
    b: Vec<u8>,
}

fn found() -> Found {
    Found { a: 1, b: vec![2] }
}

fn keys(byte: u8) -> Keychain {
    let key = MasterKey::from_bytes(&[byte; 32]).expect("long enough");
    Keychain::new(key, vec![]).expect("one key")
}

/// A cache that keeps nothing in the process, under the key of `byte`.
fn encrypting(server: &RedisServer, byte: u8) -> CacheBuilder {
    process(server)
        .namespace("n")
        .no_l1()
        .deployment(DEPLOYMENT)
        .encryption(keys(byte))
}

fn put(store: &RedisBackend, key: &str, value: &[u8]) {
    let stored = store.set(key, value, Some(60 * SECOND), SECOND);
    stored.expect("the server is up");
}

fn stored(store: &RedisBackend, key: &str) -> Bytes {
    let found = store.get(key, false, SECOND).expect("the server is up");
    found.expect("it is stored").value
}

/// What a call for `of` gets, and whether it was computed.
fn asked(function: &Function, of: u8) -> (Found, bool) {
    let runs = Runs::default();
    let got = function.call_blocking(&(of,), || {
        runs.add();
        Ok::<_, Never>(found())
    });
    (got.expect("it cannot fail"), runs.count() > 0)
}

/// The ways in which entries are shared: framed ones and those of interop mode.
fn both(cache: &Cache) -> [Function; 2] {
    let interop = cache.interop("enc").expect("a deployment is named");
    [cache.function("module", "function"), interop]
}

#[test]
fn an_interop_entry_is_nonce_ciphertext_and_tag() {
    let server = RedisServer::start();
    let store = backend(&server);
    let cache = built(encrypting(&server, b'0'));
    let function = cache.interop("enc").expect("a deployment is named");
    assert_eq!(asked(&function, 1), (found(), true));
    let entry = stored(&store, &function.key_for(&1).expect("a key"));
    assert_eq!(entry.len(), b"\x82\xa1a\x01\xa1b\x91\x02".len() + HEADROOM);
    assert_eq!(asked(&function, 1), (found(), false));
}

#[test]
fn an_interop_entry_of_the_published_python_package() {
    let server = RedisServer::start();
    let store = backend(&server);
    let keys = MasterKey::from_hex(&"a".repeat(64)).expect("a good key");
    let keys = Keychain::new(keys, vec![]).expect("one key");
    let cache = built(encrypting(&server, 0).encryption(keys));
    let function = cache.interop("enc").expect("a deployment is named");
    let key = "n:enc:0fc882b05c2c6b65228714a9137fd7f4add8e968e61b55cf40c3bd636b47dc5b";
    assert_eq!(function.key_for(&(1, 2)).expect("a key"), key);
    // What cachekit 0.24.1 stored for the result {"a": 1, "b": [2]}.
    let hex = "5ca4fd86c3d17a600000000055be35db169060080602b600652a7af5304fb1e92bcb85ac";
    put(&store, key, &unhex(hex));
    let got = function.call_blocking(&(1, 2), || -> Result<Found, Never> {
        panic!("it is there already")
    });
    assert_eq!(got, Ok(found()));
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn what_is_not_the_entry_is_computed_anew_and_overwritten() {
    let server = RedisServer::start();
    let store = backend(&server);
    let cache = built(encrypting(&server, b'a'));
    let stranger = built(encrypting(&server, b'b'));
    let plain = built(process(&server).namespace("n").no_l1());
    for number in 0..2 {
        let function = &both(&cache)[number];
        let (here, there) = (
            function.key_for(&1).expect("a key"),
            function.key_for(&2).expect("a key"),
        );
        let refused = |what: &str, entry: Bytes| {
            let before = cache.stats().refused;
            put(&store, &here, &entry);
            assert_eq!(asked(function, 1), (found(), true), "{number}: {what}");
            assert_eq!(cache.stats().refused, before + 1, "{number}: {what}");
            assert_ne!(stored(&store, &here), entry, "{number}: {what}");
            assert_eq!(asked(function, 1), (found(), false), "{number}: {what}");
        };
        asked(function, 1);
        asked(function, 2);
        let good = stored(&store, &here);
        refused("another key's", stored(&store, &there));
        refused("cut", good.slice(..good.len() - 1));
        refused("longer", [&good[..], b"\0"].concat().into());
        refused("flipped", {
            let mut bytes = good.to_vec();
            *bytes.last_mut().expect("a tag") ^= 1;
            bytes.into()
        });
        store.delete(&here, SECOND).expect("the server is up");
        asked(&both(&stranger)[number], 1);
        refused("another master key's", stored(&store, &here));
        store.delete(&here, SECOND).expect("the server is up");
        let open = match number {
            0 => plain.function("module", "function"),
            _ => plain.interop("enc").expect("good names"),
        };
        assert_eq!(open.key_for(&1).expect("a key"), here);
        asked(&open, 1);
        refused("in plain", stored(&store, &here));
    }
}

#[test]
fn interop_and_encryption_need_a_deployment_in_its_usual_form() {
    let server = RedisServer::start();
    let base = || process(&server).encryption(keys(1));
    let upper = DEPLOYMENT.to_uppercase();
    let bare = DEPLOYMENT.replace('-', "");
    let braced = format!("{{{DEPLOYMENT}}}");
    for named in [
        "default",
        "",
        upper.as_str(),
        bare.as_str(),
        braced.as_str(),
    ] {
        let builder = match named {
            "" => base(),
            named => base().deployment(named),
        };
        let error = built(builder).interop("op").expect_err("refused");
        assert_eq!(error.kind(), cachekit::ErrorKind::Configuration);
        assert!(
            error.to_string().contains("deployment()"),
            "{named}: {error}"
        );
    }
    built(base().deployment(DEPLOYMENT))
        .interop("op")
        .expect("good");
    // Where nothing is encrypted there is nothing to derive.
    built(process(&server)).interop("op").expect("good");
}

#[test]
fn the_store_and_errors_show_nothing_of_the_value() {
    let server = RedisServer::start();
    let store: Arc<RedisBackend> = backend(&server);
    let cache = built(encrypting(&server, 7));
    let secret = "attack at dawn".to_owned();
    for function in both(&cache) {
        let got = function.call_blocking(&1, || Ok::<_, Never>(secret.clone()));
        assert_eq!(got.as_ref(), Ok(&secret));
        let entry = stored(&store, &function.key_for(&1).expect("a key"));
        let shown = entry.windows(6).any(|part| part == b"attack");
        assert!(!shown, "{entry:?}");
    }
}

/// What it is written as is no name of its own, which the error quotes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Order {
    #[serde(rename(serialize = "attack at dawn"))]
    Attack,
}

#[test]
fn why_a_value_is_not_stored_is_not_told_by_quoting_it() {
    let server = RedisServer::start();
    let told = |cache: &Cache| {
        let error = cache.set_blocking("order", Order::Attack);
        error.expect_err("it does not come back").to_string()
    };
    let plain = told(&built(process(&server).namespace("n")));
    assert!(plain.contains("attack at dawn"), "{plain}");
    let secret = told(&built(encrypting(&server, 7)));
    assert!(secret.contains("does not come back"), "{secret}");
    assert!(!secret.contains("attack"), "{secret}");
}
