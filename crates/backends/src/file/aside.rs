//! Long values, written and read on other threads than the event loop's, so that a slow disk keeps only
//! those waiting who want something of it.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use super::large::CHUNK;
use super::layout::Slot;
use super::live::Reading;
use super::store::Store;
use super::turn::Content;
use crate::deadline::after;
use crate::error::{BackendError, ErrorKind, Result};

/// From this length on, in bytes, a value is long: handing it to another thread costs little of what the
/// disk takes for it.
pub(super) const LONG: u64 = 256 << 10;
/// The distance at which memory is touched so that all of it is read from the disk.
const PAGE: usize = 4 << 10;

impl Store {
    /// As [`content`](Self::content), without keeping other tasks from running.
    pub(super) async fn content_async<'a>(
        &self,
        key: &str,
        value: &'a [u8],
        timeout: Duration,
    ) -> Result<Content<'a>> {
        if (value.len() as u64) < LONG {
            return self.content(key, value, timeout);
        }
        let mut draft = self.draft(key, value)?;
        let deadline = after(timeout);
        // One part is on its way at a time, so that a value is not held twice.
        let mut copy = Vec::with_capacity(CHUNK.min(value.len()));
        for part in value.chunks(CHUNK) {
            copy.clear();
            copy.extend_from_slice(part);
            let write = move || draft.write(&copy).map(|()| (draft, copy));
            (draft, copy) = self.aside("set", deadline, write).await?;
        }
        self.finished(draft)
    }

    /// As [`read`](Self::read), without keeping other tasks from running.
    pub(super) async fn read_async(
        &self,
        key: &str,
        timeout: Duration,
    ) -> Result<Option<Option<(Slot, Bytes)>>> {
        let live = match self.read_short(key)? {
            Reading::Done(found) => return Ok(Some(found)),
            Reading::Unsteady => return Ok(None),
            Reading::Long(live) => live,
        };
        let (key, now) = (key.to_owned(), self.now());
        let read = move || match live.read(&key, now) {
            Ok(found) => {
                // It may be mapped, and is read from the disk here and not by whoever looks at it.
                for page in found.iter().flat_map(|(_, value)| value.chunks(PAGE)) {
                    black_box(page[0]);
                }
                Ok(Some(found))
            }
            Err(Some(error)) => Err(error),
            Err(None) => Ok(None),
        };
        self.aside("get", after(timeout), read).await
    }

    /// Does `work` on a thread where it may block. What does not end in time is left to that thread.
    async fn aside<R: Send + 'static>(
        &self,
        operation: &'static str,
        deadline: Instant,
        work: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> Result<R> {
        match timeout_at(deadline.into(), spawn_blocking(work)).await {
            Ok(Ok(done)) => done.map_err(|error| self.failed(operation, error)),
            Ok(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Ok(Err(_)) => Err(BackendError::new(
                ErrorKind::Transient,
                operation,
                "the runtime ended before the disk answered",
            )),
            Err(_) => Err(BackendError::new(
                ErrorKind::Timeout,
                operation,
                "the time was up before the disk had answered",
            )),
        }
    }
}
