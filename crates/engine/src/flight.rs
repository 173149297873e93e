//! Single-flight: of all callers that miss one key at once, one runs the function.
//!
//! The first caller becomes the [`Leader`]; the others get a [`Waiter`], a plain future that any
//! executor, or a parked thread, can drive. A leader that is dropped without landing (cancelled,
//! panicked, or ended by an exception that concerns it alone) abandons the flight, and each waiter
//! joins anew, so that one of them leads.

use std::{
    collections::HashMap,
    future::Future,
    hash::BuildHasher,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use crate::waits::{Caller, FlightId, Node, Wait, Waits};

const SHARDS: usize = 16;

type Map<T> = HashMap<Box<[u8]>, T, foldhash::fast::RandomState>;

#[derive(Debug)]
struct Shard<T> {
    flights: Map<Arc<Flight<T>>>,
    /// How many flights of a key are still in the air although their results do not count.
    outdated: Map<u32>,
}

impl<T> Shard<T> {
    fn outdate(&mut self, key: &[u8], flight: &Flight<T>) {
        flight.outdated.store(true, Ordering::Relaxed);
        *self.outdated.entry(key.into()).or_default() += 1;
    }

    fn forget_outdated(&mut self, key: &[u8]) {
        if let Some(count) = self.outdated.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.outdated.remove(key);
            }
        }
    }
}

/// The flights in progress, by L1 key.
///
/// `T` is what a landed flight hands to its waiters. It is shared behind an `Arc` and is dropped by
/// whoever holds it last, never under a lock of this module.
#[derive(Debug)]
pub struct Flights<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    hasher: foldhash::fast::RandomState,
    waits: Arc<Waits>,
}

#[derive(Debug)]
struct Flight<T> {
    node: Arc<Node>,
    generation: u64,
    doomed: AtomicBool,
    /// Whether it is counted among those whose results do not count. Only under the shard's lock.
    outdated: AtomicBool,
    /// Whether it began while such a flight of its key was in the air.
    behind: bool,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
enum State<T> {
    Flying(Vec<(u64, Waker)>, u64),
    Landed(Option<Arc<T>>),
}

/// How a caller that missed goes on.
#[derive(Debug)]
pub enum Join<T> {
    /// It leads: it must fill the key and land.
    Lead(Leader<T>),
    /// It waits for the caller that leads.
    Wait(Waiter<T>),
    /// It must neither lead nor wait, since waiting would never end: it runs the function for
    /// itself and leaves the cache alone.
    Alone,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard {
                    flights: Map::default(),
                    outdated: Map::default(),
                })
            }),
            hasher: foldhash::fast::RandomState::default(),
            waits: Waits::of_process(),
        }
    }
}

impl<T> Flights<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard<T>> {
        // The low bits pick the bucket inside the map, so the shard takes high ones.
        &self.shards[(self.hasher.hash_one(key) >> 57) as usize % SHARDS]
    }

    /// Joins the flight for `key`, or starts it.
    ///
    /// `generation` is the scope's generation as the caller saw it before it looked for the value:
    /// a flight of an older generation is not joined but superseded.
    pub fn join(self: &Arc<Self>, key: &[u8], generation: u64, caller: Caller<'_>) -> Join<T> {
        let mut shard = self.shard(key).lock();
        let found = shard.flights.get(key).map(Arc::clone);
        let (joined, superseded) = match found {
            Some(flight) if flight.generation >= generation => (Some(flight), None),
            older => (None, older),
        };
        if let Some(flight) = joined {
            drop(shard);
            return match self.waits.enter(caller, &flight.node) {
                Some(wait) => Join::Wait(Waiter {
                    flight,
                    slot: None,
                    _wait: wait,
                }),
                None => Join::Alone,
            };
        }
        if let Some(older) = &superseded {
            shard.outdate(key, older);
        }
        let flight = Arc::new(Flight {
            node: Arc::new(Node {
                id: FlightId::next(),
                thread: caller.thread,
                landed: AtomicBool::new(false),
            }),
            generation,
            doomed: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
            behind: shard.outdated.contains_key(key),
            state: Mutex::new(State::Flying(Vec::new(), 0)),
        });
        let in_map = shard.flights.insert(key.into(), Arc::clone(&flight));
        drop(shard);
        drop((in_map, superseded));
        Join::Lead(Leader {
            flights: Arc::clone(self),
            key: key.into(),
            flight: Some(flight),
        })
    }

    /// Keeps the flight for `key`, if there is one, out of the cache: its callers get its result,
    /// later callers start anew.
    pub fn doom(&self, key: &[u8]) {
        let mut shard = self.shard(key).lock();
        let flight = shard.flights.remove(key);
        if let Some(flight) = &flight {
            flight.doomed.store(true, Ordering::Release);
            shard.outdate(key, flight);
        }
        drop(shard);
        drop(flight);
    }

    /// As [`doom`](Self::doom) for every flight; returns their keys.
    pub fn doom_all(&self) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            keys.extend(shard.lock().flights.keys().cloned());
        }
        for key in &keys {
            self.doom(key);
        }
        keys
    }

    /// How many flights are in progress.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().flights.len())
            .sum()
    }

    /// Whether no flight is in progress.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The caller that fills a key on behalf of all who wait for it.
