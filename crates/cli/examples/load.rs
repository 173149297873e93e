//! A load of gets and puts on `cachekit serve`, over TLS and HTTP/2.
//!
//! `cargo run --release -p cachekit-cli --example load -- --seconds 5 --connections 4 --streams 16`
//!
//! Starts the program beside it with a store of its own, fills it, and prints requests per second,
//! the latency's median and 99th percentile, and the server's memory, for each row of the table in
//! `docs/server.md`.

#![allow(clippy::print_stdout, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_testkit::servers::CachekitServer;
use common::{Client, Version};

/// What one row of the table sends.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    size: usize,
    keys: usize,
    /// Of a hundred requests, how many write.
    writes: usize,
}

const LOADS: [Load; 6] = [
    Load {
        name: "get 100 B",
        size: 100,
        keys: 10_000,
        writes: 0,
    },
    Load {
        name: "put 100 B",
        size: 100,
        keys: 10_000,
        writes: 100,
    },
    Load {
        name: "get 10 KB",
        size: 10_000,
        keys: 10_000,
        writes: 0,
    },
    Load {
        name: "put 10 KB",
        size: 10_000,
        keys: 10_000,
        writes: 100,
    },
    Load {
        name: "80/20 10 KB",
        size: 10_000,
        keys: 10_000,
        writes: 20,
    },
    Load {
        name: "80/20 1 MB",
        size: 1_000_000,
        keys: 200,
        writes: 20,
    },
];

#[tokio::main]
async fn main() {
    let options = options();
    let number = |name: &str, default: usize| {
        options
            .get(name)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let seconds = number("seconds", 5) as u64;
    let (connections, streams) = (number("connections", 4), number("streams", 16));
    let mut flags = vec!["--max-bytes".to_owned(), "1GiB".to_owned()];
    for name in [
        "durability",
        "max-in-flight",
        "store",
        "redis-url",
        "max-bytes",
    ] {
        if let Some(text) = options.get(name) {
            flags.retain(|flag| {
                flag != &format!("--{name}") && !(name == "max-bytes" && flag == "1GiB")
            });
            flags.extend([format!("--{name}"), text.clone()]);
        }
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = CachekitServer::with(&flags);
    println!("| load | requests/s | p50 | p99 | server's memory | files |");
    println!("|---|---|---|---|---|---|");
    for load in LOADS {
        if options
            .get("only")
            .is_some_and(|only| !load.name.contains(only.as_str()))
        {
            continue;
        }
        run(
            &server,
            load,
            connections,
            streams,
            Duration::from_secs(seconds),
        )
        .await;
    }
}

/// `--name value` pairs.
fn options() -> HashMap<String, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    words
        .chunks(2)
        .map(|pair| match pair {
            [name, value] if name.starts_with("--") => (name[2..].to_owned(), value.clone()),
            _ => panic!("options are pairs, as in --seconds 5"),
        })
        .collect()
}

async fn run(
    server: &CachekitServer,
    load: Load,
    connections: usize,
    streams: usize,
    long: Duration,
) {
    let value = Bytes::from(vec![7; load.size]);
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Arc::new(Client::of(server, Version::Http2).await));
    }
    let mut filling = tokio::task::JoinSet::new();
    for at in 0..connections * streams {
        let (client, value) = (clients[at % connections].clone(), value.clone());
        filling.spawn(async move {
            for key in (at..load.keys).step_by(connections * streams) {
                let put = client
                    .put(&format!("{}:{key}", load.size), value.clone())
                    .await;
                assert_eq!(put.status, 200);
            }
        });
    }
    filling.join_all().await;

    let end = Instant::now() + long;
    let mut working = tokio::task::JoinSet::new();
    for at in 0..connections * streams {
        let (client, value) = (clients[at % connections].clone(), value.clone());
        working.spawn(async move {
            // A multiplicative generator is random enough to spread keys.
            let mut random = at as u64 * 2 + 1;
            let mut took = Vec::new();
            while Instant::now() < end {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let drawn = (random >> 33) as usize;
                let key = format!("{}:{}", load.size, drawn % load.keys);
                let started = Instant::now();
                let answer = if drawn / load.keys % 100 < load.writes {
                    client.put(&key, value.clone()).await
                } else {
                    client.get(&key).await
                };
                assert_eq!(answer.status, 200);
                took.push(started.elapsed());
            }
            took
        });
    }
    let mut most = 0;
    while Instant::now() < end {
        most = most.max(resident(server.pid()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut took: Vec<Duration> = working.join_all().await.into_iter().flatten().collect();
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    let disk = clients[0].metric("cachekit_server_disk_bytes").await;
    println!(
        "| {} | {:.0} | {:.2} ms | {:.2} ms | {} MB | {} MB |",
        load.name,
        took.len() as f64 / long.as_secs_f64(),
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        most >> 20,
        disk >> 20,
    );
}

/// The bytes of memory that the process has.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
