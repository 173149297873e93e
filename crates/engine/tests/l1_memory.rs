//! The weight that L1 keeps within its capacity is the memory that it really holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cachekit_engine::l1::{Entry, L1};

/// The system's allocator, counting what is in use with what the allocator itself takes: a word
/// per allocation, in steps of 16 bytes, 32 at least.
struct Counting;

static IN_USE: AtomicI64 = AtomicI64::new(0);

fn chunk(size: usize) -> i64 {
    (size + 8).next_multiple_of(16).max(32) as i64
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

/// A value of `len` bytes, weighed as its maker should: with its allocation.
fn entry(len: usize) -> Arc<Entry<Box<[u8]>>> {
    Arc::new(Entry::new(vec![7; len].into(), chunk(len) as u64))
}

fn key(number: u64, len: usize) -> Vec<u8> {
    let mut key = number.to_be_bytes().to_vec();
    key.resize(len, b'k');
    key
}

/// The memory that L1 holds per byte of weight after `inserts` insertions.
fn held_per_weight(capacity: u64, inserts: u64, key_len: usize, value_len: usize) -> f64 {
    let before = IN_USE.load(Ordering::Relaxed);
    let l1 = L1::new(capacity, 1);
    for number in 0..inserts {
        drop(l1.insert(&key(number, key_len)[..], entry(value_len)));
    }
    let held = IN_USE.load(Ordering::Relaxed) - before;
    assert!(l1.weight() <= capacity);
    held as f64 / l1.weight() as f64
}

// One test: the counter is of the whole process.
#[test]
fn weight_is_memory() {
    for (key_len, value_len) in [
        (8, 8),
        (22, 1),
        (23, 1),
        (100, 50),
        (16, 1000),
        (16, 20_000),
    ] {
        let small = value_len <= 1000;
        let (some, many) = if small {
            (60_000, 400_000)
        } else {
            (2_000, 10_000)
        };
        let filling = held_per_weight(1 << 40, some, key_len, value_len);
        let capacity = if small { 12 << 20 } else { 40 << 20 };
        let full = held_per_weight(capacity, many, key_len, value_len);
        for ratio in [filling, full] {
            // Vectors and tables grow by doubling: at worst half of what is reserved is unused
            // (and untouched, so that it costs no resident memory).
            assert!(
                (0.9..1.45).contains(&ratio),
                "{ratio} with keys of {key_len}, values of {value_len}"
            );
        }
    }
}

#[test]
#[ignore = "measures resident memory: run it alone"]
fn weight_is_resident_memory() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        pages.expect("the second field counts pages") * 4096
    };
    for (key_len, value_len) in [(8, 8), (100, 50), (16, 1000)] {
        let before = resident();
        let l1 = L1::new(100 << 20, 1);
        for number in 0..2_000_000 {
            drop(l1.insert(&key(number, key_len)[..], entry(value_len)));
        }
        let ratio = (resident() - before) as f64 / l1.capacity() as f64;
        assert!(
            (0.9..1.1).contains(&ratio),
            "{ratio} with keys of {key_len}, values of {value_len}"
        );
        std::mem::forget(l1);
    }
}
