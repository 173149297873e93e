//! A load of gets and puts on `cachekit serve`, over TLS and HTTP/2.
//!
//! `cargo run --release -p cachekit-cli --example load -- --seconds 5 --connections 4 --streams 16`
//!
//! Starts the program beside it with a store of its own, fills it, and prints requests per second,
//! the latency's median and 99th percentile, and the server's memory, for each row of the table in
//! `docs/server.md`. `--storage redis` starts a Redis server for the entries, `--storage redis://…`
//! uses one that is there: `embedded` is the default.
//!
//! `--table disk` prints instead what the embedded store's files take beside the entries that live,
//! for values of several shapes: `--turnover` (3) times `--max-mib` (64) is written to a store of its
//! own with that bound.

#![allow(clippy::print_stdout, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_testkit::servers::{CachekitServer, RedisServer};
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
    let long = Duration::from_secs(seconds);
    let mut flags = Vec::new();
    for name in ["durability", "max-in-flight"] {
        if let Some(text) = options.get(name) {
            flags.extend([format!("--{name}"), text.clone()]);
        }
    }
    let is_wanted = |name: &str| options.get("only").is_none_or(|only| name.contains(only));
    match options.get("table").map_or("requests", String::as_str) {
        "requests" => {
            let storage = Storage::named(options.get("storage").map(String::as_str));
            flags.extend(storage.flags());
            let server = started(&flags);
            println!("{}: {}\n", storage.name(), command_line());
            println!("| load | requests/s | p50 | p99 | server's memory | files |");
            println!("|---|---|---|---|---|---|");
            for load in LOADS.into_iter().filter(|load| is_wanted(load.name)) {
                run(&server, load, connections, streams, long).await;
            }
        }
        "disk" => {
            let (bound, turnover) = (number("max-mib", 64), number("turnover", 3));
            flags.extend(["--max-bytes".to_owned(), format!("{bound}MiB")]);
            let goal = (bound * turnover) as u64 * (1 << 20);
            println!("{}\n", command_line());
            println!(
                "| values | written | live at the end | files at most | files at the end | at most / live | at the end / live |"
            );
            println!("|---|---|---|---|---|---|---|");
            for shape in SHAPES.into_iter().filter(|shape| is_wanted(shape.name)) {
                fill(&started(&flags), shape, connections, streams, goal).await;
            }
        }
        other => panic!("--table is requests or disk, not {other}"),
    }
}

fn started(flags: &[String]) -> CachekitServer {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    CachekitServer::with(&flags)
}

fn command_line() -> String {
    std::env::args().skip(1).collect::<Vec<_>>().join(" ")
}

/// Where the server keeps entries.
enum Storage {
    Embedded,
    /// A server of our own, stopped when this is dropped.
    Redis(RedisServer),
    /// One that is there.
    RedisAt(String),
}

impl Storage {
    fn named(name: Option<&str>) -> Self {
        match name {
            None | Some("embedded") => Self::Embedded,
            Some("redis") => Self::Redis(RedisServer::start()),
            Some(url) if url.contains("://") => Self::RedisAt(url.to_owned()),
            Some(other) => panic!("--storage is embedded, redis or a Redis URL, not {other}"),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded store",
            Self::Redis(_) | Self::RedisAt(_) => "Redis storage",
        }
    }

    fn flags(&self) -> Vec<String> {
        let url = match self {
            Self::Embedded => return Vec::new(),
            Self::Redis(server) => server.url(),
            Self::RedisAt(url) => url.clone(),
        };
        ["--store", "redis", "--redis-url", &url]
            .map(str::to_owned)
            .into()
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

async fn connected(server: &CachekitServer, connections: usize) -> Vec<Arc<Client>> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Arc::new(Client::of(server, Version::Http2).await));
    }
    clients
}

/// A multiplicative generator, which is random enough to spread keys and to fill values that do not
/// compress.
struct Random(u64);

impl Random {
    fn from(seed: usize) -> Self {
        Self(seed as u64 * 2 + 1)
    }

    fn next(&mut self) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }

    fn bytes(&mut self, count: usize) -> Bytes {
        let words = std::iter::repeat_with(|| (self.next() as u32).to_le_bytes());
        words.flatten().take(count).collect()
    }
}

