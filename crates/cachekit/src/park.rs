//! Driving a future on the calling thread, with a deadline.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Why [`block_on`] came back without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The time was up.
    TimedOut,
    /// `pause` asked to stop.
    Interrupted,
}

/// Parks the calling thread until `future` is ready or `at_most` is over.
///
/// `pause` is called at least every `every` while the thread waits; it stops the wait by returning
/// false. Faces use it to look for signals.
///
/// # Errors
/// [`Stopped`] when there is no result; the future is dropped then.
pub fn block_on<F: Future>(
    future: F,
    at_most: Duration,
    every: Duration,
    mut pause: impl FnMut() -> bool,
) -> Result<F::Output, Stopped> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let deadline = Instant::now().checked_add(at_most);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        let left = deadline.map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            return Err(Stopped::TimedOut);
        }
        thread::park_timeout(left.min(every));
        if !pause() {
            return Err(Stopped::Interrupted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_future_needs_no_time() {
        let ready = block_on(async { 7 }, Duration::ZERO, Duration::ZERO, || false);
        assert_eq!(ready, Ok(7));
    }

    #[test]
    fn a_future_that_never_is_ends_at_the_deadline_or_by_the_caller() {
        let never = || std::future::pending::<()>();
        let tick = Duration::from_millis(1);
        assert_eq!(
            block_on(never(), 3 * tick, tick, || true),
            Err(Stopped::TimedOut)
        );
        assert_eq!(
            block_on(never(), Duration::MAX, tick, || false),
            Err(Stopped::Interrupted)
        );
    }
}
