//! What L1 says it holds is what it holds.
#![allow(clippy::print_stdout, reason = "a failing test shows all its ratios")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

use cachekit::{Cache, Value};
use serde::{Deserialize, Serialize};

/// The system's allocator, counting as it lays blocks out: a word of its own, in steps of 16, 32 at
/// least.
struct Counting;

static HELD: AtomicI64 = AtomicI64::new(0);

fn block(size: usize) -> i64 {
    ((size as i64 + 8 + 15) & !15).max(32)
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(block(layout.size()), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(block(layout.size()), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone, Serialize, Deserialize)]
struct Row {
    id: u64,
    flag: bool,
    name: String,
    tags: Vec<String>,
    score: Option<f64>,
}

fn row(n: usize) -> Row {
    Row {
        id: n as u64,
        flag: true,
        name: format!("row number {n}"),
        tags: vec!["red".into(), "green".into()],
        score: Some(0.5),
    }
}

/// The weight of many such values, as a part of the memory that they take.
fn told<T: Value>(name: &str, make: impl Fn(usize) -> T) -> (String, f64) {
    const COUNT: usize = 1000;
    let cache = Cache::builder()
        .l1_bytes(1 << 30)
        .build()
        .expect("good options");
    let keys: Vec<String> = (0..COUNT).map(|n| n.to_string()).collect();
    let before = HELD.load(Relaxed);
    for (n, key) in keys.iter().enumerate() {
        cache.set_blocking(key, make(n)).expect("no store");
    }
    let held = HELD.load(Relaxed) - before;
    assert_eq!(cache.stats().entries, COUNT);
    (name.to_owned(), cache.stats().bytes as f64 / held as f64)
}

// One test, since the count is of the whole process.
#[test]
fn the_weight_is_near_the_memory() {
    let ratios = [
        told("u8", |_| 1u8),
        told("text", |n| format!("{n}").repeat(40)),
        told("bytes", |_| vec![7u8; 1000]),
        told("numbers", |_| vec![1u64; 100]),
        told("floats", |_| vec![(0.5f64, 1u32); 100]),
        told("rows", |n| (0..20).map(|i| row(n + i)).collect::<Vec<_>>()),
        told("row", row),
        told("hash map", |n| {
            (0..50)
                .map(|i| (i + n as u64, i))
                .collect::<HashMap<u64, u64>>()
        }),
        told("hash map of text", |_| {
            (0..30)
                .map(|i| (format!("key {i}"), row(i)))
                .collect::<HashMap<_, _>>()
        }),
        told("tree", |_| {
            (0..30)
                .map(|i| (format!("key {i}"), i))
                .collect::<BTreeMap<String, usize>>()
        }),
        told(
            "json",
            |n| serde_json::json!({"id": n, "tags": ["a", "b"], "inner": {"x": 1.5, "y": null}}),
        ),
    ];
    println!("{ratios:#.2?}");
    for (name, ratio) in ratios {
        assert!((0.5..1.7).contains(&ratio), "{name}: {ratio:.2}");
    }
}