async fn run(
    server: &CachekitServer,
    load: Load,
    connections: usize,
    streams: usize,
    long: Duration,
) {
    let value = Bytes::from(vec![7; load.size]);
    let clients = connected(server, connections).await;
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
            let mut random = Random::from(at);
            let mut took = Vec::new();
            while Instant::now() < end {
                let drawn = random.next();
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
    let disk = match clients[0].metric("cachekit_server_disk_bytes").await {
        0 => "–".to_owned(), // They are Redis's.
        bytes => format!("{} MB", bytes >> 20),
    };
    println!(
        "| {} | {:.0} | {:.2} ms | {:.2} ms | {} MB | {} |",
        load.name,
        took.len() as f64 / long.as_secs_f64(),
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        most >> 20,
        disk,
    );
}

/// What a quota counts for an entry besides its key and value, in bytes.
const ENTRY_OVERHEAD: u64 = cachekit_server::ENTRY_OVERHEAD;

/// Values as some program might store them.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    size: usize,
    /// Of a hundred writes, how many replace one of the first `hot` keys; the others are of keys that
    /// no write has had before.
    replacing: usize,
    hot: usize,
}

const SHAPES: [Shape; 5] = [
    Shape {
        name: "many small: 100 B, all new",
        size: 100,
        replacing: 0,
        hot: 1,
    },
    Shape {
        name: "10 KB, all new",
        size: 10_000,
        replacing: 0,
        hot: 1,
    },
    Shape {
        name: "few large: 4 MB, all new",
        size: 4_000_000,
        replacing: 0,
        hot: 1,
    },
    Shape {
        name: "10 KB, 95 % onto 100 hot keys",
        size: 10_000,
        replacing: 95,
        hot: 100,
    },
    Shape {
        name: "100 KB, every second one replaces one of 200",
        size: 100_000,
        replacing: 50,
        hot: 200,
    },
];

/// Writes values of one shape until they have been counted for `goal` bytes, and prints what they take.
async fn fill(
    server: &CachekitServer,
    shape: Shape,
    connections: usize,
    streams: usize,
    goal: u64,
) {
    let clients = connected(server, connections).await;
    let watching = Client::of(server, Version::Http2).await;
    let counted = Arc::new(AtomicU64::new(0));
    let mut writing = tokio::task::JoinSet::new();
    for at in 0..connections * streams {
        let (client, counted) = (clients[at % connections].clone(), counted.clone());
        writing.spawn(async move {
            let mut random = Random::from(at);
            let mut written = 0;
            while counted.load(Ordering::Relaxed) < goal {
                let drawn = random.next();
                let key = if drawn % 100 < shape.replacing {
                    format!("hot:{}", drawn / 100 % shape.hot)
                } else {
                    format!("new:{at}:{written}")
                };
                let entry = (key.len() + shape.size) as u64 + ENTRY_OVERHEAD;
                counted.fetch_add(entry, Ordering::Relaxed);
                let put = client.put(&key, random.bytes(shape.size)).await;
                assert_eq!(put.status, 200);
                written += 1;
            }
        });
    }
    let files = async || watching.metric("cachekit_server_disk_bytes").await;
    let mut most = 0;
    while !writing.is_empty() {
        most = most.max(files().await);
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::pin!(pause);
        // Whoever has ended is taken out until the next look.
        loop {
            tokio::select! {
                () = &mut pause => break,
                Some(ended) = writing.join_next() => ended.expect("no write fails"),
            }
        }
    }
    // Files that are merged already leave, and what they take is counted anew.
    let mut last = files().await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(last);
        last = files().await;
    }
    let live = watching.metric("cachekit_server_stored_bytes").await;
    let ratio = |files: u64| files as f64 / live.max(1) as f64;
    println!(
        "| {} | {} MB | {} MB | {} MB | {} MB | {:.1} | {:.1} |",
        shape.name,
        counted.load(Ordering::Relaxed) >> 20,
        live >> 20,
        most >> 20,
        last >> 20,
        ratio(most),
        ratio(last),
    );
}

/// The bytes of memory that the process has.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
