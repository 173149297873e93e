//! What the Redis backend costs over a raw socket: `cargo run --release --example redis_latency`.
//!
//! Starts a Redis server of its own and prints medians of blocking GETs of 100 bytes beside the
//! same exchange on a bare socket, and the rate of asynchronous GETs on one runtime thread.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cachekit_backends::{Backend, RedisBackend};
use cachekit_testkit::servers::RedisServer;

const KEY: &str = "latency";
const VALUE: [u8; 100] = [b'x'; 100];
const TIMEOUT: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;
const CALLS: usize = 20_000;

fn main() {
    let server = RedisServer::start();
    let backend = RedisBackend::from_url(&server.url()).expect("a good URL");
    backend
        .set(KEY, &VALUE, Some(TIMEOUT * 3600), TIMEOUT)
        .expect("set");

    let mut socket = TcpStream::connect(("127.0.0.1", server.port())).expect("connected");
    socket.set_nodelay(true).expect("a TCP socket");
    let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{KEY}\r\n", KEY.len());
    let reply_length = format!("${}\r\n", VALUE.len()).len() + VALUE.len() + 2;
    let mut buffer = [0; 4096];
    for round in 0..ROUNDS {
        let raw = median(|| {
            socket.write_all(request.as_bytes()).expect("sent");
            assert_eq!(socket.read(&mut buffer).expect("received"), reply_length);
        });
        let get = median(|| {
            black_box(
                backend
                    .get(KEY, false, TIMEOUT)
                    .expect("get")
                    .expect("an entry"),
            );
        });
        let with_ttl = median(|| {
            black_box(
                backend
                    .get(KEY, true, TIMEOUT)
                    .expect("get")
                    .expect("an entry"),
            );
        });
        let set = median(|| {
            backend
                .set(KEY, &VALUE, Some(TIMEOUT * 3600), TIMEOUT)
                .expect("set")
        });
        println!(
            "round {round}: raw GET {raw:?}, get {get:?} ({:.2} x), get with ttl {with_ttl:?}, set {set:?}",
            get.as_secs_f64() / raw.as_secs_f64()
        );
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a poller");
    let aio = backend.aio().expect("Redis is asynchronous too");
    for round in 0..ROUNDS {
        let mut line = format!("round {round}, asynchronous gets per second:");
        for in_flight in [1, 16, 128] {
            let calls = CALLS * 5;
            let one = || async {
                for _ in 0..calls / in_flight {
                    black_box(
                        aio.get(KEY, true, TIMEOUT)
                            .await
                            .expect("get")
                            .expect("an entry"),
                    );
                }
            };
            let start = Instant::now();
            let tasks = (0..in_flight).map(|_| one());
            runtime.block_on(futures_util::future::join_all(tasks));
            let rate = calls as f64 / start.elapsed().as_secs_f64();
            line += &format!(" {rate:.0} with {in_flight} in flight;");
        }
        println!("{line}");
    }
}

fn median(mut call: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..CALLS)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[CALLS / 2]
}
