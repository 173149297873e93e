//! Interop mode: entries that programs in other languages have under the same keys.

mod common;

use std::{sync::Arc, time::Duration};

use cachekit::{
    backends::{Backend, RedisBackend},
    interop::{Set, Timestamp},
    prelude::*,
};
use cachekit_testkit::servers::RedisServer;
use common::{Runs, backend, built, process, run};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);
/// What the published packages call `users:get_user` of 42.
const KEY_OF_42: &str =
    "users:get_user:61598716255080080f6456eb065c2e51badfaa4320b0efe97469c29cffee8875";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    id: u64,
    score: f32,
    tags: Vec<String>,
}

fn user() -> User {
    User {
        name: "Ada".into(),
        id: 42,
        score: 1.0,
        tags: vec![],
    }
}

/// Maps by key, integers shortest, floats of 64 bits.
const STORED: &[u8] = b"\x84\xa2id\x2a\xa4name\xa3Ada\xa5score\xcb\x3f\xf0\0\0\0\0\0\0\xa4tags\x90";

type Never = std::convert::Infallible;

fn users(server: &RedisServer) -> cachekit::Function {
    let cache = built(process(server).namespace("users"));
    cache.interop("get_user").expect("good names")
}

fn stored(store: &RedisBackend, key: &str) -> Option<bytes::Bytes> {
    let found = store.get(key, false, SECOND).expect("up");
    found.map(|found| found.value)
}

#[test]
fn an_entry_is_one_document_under_the_shared_key() {
    let server = RedisServer::start();
    let function = users(&server);
    assert_eq!(function.key_for(&42).expect("a key"), KEY_OF_42);
    let value = function.call_blocking(&(42.0,), || Ok::<_, Never>(user()));
    assert_eq!(value, Ok(user()));
    let entry = stored(&backend(&server), KEY_OF_42).expect("stored");
    assert_eq!(entry, STORED);
    let keys = backend(&server);
    assert_eq!(
        stored(&keys, "ck:gen:users"),
        None,
        "nothing else is written"
    );
}

#[test]
fn what_others_wrote_is_read() {
    let server = RedisServer::start();
    let store = backend(&server);
    // Longer forms than needed, another order, and a member that nobody asked for.
    let theirs =
        b"\xde\0\x05\xa4name\xd9\x03Ada\xa5extra\xc0\xa2id\xcf\0\0\0\0\0\0\0\x2a\xa5score\x01\xa4tags\xdc\0\0";
    store
        .set(KEY_OF_42, theirs, Some(SECOND * 60), SECOND)
        .expect("up");
    let value: Result<User, Never> =
        run(users(&server).call(&(42,), || async { panic!("it is there") }));
    assert_eq!(value, Ok(user()));
}

#[test]
fn a_frame_under_the_key_is_a_miss_that_is_overwritten() {
    let server = RedisServer::start();
    let store = backend(&server);
    for foreign in [&b"CK\x03\0\0\0\0"[..], b"\x2a\x2a", b"", b"\xc1"] {
        store.set(KEY_OF_42, foreign, None, SECOND).expect("up");
        let value = users(&server).call_blocking(&(42,), || Ok::<_, Never>(user()));
        assert_eq!(value, Ok(user()));
        assert_eq!(stored(&store, KEY_OF_42).as_deref(), Some(STORED));
    }
}

#[test]
fn clearing_removes_what_this_process_knows() {
    let server = RedisServer::start();
    let store = backend(&server);
    let (writer, reader) = (users(&server), users(&server));
    for id in 0..20 {
        let ran = writer.call_blocking(&(id,), || Ok::<_, Never>(id));
        assert_eq!(ran, Ok(id));
    }
    let found: Result<i32, Never> = reader.call_blocking(&(3,), || panic!("it is there"));
    assert_eq!(found, Ok(3));
    let keys: Vec<String> = (0..20)
        .map(|id| writer.key_for(&(id,)).expect("a key"))
        .collect();
    reader.clear_blocking().expect("up");
    assert_eq!(stored(&store, &keys[3]), None, "the reader had found it");
    assert!(
        stored(&store, &keys[4]).is_some(),
        "the reader knew nothing of it"
    );
    run(writer.clear()).expect("up");
    assert!(keys.iter().all(|key| stored(&store, key).is_none()));
    // What is stored after that counts.
    let runs = Runs::default();
    for _ in 0..2 {
        let value = users(&server).call_blocking(&(3,), || Ok::<_, Never>(runs.add()));
        assert_eq!(value, Ok(0));
    }
}

