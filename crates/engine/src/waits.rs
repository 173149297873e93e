//! The waits-for graph: who cannot go on before whom, so that no caller ever waits in a circle.
//!
//! Nodes are flights and OS threads. A flight needs the thread it is led on; a thread that blocks
//! needs the flight it blocks on; a flight whose function awaits another cached call needs that
//! call's flight. A caller that would close a circle runs its function itself instead of waiting.
//! Recursion, a blocking call on an event loop's own thread, and greenlets that share a thread are
//! all the same case here: a circle of length one or two.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

/// An OS thread's identity, never reused within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadKey(u64);

impl ThreadKey {
    /// The calling thread's key.
    pub fn current() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local!(static KEY: Cell<u64> = const { Cell::new(0) });
        KEY.with(|key| {
            if key.get() == 0 {
                key.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            Self(key.get())
        })
    }
}

/// A flight's identity, never reused within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlightId(u64);

impl FlightId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number behind the identity, for callers that keep it in a foreign type.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The identity behind a number that [`get`](Self::get) gave.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// Who asks: what a wait of this caller would hold up.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The thread that the caller is bound to: its own for blocking callers, its event loop's for
    /// tasks; `None` for a task that any worker thread may resume.
    pub thread: Option<ThreadKey>,
    /// Whether waiting blocks that thread.
    pub blocking: bool,
    /// The flights that the caller's own context leads, outermost first: they cannot land before
    /// the caller goes on.
    pub leading: &'a [FlightId],
}

/// What the graph knows of one flight.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: FlightId,
    pub(crate) thread: Option<ThreadKey>,
    pub(crate) landed: AtomicBool,
}

#[derive(Debug, Default)]
struct Edges {
    flights: HashMap<FlightId, Vec<Arc<Node>>>,
    threads: HashMap<ThreadKey, Vec<Arc<Node>>>,
}

/// The waits in progress in this process, over every function and namespace.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    edges: Mutex<Edges>,
}

impl Waits {
    /// The graph of this process: one for all functions, since circles run through several. A forked
    /// child has its own, as a thread of its parent may have held the lock at the fork.
    pub(crate) fn of_process() -> Arc<Self> {
        static CURRENT: ArcSwapOption<(u32, Arc<Waits>)> = ArcSwapOption::const_empty();
        let pid = std::process::id();
        let fresh = Arc::new((pid, Arc::default()));
        CURRENT.rcu(|seen| match seen {
            Some(seen) if seen.0 == pid => Arc::clone(seen),
            _ => Arc::clone(&fresh),
        });
        let current = CURRENT.load();
        let (_, waits) = &**current
            .as_ref()
            .expect("set just before, and never taken out");
        Arc::clone(waits)
    }

    /// Records that `caller` waits for `target`, unless that closes a circle (`None`).
    pub(crate) fn enter(self: &Arc<Self>, caller: Caller<'_>, target: &Arc<Node>) -> Option<Wait> {
        let blocks = caller.thread.filter(|_| caller.blocking);
        if blocks.is_none() && caller.leading.is_empty() {
            return Some(Wait { held: None }); // Nobody can be waiting for this caller.
        }
        let mut edges = self.edges.lock();
        if edges.reaches(target, blocks, caller.leading) {
            return None;
        }
        for &leading in caller.leading {
            edges
                .flights
                .entry(leading)
                .or_default()
                .push(Arc::clone(target));
        }
        if let Some(thread) = blocks {
            edges
                .threads
                .entry(thread)
                .or_default()
                .push(Arc::clone(target));
        }
        Some(Wait {
            held: Some(Held {
                graph: Arc::clone(self),
                target: Arc::clone(target),
                thread: blocks,
                leading: caller.leading.into(),
            }),
        })
    }
}

impl Edges {
    /// Whether `from` cannot land before the thread or one of the flights does.
    fn reaches(&self, from: &Arc<Node>, thread: Option<ThreadKey>, flights: &[FlightId]) -> bool {
        let mut open = vec![from];
        let mut seen = Vec::new();
        while let Some(node) = open.pop() {
            if seen.contains(&node.id) || node.landed.load(Ordering::Acquire) {
                continue;
            }
            if flights.contains(&node.id) || (thread.is_some() && node.thread == thread) {
                return true;
            }
            seen.push(node.id);
            open.extend(self.flights.get(&node.id).into_iter().flatten());
            open.extend(
                node.thread
                    .and_then(|t| self.threads.get(&t))
                    .into_iter()
                    .flatten(),
            );
        }
        false
    }
}

#[derive(Debug)]
struct Held {
    graph: Arc<Waits>,
    target: Arc<Node>,
    thread: Option<ThreadKey>,
    leading: Box<[FlightId]>,
}

/// A wait in progress; dropping it takes its edges out of the graph.
#[derive(Debug)]
pub(crate) struct Wait {
    held: Option<Held>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(held) = &self.held else { return };
        let mut edges = held.graph.edges.lock();
        for leading in &held.leading {
            remove_edge(&mut edges.flights, leading, &held.target);
        }
        if let Some(thread) = &held.thread {
            remove_edge(&mut edges.threads, thread, &held.target);
        }
    }
}

fn remove_edge<K: std::hash::Hash + Eq>(
    edges: &mut HashMap<K, Vec<Arc<Node>>>,
    from: &K,
    to: &Arc<Node>,
) {
    if let Some(targets) = edges.get_mut(from) {
        if let Some(at) = targets.iter().position(|node| Arc::ptr_eq(node, to)) {
            targets.swap_remove(at);
        }
        if targets.is_empty() {
            edges.remove(from);
        }
    }
}
