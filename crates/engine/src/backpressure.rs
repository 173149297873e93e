//! Backpressure: a bound on the operations that one backend is asked for at once.
//!
//! A caller enters with a [`Pass`]. When all are out it may wait for one in a bounded queue, first
//! come, first served; threads and tasks wait in the same queue, through [`Entering`], which knows
//! neither a runtime nor a clock. Who has waited for long enough drops it.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

/// How many may be inside and how many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackpressureConfig {
    /// Passes that are out at once; 0 counts as 1.
    pub max_concurrent: u32,
    /// Callers that wait at once; 0 = nobody waits.
    pub queue_size: u32,
    /// How long a caller should wait; for the caller to keep.
    pub timeout: Duration,
}

impl Default for BackpressureConfig {
    fn default() -> Self {
        Self {
            max_concurrent: 100,
            queue_size: 1000,
            timeout: Duration::from_millis(100),
        }
    }
}

/// Backpressure as health checks show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackpressureSnapshot {
    /// Passes that may be out at once.
    pub max_concurrent: u32,
    /// Passes that are out.
    pub current: u32,
    /// Callers that may wait at once.
    pub queue_size: u32,
    /// Callers that wait.
    pub waiting: u32,
    /// Callers turned away since the start: no pass was free, and no place in the queue.
    pub rejected: u64,
    /// Callers that gave up waiting since the start, by timeout or cancellation.
    pub abandoned: u64,
}

/// A bounded number of passes with a bounded queue.
#[derive(Debug)]
pub struct Backpressure {
    config: BackpressureConfig,
    // `Count`: passes that are out and callers that wait. The second changes under the lock alone.
    count: AtomicU64,
    rejected: AtomicU64,
    abandoned: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    // In order of arrival. Who was given a pass is no longer here.
    waiting: BTreeMap<u64, Waker>,
}

/// `Backpressure::count` unpacked.
#[derive(Clone, Copy)]
struct Count {
    current: u32,
    waiting: u32,
}

impl Count {
    const fn unpack(word: u64) -> Self {
        Self {
            current: word as u32,
            waiting: (word >> 32) as u32,
        }
    }

    const fn pack(self) -> u64 {
        (self.waiting as u64) << 32 | self.current as u64
    }
}

/// The right to be inside; dropping it lets the next one in.
#[derive(Debug)]
#[must_use = "dropping it leaves at once"]
pub struct Pass<B: Deref<Target = Backpressure> = Arc<Backpressure>> {
    of: B,
}

/// No pass was free and the queue was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{max_concurrent} operations under way and {queue_size} waiting: the backend is too slow for the load"
)]
pub struct QueueFull {
    /// Passes that were out.
    pub max_concurrent: u32,
    /// Callers that waited.
    pub queue_size: u32,
}

/// A place in the queue: a future of a [`Pass`].
///
/// Dropping it leaves the queue as if it had never been there; a pass that it was given meanwhile
/// goes to the next one.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Entering<B: Deref<Target = Backpressure> + Clone + Unpin = Arc<Backpressure>> {
    of: B,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Outside,
    Queued(u64),
    Done,
}

impl Backpressure {
    /// Everyone outside.
    #[must_use]
    pub fn new(config: BackpressureConfig) -> Self {
        let config = BackpressureConfig {
            max_concurrent: config.max_concurrent.max(1),
            ..config
        };
        Self {
            config,
            count: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            queue: Mutex::default(),
        }
    }

    /// The configuration, with a `max_concurrent` of zero replaced.
    pub const fn config(&self) -> &BackpressureConfig {
        &self.config
    }

    /// A pass if one is free and nobody waits for it.
    #[inline]
    pub fn try_enter(&self) -> Option<Pass<&Self>> {
        self.take().then(|| Pass { of: self })
    }

    /// As [`Backpressure::try_enter`], with a pass that may outlive the borrow.
    pub fn try_enter_owned(self: &Arc<Self>) -> Option<Pass> {
        self.take().then(|| Pass {
            of: Arc::clone(self),
        })
    }

    /// A pass, as soon as it is this caller's turn; [`QueueFull`] at once if it may not even wait.
    pub const fn enter(&self) -> Entering<&Self> {
        Entering {
            of: self,
            place: Place::Outside,
        }
    }

    /// As [`Backpressure::enter`], with a future that may outlive the borrow.
    pub fn enter_owned(self: &Arc<Self>) -> Entering {
        Entering {
            of: Arc::clone(self),
            place: Place::Outside,
        }
    }

