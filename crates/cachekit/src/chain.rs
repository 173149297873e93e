//! Which flights the code that runs now is part of.
//!
//! A function that is called while it leads a flight, and calls a cached function in turn, must not
//! wait for its own flight. The flights that lead to the current code are kept per thread, and for
//! asynchronous code put there for each poll, so that they follow a future from thread to thread.
//! A task that is spawned from inside begins a chain of its own.

use std::{cell::RefCell, future::Future, mem, pin::pin};

use cachekit_engine::waits::{Caller, FlightId, ThreadKey};

thread_local!(static LEADING: RefCell<Vec<FlightId>> = const { RefCell::new(Vec::new()) });

/// The flights that the current code is part of, outermost first.
pub(crate) fn current() -> Vec<FlightId> {
    LEADING.with_borrow(Vec::clone)
}

/// The current thread or task as a caller. A task counts as bound to the thread that polls it: on
/// one-threaded executors it is, and on others a blocking call beside it then runs by itself.
pub(crate) fn caller(blocking: bool, leading: &[FlightId]) -> Caller<'_> {
    Caller {
        thread: Some(ThreadKey::current()),
        blocking,
        leading,
    }
}

/// The current chain with one more flight at its end.
fn extended(flight: FlightId) -> Vec<FlightId> {
    let mut chain = current();
    chain.push(flight);
    chain
}

/// Puts a chain in place of the thread's until it is dropped.
struct Entered<'a>(&'a mut Vec<FlightId>);

impl<'a> Entered<'a> {
    fn enter(chain: &'a mut Vec<FlightId>) -> Self {
        LEADING.with_borrow_mut(|current| mem::swap(current, chain));
        Self(chain)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        LEADING.with_borrow_mut(|current| mem::swap(current, self.0));
    }
}

/// Calls `run` as part of `flight`.
pub(crate) fn within<R>(flight: FlightId, run: impl FnOnce() -> R) -> R {
    let mut chain = extended(flight);
    let _entered = Entered::enter(&mut chain);
    run()
}

/// Polls what `make` makes as part of `flight`.
pub(crate) async fn within_async<F: Future>(
    flight: FlightId,
    make: impl FnOnce() -> F,
) -> F::Output {
    let mut chain = extended(flight);
    let mut future = pin!(async move { make().await });
    std::future::poll_fn(|context| {
        let _entered = Entered::enter(&mut chain);
        future.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        time::Duration,
    };

    use super::*;
    use crate::park::block_on;

    const A: u64 = 1;
    const B: u64 = 2;

    fn id(number: u64) -> FlightId {
        FlightId::from_number(number)
    }

    #[test]
    fn the_chain_is_there_during_the_call_and_each_poll_only() {
        assert!(current().is_empty());
        within(id(A), || {
            assert_eq!(current(), [id(A)]);
            within(id(B), || assert_eq!(current(), [id(A), id(B)]));
            assert_eq!(current(), [id(A)]);
        });
        let mut polled = 0;
        let future = within_async(id(A), || {
            assert_eq!(current(), [id(A)]);
            std::future::poll_fn(|context| {
                assert_eq!(current(), [id(A)]);
                context.waker().wake_by_ref();
                polled += 1;
                if polled < 3 {
                    std::task::Poll::Pending
                } else {
                    std::task::Poll::Ready(())
                }
            })
        });
        let pause = || {
            assert!(current().is_empty());
            true
        };
        assert!(block_on(future, Duration::MAX, Duration::from_secs(1), pause).is_ok());
        assert_eq!(polled, 3);
        assert!(current().is_empty());
    }

    #[test]
    fn a_panic_puts_the_outer_chain_back() {
        let panicked = catch_unwind(AssertUnwindSafe(|| within(id(A), || panic!("on purpose"))));
        assert!(panicked.is_err());
        assert!(current().is_empty());
    }
}
