//! How much disk the embedded store takes for what it holds.
//!
//! `cargo run --release -p cachekit-server --example disk -- 256 100 9` writes nine times 256 MiB of
//! random values of 100 KB through a store of that bound, new entries and replaced ones in turns, and
//! prints the files' size at its highest and at the end, besides what the entries are counted for.

#![allow(clippy::print_stdout, missing_docs)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_server::{
    EmbeddedOptions, EmbeddedStore, Life, Mode, Place, Put, Quota, Scope, Store,
};
use cachekit_testkit::TempDir;

const LIFE: Life = Life {
    fresh: Duration::from_secs(3600),
    stale: Duration::ZERO,
};

/// Bytes in the files below a directory. A file that goes meanwhile has none.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| {
        let number: u64 = text.parse().expect("a whole number");
        number
    });
    let max_bytes = arguments.next().unwrap_or(256) << 20;
    let length = arguments.next().unwrap_or(100) * 1000;
    let times = arguments.next().unwrap_or(9);
    let directory = TempDir::new();
    let mut options = EmbeddedOptions::new(directory.path());
    options.max_bytes = max_bytes;
    let store = EmbeddedStore::open(options).expect("the directory is ours");
    let scope = Scope::new(Mode::Live, "disk");
    let mut random = fs::File::open("/dev/urandom").expect("there is randomness");
    let mut value = vec![0; usize::try_from(length).expect("it fits")];
    let mut highest = 0;
    let started = Instant::now();
    let writes = max_bytes * times / length;
    for write in 0..writes {
        std::io::Read::read_exact(&mut random, &mut value).expect("there is randomness");
        // Every second one replaces an entry of a moment before.
        let key = if write % 2 == 0 {
            write
        } else {
            write.saturating_sub(501)
        };
        let place = Place::new(&scope, &format!("k{key}"));
        let put = store.put(
            &place,
            Bytes::from(value.clone()),
            LIFE,
            Quota::default(),
            None,
        );
        assert_eq!(put.await.expect("the disk has room"), Put::Stored);
        if write % 50 == 0 {
            highest = highest.max(size(directory.path()));
        }
    }
    let took = started.elapsed().as_secs_f64();
    highest = highest.max(size(directory.path()));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (held, rests) = (store.usage().bytes, size(directory.path()));
    let shown = |bytes: u64| {
        format!(
            "{} MB ({:.2})",
            bytes / 1_000_000,
            bytes as f64 / max_bytes as f64
        )
    };
    println!("{} MB written in {took:.1} s", writes * length / 1_000_000);
    println!(
        "entries {}, files at most {}, at the end {}",
        shown(held),
        shown(highest),
        shown(rests)
    );
}
