//! What L1 costs: nanoseconds per hit and per insertion, full and not, and bytes per entry.
//!
//! `cargo run --release -p cachekit-engine --example l1_bench`
#![allow(clippy::print_stdout, reason = "a benchmark prints its numbers")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cachekit_engine::l1::{Entry, Key, L1};

/// The system's allocator, counting what is in use as glibc rounds it.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

fn chunk(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(chunk(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(chunk(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second field counts pages") * 4096
}

fn key(number: u64) -> [u8; 10] {
    let mut key = *b"k\0\0\0\0\0\0\0\0z";
    key[1..9].copy_from_slice(&number.to_be_bytes());
    key
}

fn entry(number: u64) -> Arc<Entry<u64>> {
    Arc::new(Entry::new(number, 0))
}

/// The best of several runs of `work` over `count` operations, in nanoseconds per operation.
fn best(count: u64, mut work: impl FnMut(u64)) -> f64 {
    let run = |_| {
        let start = Instant::now();
        for number in 0..count {
            work(number);
        }
        start.elapsed().as_nanos() as f64 / count as f64
    };
    (0..5).map(run).fold(f64::INFINITY, f64::min)
}

fn fill(l1: &L1<u64>, from: u64, count: u64) -> f64 {
    let start = Instant::now();
    for number in from..from + count {
        drop(l1.insert(Key::from(&key(number)[..]), entry(number)));
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

fn main() {
    const ENTRIES: u64 = 100_000;
    let l1 = L1::new(1 << 30, 1);
    let (heap, rss) = (IN_USE.load(Ordering::Relaxed), resident());
    let not_full = fill(&l1, 0, ENTRIES);
    let heap = IN_USE.load(Ordering::Relaxed) - heap;
    let rss = resident().saturating_sub(rss);
    let per_entry = |bytes: usize| bytes as f64 / ENTRIES as f64;
    println!(
        "size_of Entry<u64>            {:6}",
        size_of::<Entry<u64>>()
    );
    println!(
        "weight per entry              {:6.1} B",
        l1.weight() as f64 / ENTRIES as f64
    );
    println!("heap per entry                {:6.1} B", per_entry(heap));
    println!("RSS per entry                 {:6.1} B", per_entry(rss));
    println!("insert, not full, growing     {not_full:6.1} ns");

    let one = key(42);
    println!(
        "get, one key                  {:6.1} ns",
        best(2_000_000, |_| {
            black_box(l1.get(black_box(&one)));
        })
    );
    println!(
        "get, absent key               {:6.1} ns",
        best(2_000_000, |number| {
            black_box(l1.get(&key(number | 1 << 40)));
        })
    );
    println!(
        "get, 1000 keys                {:6.1} ns",
        best(2_000_000, |number| {
            black_box(l1.get(&key(number % 1000)));
        })
    );
    println!(
        "get, 100 k keys               {:6.1} ns",
        best(2_000_000, |number| {
            black_box(l1.get(&key(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % ENTRIES)));
        })
    );
    println!(
        "replace, 1000 keys            {:6.1} ns",
        best(500_000, |number| {
            drop(l1.insert(Key::from(&key(number % 1000)[..]), entry(number)));
        })
    );
    println!(
        "remove and insert             {:6.1} ns",
        best(500_000, |number| {
            drop(l1.remove(&key(number % ENTRIES)));
            drop(l1.insert(Key::from(&key(number % ENTRIES)[..]), entry(number)));
        })
    );
    let sweep = Instant::now();
    black_box(l1.remove_where(|_, _| false));
    println!(
        "visit an entry                {:6.1} ns",
        sweep.elapsed().as_nanos() as f64 / ENTRIES as f64
    );

    let weight = l1.weight() / ENTRIES;
    let full = L1::new(weight * ENTRIES, 1);
    fill(&full, 0, 2 * ENTRIES);
    println!("entries when full             {:6}", full.len());
    println!(
        "insert, full                  {:6.1} ns",
        fill(&full, 2 * ENTRIES, 10 * ENTRIES)
    );

    for (threads, shards) in [(1, 1), (8, 1), (1, 16), (8, 16)] {
        let rate = hits_per_second(threads, shards);
        println!(
            "{threads} threads, {shards:2} shards         {:6.1} M hits/s",
            rate / 1e6
        );
    }
}

/// All threads together, each over its own sequence of 100 k keys.
fn hits_per_second(threads: u64, shards: usize) -> f64 {
    const HITS: u64 = 2_000_000;
    let l1 = L1::new(1 << 30, shards);
    fill(&l1, 0, 100_000);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let l1 = &l1;
            scope.spawn(move || {
                for number in 0..HITS / threads {
                    let spread = (number + thread).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    black_box(l1.get(&key(spread % 100_000)));
                }
            });
        }
    });
    HITS as f64 / start.elapsed().as_secs_f64()
}
