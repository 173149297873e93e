//! Requests to the shared layer, from threads and from tasks of any executor.
//!
//! A backend that panics counts as one that failed: its defect is not the caller's.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use cachekit_backends::{BackendError, ErrorKind};
use tokio::{sync::oneshot, task::AbortHandle};

use crate::{
    runtime,
    shared::{Locked, Reply, Request, Shared},
    store::Unavailable,
};

/// A request that the I/O thread performs: a future of its reply.
///
/// Dropped early, it leaves nothing behind: a wait ends, and a lock that is acquired for nobody is
/// released. What was to be stored is still stored.
pub(crate) struct Asking {
    shared: Shared,
    timeout: Duration,
    replied: oneshot::Receiver<Reply>,
    /// For requests that are of no use to anybody else.
    cancel: Option<AbortHandle>,
    unanswered: fn() -> Reply,
}

impl Asking {
    /// Sends `request`; `timeout` bounds the release of an orphaned lock.
    pub(crate) fn new(shared: &Shared, request: Request, timeout: Duration) -> Self {
        let cancellable = matches!(request, Request::AwaitRelease { .. } | Request::Get { .. });
        let unanswered = unanswered(&request);
        let (reply, replied) = oneshot::channel();
        let theirs = shared.clone();
        let task = runtime::handle().spawn(async move {
            let answer = theirs.perform_async(request).await;
            if let Err(orphan) = reply.send(answer) {
                release(&theirs, &orphan, timeout);
            }
        });
        Self {
            shared: shared.clone(),
            timeout,
            replied,
            cancel: cancellable.then(|| task.abort_handle()),
            unanswered,
        }
    }
}

impl Future for Asking {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let unanswered = self.unanswered;
        Pin::new(&mut self.replied)
            .poll(context)
            .map(|reply| reply.unwrap_or_else(|_| unanswered()))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(cancel) = &self.cancel {
            cancel.abort();
        }
        self.replied.close();
        if let Ok(orphan) = self.replied.try_recv() {
            release(&self.shared, &orphan, self.timeout);
        }
    }
}

/// Performs a request on the calling thread.
pub(crate) fn ask_blocking(shared: &Shared, request: Request) -> Reply {
    let unanswered = unanswered(&request);
    let asked = AssertUnwindSafe(|| shared.perform(request, || true));
    match catch_unwind(asked) {
        Ok(reply) => reply.expect("nothing asked to stop"),
        Err(_) => unanswered(),
    }
}

/// The reply of a backend that panicked instead of giving one.
fn unanswered(request: &Request) -> fn() -> Reply {
    match request {
        Request::Get { .. } => || Reply::Got(Err(no_answer())),
        Request::Lock { .. } => || Reply::Locked(Err(no_answer())),
        Request::AwaitRelease { .. } => || Reply::Released,
        Request::TakeLock { .. }
        | Request::Set { .. }
        | Request::Unlock { .. }
        | Request::Delete { .. } => || Reply::Done(Err(no_answer())),
    }
}

/// Releases a lock that was acquired for a caller who has gone.
fn release(shared: &Shared, reply: &Reply, timeout: Duration) {
    if let Reply::Locked(Ok(Locked::Acquired(..))) = reply {
        shared.unlock_behind(timeout);
    }
}

/// Runs an operation of the store on the calling thread.
pub(crate) fn here<R>(
    operation: impl FnOnce() -> Result<R, Unavailable>,
) -> Result<R, Unavailable> {
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|_| Err(no_answer()))
}

/// Runs a future on the I/O thread. It goes on there when the caller does not wait for its end.
pub(crate) async fn on_runtime<R: Send + 'static>(
    operation: impl Future<Output = Result<R, Unavailable>> + Send + 'static,
) -> Result<R, Unavailable> {
    match runtime::handle().spawn(operation).await {
        Ok(result) => result,
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> Unavailable {
    BackendError::new(
        ErrorKind::Unknown,
        "ask",
        "the backend panicked; that is a defect of the backend",
    )
    .into()
}
