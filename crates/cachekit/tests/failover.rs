//! What functions lose with one of several memcached servers.

mod common;

use std::{convert::Infallible, sync::Arc};

use cachekit::{
    backends::{MemcachedBackend, MemcachedConfig},
    prelude::*,
};
use cachekit_testkit::servers::MemcachedServer;
use common::{SOON, built, run};

/// So many that each server decides about some of them.
const FUNCTIONS: usize = 16;
const ENTRIES: u32 = 100;
/// More than the share of one server of four, by more than chance does.
const SHARE: usize = 45;

/// Calls a function with all its arguments, as a process that has just begun would; what it returned.
fn call(servers: &[MemcachedServer], function: usize, awaited: bool, now: u32) -> Vec<u32> {
    let cache = process(servers);
    let function = cache.function("test", &format!("f{function}"));
    let compute = || Ok::<_, Infallible>(now);
    let value = |argument: u32| match awaited {
        true => run(function.call(&(argument,), || async { compute() })),
        false => function.call_blocking(&(argument,), compute),
    };
    (0..ENTRIES)
        .map(|argument| value(argument).expect("it does not fail"))
        .collect()
}

fn process(servers: &[MemcachedServer]) -> Cache {
    let config = MemcachedConfig::from_servers(servers.iter().map(MemcachedServer::name));
    let backend = MemcachedBackend::new(config.expect("good names"));
    let builder = Cache::builder().backend(Arc::new(backend));
    built(
        builder
            .namespace("test")
            .timeout(SOON)
            .adaptive_timeout(None),
    )
}

fn a_server_dies_and_comes_back(awaited: bool) {
    let mut servers = [(); 4].map(|()| MemcachedServer::start());
    let computed = |values: &[u32], now| values.iter().filter(|value| **value == now).count();
    for function in 0..FUNCTIONS {
        call(&servers, function, awaited, 1);
        let again = call(&servers, function, awaited, 2);
        assert_eq!(computed(&again, 2), 0, "all of it is there");
    }

    servers[1].kill();
    for function in 0..FUNCTIONS {
        let lost = computed(&call(&servers, function, awaited, 3), 3);
        assert!(lost <= SHARE, "{function} lost {lost} with the server");
    }
    // A clear by one process is seen by another one.
    let cache = process(&servers);
    for function in (0..FUNCTIONS).step_by(2) {
        let cleared = cache.function("test", &format!("f{function}"));
        match awaited {
            true => run(cleared.clear()),
            false => cleared.clear_blocking(),
        }
        .expect("cleared");
        let values = call(&servers, function, awaited, 4);
        assert_eq!(computed(&values, 4), values.len(), "{function} was cleared");
    }

    servers[1].restart();
    for function in 0..FUNCTIONS {
        let values = call(&servers, function, awaited, 5);
        let lost = computed(&values, 5);
        assert!(lost <= SHARE, "{function} lost {lost} with the new start");
        if function % 2 == 0 {
            assert!(values.iter().all(|value| *value >= 4), "{function}");
        }
    }
}

#[test]
fn blocking_functions_lose_their_share() {
    a_server_dies_and_comes_back(false);
}

#[test]
fn awaited_functions_lose_their_share() {
    a_server_dies_and_comes_back(true);
}