///
/// Dropping it abandons the flight.
#[derive(Debug)]
pub struct Leader<T> {
    flights: Arc<Flights<T>>,
    key: Box<[u8]>,
    flight: Option<Arc<Flight<T>>>,
}

impl<T> Leader<T> {
    fn flight(&self) -> &Flight<T> {
        self.flight
            .as_ref()
            .expect("a leader has its flight until it lands, which consumes it")
    }

    /// The flight's identity, to be listed in [`Caller::leading`] by calls that this one makes.
    pub fn id(&self) -> FlightId {
        self.flight().node.id
    }

    /// The key that is being filled.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The scope's generation that the flight belongs to.
    pub fn generation(&self) -> u64 {
        self.flight().generation
    }

    /// Whether an invalidation of this key arrived meanwhile, so that the result must not be kept.
    pub fn is_doomed(&self) -> bool {
        self.flight().doomed.load(Ordering::Acquire)
    }

    /// Whether the flight began while another one of its key was in the air whose result does not
    /// count: that one may write it to the shared layer at any moment until it ends, so a value
    /// found there is not to be trusted.
    pub fn is_behind_outdated(&self) -> bool {
        self.flight().behind
    }

    /// Ends the flight and hands `result` to every waiter.
    pub fn land(mut self, result: T) {
        self.finish(Some(Arc::new(result)));
    }

    fn finish(&mut self, result: Option<Arc<T>>) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        {
            let mut shard = self.flights.shard(&self.key).lock();
            if shard
                .flights
                .get(&self.key)
                .is_some_and(|current| Arc::ptr_eq(current, &flight))
            {
                shard.flights.remove(&self.key);
            }
            if flight.outdated.load(Ordering::Relaxed) {
                shard.forget_outdated(&self.key);
            }
        }
        flight.node.landed.store(true, Ordering::Release);
        let before = std::mem::replace(&mut *flight.state.lock(), State::Landed(result));
        if let State::Flying(wakers, _) = before {
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        self.finish(None);
    }
}

/// A caller that waits for a flight: a future of the landed result.
///
/// `None` means that the flight was abandoned: join again.
#[derive(Debug)]
pub struct Waiter<T> {
    flight: Arc<Flight<T>>,
    slot: Option<u64>,
    _wait: Wait,
}

impl<T> Waiter<T> {
    /// The result, if the flight has ended: `Some(None)` when it was abandoned.
    pub fn ended(&self) -> Option<Option<Arc<T>>> {
        match &*self.flight.state.lock() {
            State::Landed(result) => Some(result.clone()),
            State::Flying(..) => None,
        }
    }
}

impl<T> Future for Waiter<T> {
    type Output = Option<Arc<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match &mut *this.flight.state.lock() {
            State::Landed(result) => Poll::Ready(result.clone()),
            State::Flying(wakers, next) => {
                let known = this
                    .slot
                    .and_then(|slot| wakers.iter_mut().find(|(s, _)| *s == slot));
                match known {
                    Some((_, waker)) => waker.clone_from(context.waker()),
                    None => {
                        this.slot = Some(*next);
                        wakers.push((*next, context.waker().clone()));
                        *next += 1;
                    }
                }
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let mut state = self.flight.state.lock();
        let gone = match &mut *state {
            State::Flying(wakers, _) => wakers
                .iter()
                .position(|(s, _)| *s == slot)
                .map(|at| wakers.swap_remove(at)),
            State::Landed(_) => None,
        };
        drop(state);
        drop(gone); // A waker's drop may run foreign code: never under the lock.
    }
}