    /// All there is to see, at one moment.
    pub fn snapshot(&self) -> BackpressureSnapshot {
        let count = Count::unpack(self.count.load(Ordering::Relaxed));
        BackpressureSnapshot {
            max_concurrent: self.config.max_concurrent,
            current: count.current,
            queue_size: self.config.queue_size,
            waiting: count.waiting,
            rejected: self.rejected.load(Ordering::Relaxed),
            abandoned: self.abandoned.load(Ordering::Relaxed),
        }
    }

    fn update(&self, change: impl Fn(Count) -> Option<Count>) -> bool {
        let change = |word| change(Count::unpack(word)).map(Count::pack);
        self.count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
            .is_ok()
    }

    /// Takes a free pass that nobody waits for.
    #[inline]
    fn take(&self) -> bool {
        self.update(|Count { current, waiting }| {
            let free = waiting == 0 && current < self.config.max_concurrent;
            free.then_some(Count {
                current: current + 1,
                waiting,
            })
        })
    }

    /// Brings a pass back: to the one who has waited longest, if anyone has.
    fn release(&self) {
        let leave = |Count { current, waiting }| {
            (waiting == 0).then(|| Count {
                current: current - 1,
                waiting,
            })
        };
        if self.update(leave) {
            return;
        }
        let mut queue = self.queue.lock();
        let Some((_, waker)) = queue.waiting.pop_first() else {
            // The last one who waited has left before the lock was ours; nobody comes while it is.
            self.update(|Count { current, waiting }| {
                Some(Count {
                    current: current - 1,
                    waiting,
                })
            });
            return;
        };
        // The pass stays out and changes hands.
        self.update(|Count { current, waiting }| {
            Some(Count {
                current,
                waiting: waiting - 1,
            })
        });
        drop(queue);
        waker.wake();
    }

    fn poll(&self, place: &mut Place, context: &Context<'_>) -> Poll<Result<(), QueueFull>> {
        // Clones and drops of wakers run foreign code: not under the lock.
        let mut waker = context.waker().clone();
        let mut queue = self.queue.lock();
        match *place {
            Place::Outside => {
                if self.take() {
                    *place = Place::Done;
                    return Poll::Ready(Ok(()));
                }
                let join = |Count { current, waiting }| {
                    (current >= self.config.max_concurrent && waiting < self.config.queue_size)
                        .then_some(Count {
                            current,
                            waiting: waiting + 1,
                        })
                };
                // A pass that came back in between is ours: nobody can queue while we hold the lock.
                while !self.update(join) {
                    if self.take() {
                        *place = Place::Done;
                        return Poll::Ready(Ok(()));
                    }
                    let seen = self.snapshot();
                    if seen.waiting >= self.config.queue_size {
                        *place = Place::Done;
                        self.rejected.fetch_add(1, Ordering::Relaxed);
                        return Poll::Ready(Err(QueueFull {
                            max_concurrent: self.config.max_concurrent,
                            queue_size: self.config.queue_size,
                        }));
                    }
                }
                let number = queue.next;
                queue.next += 1;
                queue.waiting.insert(number, waker);
                *place = Place::Queued(number);
                Poll::Pending
            }
            Place::Queued(number) => match queue.waiting.get_mut(&number) {
                Some(known) => {
                    std::mem::swap(known, &mut waker);
                    drop(queue);
                    Poll::Pending
                }
                None => {
                    *place = Place::Done;
                    Poll::Ready(Ok(()))
                }
            },
            Place::Done => panic!("polled after it was ready"),
        }
    }

    /// Leaves the queue, or passes on what it was given there.
    #[cold]
    fn abandon(&self, number: u64) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        let Some(waker) = queue.waiting.remove(&number) else {
            drop(queue);
            self.release();
            return;
        };
        self.update(|Count { current, waiting }| {
            Some(Count {
                current,
                waiting: waiting - 1,
            })
        });
        drop(queue);
        drop(waker);
    }
}

impl<B: Deref<Target = Backpressure>> Drop for Pass<B> {
    #[inline]
    fn drop(&mut self) {
        self.of.release();
    }
}

impl<B: Deref<Target = Backpressure> + Clone + Unpin> Future for Entering<B> {
    type Output = Result<Pass<B>, QueueFull>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let of = this.of.clone();
        this.of
            .poll(&mut this.place, context)
            .map_ok(|()| Pass { of })
    }
}

impl<B: Deref<Target = Backpressure> + Clone + Unpin> Drop for Entering<B> {
    fn drop(&mut self) {
        if let Place::Queued(number) = self.place {
            self.of.abandon(number);
        }
    }
}

#[cfg(test)]
mod tests;