#[test]
fn invalidating_one_call_leaves_the_others() {
    let server = RedisServer::start();
    let store = backend(&server);
    let function = users(&server);
    for id in [1, 2] {
        let _ = function.call_blocking(&(id,), || Ok::<_, Never>(id));
    }
    function.invalidate_blocking(&(1,)).expect("up");
    let there = |id: i32| stored(&store, &function.key_for(&(id,)).expect("a key")).is_some();
    assert_eq!([there(1), there(2)], [false, true]);
}

#[test]
fn an_entry_is_as_fresh_as_the_store_says() {
    let server = RedisServer::start();
    let store = backend(&server);
    store
        .set(KEY_OF_42, b"\x01", Some(Duration::from_secs(2)), SECOND)
        .expect("up");
    let function = users(&server); // Its own life is an hour.
    let runs = Runs::default();
    let call = || function.call_blocking(&(42,), || Ok::<_, Never>(7 + runs.add()));
    assert_eq!(call(), Ok(1));
    assert_eq!(function.stats().entries, 1, "kept in the process");
    common::eventually("the copy in the process ends with the entry", || {
        call() == Ok(7)
    });
}

#[test]
fn values_outside_of_the_model_are_not_stored() {
    let server = RedisServer::start();
    let store = backend(&server);
    let function = users(&server);
    let runs = Runs::default();
    for _ in 0..2 {
        let map = std::collections::HashMap::from([(1, f64::NAN)]);
        let value = function.call_blocking(&(1,), || Ok::<_, Never>((runs.add(), map)));
        assert!(value.is_ok());
    }
    assert_eq!(runs.count(), 2);
    assert_eq!(
        stored(&store, &function.key_for(&(1,)).expect("a key")),
        None
    );
}

#[test]
fn sets_and_moments_have_the_keys_that_python_gives_them() {
    let server = RedisServer::start();
    let function = users(&server);
    // generate_interop_key("users", "get_user", [{3, 1, "b"}, datetime(2020, 1, 1, tzinfo=utc)])
    let args = (
        Set([Either::Number(3), Either::Text("b"), Either::Number(1)]),
        Timestamp::from_micros(1_577_836_800_000_000),
    );
    assert_eq!(
        function.key_for(&args).expect("a key"),
        "users:get_user:bcf3851aa7bc296a0b803420ff1331a55abcc7f404905ad76f60f636163023da"
    );
}

#[derive(Serialize)]
#[serde(untagged)]
enum Either {
    Number(u8),
    Text(&'static str),
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let server = RedisServer::start();
    let refused = |builder: CacheBuilder, operation: &str| {
        let error = built(builder).interop(operation).expect_err("refused");
        assert_eq!(error.kind(), cachekit::ErrorKind::Configuration);
        error.to_string()
    };
    let store: Arc<RedisBackend> = backend(&server);
    let bare = || Cache::builder().backend(Arc::clone(&store) as Arc<dyn Backend>);
    assert!(refused(bare(), "op").contains("needs a namespace"));
    assert!(refused(bare().namespace("n").tenant("t"), "op").contains("tenant"));
    assert!(refused(Cache::builder().namespace("n"), "op").contains("needs a store"));
    assert!(refused(bare().namespace("N"), "op").contains("namespace \"N\""));
    assert!(refused(bare().namespace("n"), "Op").contains("operation \"Op\""));
}
