//! Two processes share one Redis entry: `cargo run --example read_through`.
//!
//! The first process computes a table and stores it. It then starts this program once more as a
//! second process, which finds the table in Redis, and finds it in its own memory from then on.
//!
//! Redis is taken from CACHEKIT_REDIS_URL or REDIS_URL; where neither is set, a `redis-server` of
//! our own is started on a free port of this machine and ended with the program.
#![allow(clippy::print_stdout, reason = "an example's output is its purpose")]

use std::{
    convert::Infallible,
    env,
    error::Error,
    net::{TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use cachekit::prelude::*;
use serde::{Deserialize, Serialize};

/// Set for the second process.
const SECOND: &str = "READ_THROUGH_SECOND";
const URLS: [&str; 2] = ["CACHEKIT_REDIS_URL", "REDIS_URL"];
const LIMIT: u32 = 200_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Longest {
    start: u32,
    steps: u32,
}

/// The start below `limit` whose Collatz sequence is longest: slow enough to be worth keeping.
fn longest_below(limit: u32) -> Longest {
    let steps = |start: u32| {
        let next = |n: u64| {
            if n.is_multiple_of(2) {
                n / 2
            } else {
                3 * n + 1
            }
        };
        std::iter::successors(Some(u64::from(start)), |n| (*n != 1).then(|| next(*n))).count()
            as u32
            - 1
    };
    let mut longest = Longest { start: 1, steps: 0 };
    for start in 1..limit {
        let steps = steps(start);
        if steps > longest.steps {
            longest = Longest { start, steps };
        }
    }
    longest
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if env::var_os(SECOND).is_some() {
        second()?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(redis) = Redis::find()? else {
        eprintln!(
            "There is no Redis to share entries through.\n\
             Set CACHEKIT_REDIS_URL (as in redis://localhost:6379), or install redis-server."
        );
        return Ok(ExitCode::FAILURE);
    };
    first(&redis)
}

fn open(url: Option<&str>) -> Result<(Cache, Function), cachekit::Error> {
    let builder = match url {
        Some(url) => Cache::builder().redis(url).tenant("default"),
        None => CacheBuilder::from_env()?,
    };
    let cache = builder
        .namespace("read-through")
        .ttl(Duration::from_secs(60))
        .build()?;
    let function = cache.function("examples.read_through", "longest_below");
    Ok((cache, function))
}

/// Calls the function through the cache and says how long that took, and who answered.
fn call(cache: &Cache, function: &Function, who: &str) -> Longest {
    let before = cache.stats();
    let start = Instant::now();
    let Ok(found) = function.call_blocking(&(LIMIT,), || Ok::<_, Infallible>(longest_below(LIMIT)));
    let took = start.elapsed();
    let after = cache.stats();
    let answered = match (
        after.l1_hits - before.l1_hits,
        after.l2_hits - before.l2_hits,
    ) {
        (1, _) => "hit in memory (L1)",
        (_, 1) => "hit in Redis (L2)",
        _ => "cold, computed",
    };
    println!("{who:<15} {answered:<20} {took:>12.1?}   {found:?}");
    found
}

fn first(redis: &Redis) -> Result<ExitCode, Box<dyn Error>> {
    let (cache, function) = open(redis.own_url())?;
    // An earlier run may have left its entry.
    if let Err(error) = function.clear_blocking() {
        let cause = error
            .source()
            .map_or(error.to_string(), ToString::to_string);
        eprintln!("Redis does not answer ({cause}); start it, or correct or unset its variable.");
        return Ok(ExitCode::FAILURE);
    }
    let found = call(&cache, &function, "first process");
    call(&cache, &function, "first process");

    let mut command = Command::new(env::current_exe()?);
    if let Some(url) = redis.own_url() {
        command.env("READ_THROUGH_URL", url);
    }
    let status = command.env(SECOND, "1").status()?;

    println!("key in Redis    {}", function.key_for(&(LIMIT,))?);
    assert_eq!(found, longest_below(LIMIT));
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn second() -> Result<(), Box<dyn Error>> {
    let url = env::var("READ_THROUGH_URL").ok();
    let (cache, function) = open(url.as_deref())?;
    call(&cache, &function, "second process");
    call(&cache, &function, "second process");
    let stats = cache.stats();
    if (stats.l2_hits, stats.l1_hits, stats.misses) == (1, 1, 0) {
        Ok(())
    } else {
        Err(format!("the entry was not shared: {stats:?}").into())
    }
}

/// The Redis of the environment, or one of our own.
enum Redis {
    Environment,
    Own { url: String, server: Child },
}

impl Redis {
    fn find() -> Result<Option<Self>, Box<dyn Error>> {
        let is_set = |name: &&str| env::var_os(name).is_some_and(|url| !url.is_empty());
        if URLS.iter().any(is_set) {
            return Ok(Some(Self::Environment));
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let spawned = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn();
        let server = match spawned {
            Ok(server) => server,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let own = Self::Own {
            url: format!("redis://127.0.0.1:{port}"),
            server,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err("redis-server was started and does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(own))
    }

    fn own_url(&self) -> Option<&str> {
        match self {
            Self::Environment => None,
            Self::Own { url, .. } => Some(url),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Self::Own { server, .. } = self {
            // It may have ended by itself.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
