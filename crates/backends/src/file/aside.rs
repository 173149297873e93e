//! What may wait for a disk or for other processes, done on other threads than the event loop's.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use super::large::CHUNK;
use super::live::Live;
use super::store::Store;
use super::turn::Content;
use super::{FileBackend, Shared};
use crate::backend::{Backend, Found};
use crate::deadline::after;
use crate::error::{BackendError, ErrorKind, Result};

/// From this length on, in bytes, a value is long: it is not copied as a whole to be stored.
pub(super) const LONG: usize = 256 << 10;
/// The distance at which memory is touched so that all of it is read from the disk.
const PAGE: usize = 4 << 10;

impl Shared {
    /// Does `work`, which takes a turn, on a thread where it may block, behind what others of this process's
    /// tasks want done. What is not begun in time is not done, what does not end in time is left to that thread.
    pub(super) async fn in_line<R: Send + 'static>(
        &self,
        operation: &'static str,
        deadline: Instant,
        work: impl FnOnce(&FileBackend, Duration) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let backend = FileBackend(self.clone());
        let (done, outcome) = oneshot::channel();
        let _place = self.0.line().join(move || {
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&backend, left)));
            // Nobody listens any more when the time is up.
            let _ = done.send(outcome);
        });
        match timeout_at(deadline.into(), outcome).await {
            Ok(Ok(Ok(done))) => done,
            Ok(Ok(Err(panic))) => resume_unwind(panic),
            Ok(Err(_)) => Err(ended(operation)),
            Err(_) => Err(late(operation)),
        }
    }

    /// Does `work` on a thread where it may block, and tells it how much time is left. What does not end in
    /// time is left to that thread.
    pub(super) async fn aside<R: Send + 'static>(
        &self,
        operation: &'static str,
        deadline: Instant,
        work: impl FnOnce(&FileBackend, Duration) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let backend = FileBackend(self.clone());
        let work = move || {
            match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => Err(late(operation)), // Nobody waits for it any more.
                left => work(&backend, left),
            }
        };
        match timeout_at(deadline.into(), spawn_blocking(work)).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            Ok(Err(_)) => Err(ended(operation)),
            Err(_) => Err(late(operation)),
        }
    }

    /// The open files.
    pub(super) async fn opened(&self) -> Result<Arc<Live>> {
        match self.0.opened() {
            Some(live) => Ok(live),
            None => {
                let patience = after(self.0.config.lock_timeout);
                self.aside("open", patience, |backend, _| backend.0.live())
                    .await
            }
        }
    }

    /// [`Backend::get`] where it may wait.
    pub(super) async fn get_aside(
        &self,
        key: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<Option<Found>> {
        let key = key.to_owned();
        let read = move |backend: &FileBackend, left| {
            let found = Backend::get(backend, &key, want_ttl, left)?;
            // It may be mapped, and is read from the disk here and not by whoever looks at it.
            for page in found.iter().flat_map(|found| found.value.chunks(PAGE)) {
                black_box(page[0]);
            }
            Ok(found)
        };
        self.aside("get", after(timeout), read).await
    }

    /// A value on its way to another thread.
    pub(super) async fn carried(
        &self,
        key: &str,
        value: &[u8],
        deadline: Instant,
    ) -> Result<Carried> {
        self.0.admit(key, value)?;
        Ok(if value.len() < LONG {
            Carried::Short(Bytes::copy_from_slice(value))
        } else {
            Carried::Long(Some(self.written(key, value, deadline).await?))
        })
    }

    /// A long value ready to be stored in a turn.
    async fn written(
        &self,
        key: &str,
        value: &[u8],
        deadline: Instant,
    ) -> Result<Content<'static>> {
        let (key, len) = (key.to_owned(), value.len() as u64);
        let begin = move |backend: &FileBackend, _| backend.0.draft(&key, len);
        let mut draft = self.aside("set", deadline, begin).await?;
        // One part is on its way at a time, so that a value is not held twice.
        let mut copy = Vec::with_capacity(CHUNK.min(value.len()));
        for part in value.chunks(CHUNK) {
            copy.clear();
            copy.extend_from_slice(part);
            let write = move |backend: &FileBackend, _| match draft.write(&copy) {
                Ok(()) => Ok((draft, copy)),
                Err(error) => Err(backend.0.failed("set", error)),
            };
            (draft, copy) = self.aside("set", deadline, write).await?;
        }
        let finish = move |backend: &FileBackend, _| backend.0.finished(draft);
        self.aside("set", deadline, finish).await
    }
}

/// A value on its way to another thread.
pub(super) enum Carried {
    /// All of it.
    Short(Bytes),
    /// What is written already, until it is taken.
    Long(Option<Content<'static>>),
}

impl Carried {
    /// The value ready to be stored in a turn, once.
    pub(super) fn content(
        &mut self,
        store: &Store,
        key: &str,
        timeout: Duration,
    ) -> Result<Content<'_>> {
        match self {
            Self::Short(value) => store.content(key, value, timeout),
            Self::Long(content) => Ok(content.take().expect("a value is stored once")),
        }
    }
}

fn ended(operation: &'static str) -> BackendError {
    let message = "the runtime ended before the disk answered";
    BackendError::new(ErrorKind::Transient, operation, message)
}

fn late(operation: &'static str) -> BackendError {
    let message = "the time was up before the disk had answered, or other writers let this one";
    BackendError::new(ErrorKind::Timeout, operation, message)
}
