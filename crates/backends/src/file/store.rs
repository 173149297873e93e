//! The store of one process: opened at first use, opened again when it was removed or the process forked.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::task::spawn_blocking;

use super::cached::Source;
use super::config::FileConfig;
use super::error::failed;
use super::evict::Limits;
use super::large::{CHUNK, Draft};
use super::layout::{Kind, Record, SPAN, Slot};
use super::line::Line;
use super::live::Live;
use super::turn::{Content, Entry, Turn};
use crate::backend::{Found, Remaining};
use crate::deadline::after;
use crate::error::{BackendError, ErrorKind, Result};
use crate::process::PerProcess;

/// Waits between attempts to get a turn begin here, and double up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);
/// How many times a turn is asked for before the first pause: a turn takes microseconds.
const EAGER: u32 = 20;

/// The operations, in the terms of both faces.
pub(super) struct Store {
    pub(super) config: FileConfig,
    live: PerProcess<RwLock<Option<Arc<Live>>>>,
    line: PerProcess<Arc<Line>>,
}

/// Where a write has got to that may wait for its turn.
pub(super) struct Waiting {
    operation: &'static str,
    started: Instant,
    limit: Duration,
    attempts: u32,
}

impl Waiting {
    pub(super) fn new(store: &Store, operation: &'static str, timeout: Duration) -> Self {
        Self {
            operation,
            started: Instant::now(),
            limit: timeout.min(store.config.lock_timeout),
            attempts: 0,
        }
    }

    /// How long to wait before the next attempt.
    pub(super) fn pause(&mut self) -> Result<Duration> {
        if self.started.elapsed() >= self.limit {
            let limit = self.limit;
            return Err(BackendError::new(
                ErrorKind::Timeout,
                self.operation,
                format!("other writers kept the store busy for {limit:?}"),
            ));
        }
        self.attempts += 1;
        let Some(late) = self.attempts.checked_sub(EAGER) else {
            return Ok(Duration::ZERO);
        };
        Ok((FIRST_PAUSE * (1 << late.min(10))).min(LONGEST_PAUSE))
    }
}

impl Store {
    pub(super) fn new(config: FileConfig) -> Self {
        Self {
            config,
            live: PerProcess::new(RwLock::new(None)),
            line: PerProcess::new(Arc::default()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.config.directory
    }

    pub(super) fn now(&self) -> u64 {
        (self.config.clock)()
    }

    pub(super) fn failed(&self, operation: &'static str, error: io::Error) -> BackendError {
        failed(operation, self.path(), error)
    }

    /// The open files, if they are.
    pub(super) fn opened(&self) -> Option<Arc<Live>> {
        // Who is opening them holds the lock meanwhile.
        self.live.get(|| RwLock::new(None)).try_read()?.clone()
    }

    /// Where this process's tasks line up for a turn.
    pub(super) fn line(&self) -> &Arc<Line> {
        self.line.get(Arc::default)
    }

    /// The open files.
    pub(super) fn live(&self) -> Result<Arc<Live>> {
        let place = self.live.get(|| RwLock::new(None));
        if let Some(live) = &*place.read() {
            return Ok(Arc::clone(live));
        }
        let mut place = place.write();
        if let Some(live) = &*place {
            return Ok(Arc::clone(live));
        }
        let live = Arc::new(Live::open(&self.config)?);
        *place = Some(Arc::clone(&live));
        Ok(live)
    }

    /// These files belong to a store that was removed.
    fn forget(&self, live: &Arc<Live>) {
        let mut place = self.live.get(|| RwLock::new(None)).write();
        if place.as_ref().is_some_and(|known| Arc::ptr_eq(known, live)) {
            *place = None;
        }
    }

    /// Does `body` if it is our turn now; gives it back otherwise.
    pub(super) fn attempt<R, F>(
        &self,
        operation: &'static str,
        body: F,
    ) -> Result<std::result::Result<R, F>>
    where
        F: FnOnce(&mut Turn<'_>) -> io::Result<R>,
    {
        let live = self.live()?;
        let limits = Limits {
            bytes: self.config.max_bytes,
            entries: self.config.max_entries,
        };
        let entry = Turn::take(&live, limits, self.now());
        match entry.map_err(|error| self.failed(operation, error))? {
            Entry::Turn(mut turn) => {
                let done = body(&mut turn).and_then(|done| turn.commit().map(|()| done));
                Ok(Ok(done.map_err(|error| self.failed(operation, error))?))
            }
            Entry::Busy => Ok(Err(body)),
            Entry::Gone => {
                self.forget(&live);
                Ok(Err(body))
            }
        }
    }

    /// Waits for our turn, and does `body`.
    pub(super) fn in_turn<R>(
        &self,
        operation: &'static str,
        timeout: Duration,
        mut body: impl FnOnce(&mut Turn<'_>) -> io::Result<R>,
    ) -> Result<R> {
        let mut waiting = Waiting::new(self, operation, timeout);
        loop {
            body = match self.attempt(operation, body)? {
                Ok(done) => return Ok(done),
                Err(body) => body,
            };
            match waiting.pause()? {
                Duration::ZERO => std::thread::yield_now(),
                pause => std::thread::sleep(pause),
            }
        }
    }

    /// The live entry of a key. Without `Some`, whether there is one takes a turn to tell.
    pub(super) fn read(&self, key: &str) -> Result<Option<Option<(Slot, Bytes)>>> {
        let (live, now) = (self.live()?, self.now());
        match live.read(key, now) {
            Ok(None) if self.was_removed(&live)? => self.read(key),
            Ok(Some(_)) if self.was_found_removed(&live, now)? => self.read(key),
            Ok(found) => Ok(Some(found)),
            Err(Some(error)) => Err(self.failed("get", error)),
            // Nothing can be put in order here.
            Err(None) if !live.writable => Ok(Some(None)),
            Err(None) => Ok(None),
        }
    }

    /// The live entry of a key as far as it can be told from memory; without `Some`, it cannot.
    pub(super) fn read_cached(&self, key: &str) -> Option<Option<(Slot, Bytes)>> {
        let (live, now) = (self.opened()?, self.now());
        let (index, slot, value) = match live.read_from(Source::Cache, key, now) {
            Ok(Some(found)) if !live.is_found_gone(now).ok()? => found,
            Ok(None) if !live.is_gone().ok()? => return Some(None),
            _ => return None,
        };
        if !slot.visited {
            // It is a hint, and writing it may wait.
            spawn_blocking(move || live.visit(index, &slot));
        }
        Some(Some((slot, value)))
    }

    /// The live slot of a key, as [`read_cached`](Self::read_cached).
    pub(super) fn peek_cached(&self, key: &str) -> Option<Option<Slot>> {
        let (live, now) = (self.opened()?, self.now());
        match live.peek(Source::Cache, key, now) {
            Ok(Some(slot)) if !live.is_found_gone(now).ok()? => Some(Some(slot)),
            Ok(None) if !live.is_gone().ok()? => Some(None),
            _ => None,
        }
    }

    /// The live slot of a key, as [`read`](Self::read).
    pub(super) fn peek(&self, key: &str) -> Result<Option<Option<Slot>>> {
        let (live, now) = (self.live()?, self.now());
        match live.peek(Source::Disk, key, now) {
            Ok(None) if self.was_removed(&live)? => self.peek(key),
            Ok(Some(_)) if self.was_found_removed(&live, now)? => self.peek(key),
            Ok(found) => Ok(Some(found)),
            Err(Some(error)) => Err(self.failed("get", error)),
            Err(None) if !live.writable => Ok(Some(None)),
            Err(None) => Ok(None),
        }
    }

    fn was_removed(&self, live: &Arc<Live>) -> Result<bool> {
        self.forget_if(live, live.is_gone())
    }

    /// As [`was_removed`](Self::was_removed), where something was found.
    fn was_found_removed(&self, live: &Arc<Live>, now: u64) -> Result<bool> {
        self.forget_if(live, live.is_found_gone(now))
    }

    fn forget_if(&self, live: &Arc<Live>, gone: io::Result<bool>) -> Result<bool> {
        let gone = gone.map_err(|error| self.failed("get", error))?;
        if gone {
            self.forget(live);
        }
        Ok(gone)
    }

    /// When an entry that lives for `ttl` ends.
    pub(super) fn expiry(&self, operation: &'static str, ttl: Option<Duration>) -> Result<u64> {
        let Some(ttl) = ttl else {
            return Ok(0);
        };
        if ttl.is_zero() {
            let message = "a time to live must be longer than zero";
            return Err(BackendError::new(ErrorKind::Permanent, operation, message));
        }
        let micros = u64::try_from(ttl.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        Ok(self.now().saturating_add(micros))
    }

    pub(super) fn remaining(&self, slot: &Slot) -> Remaining {
        match slot.expiry {
            0 => Remaining::Forever,
            end => Remaining::For(Duration::from_micros(end.saturating_sub(self.now()))),
        }
    }

    pub(super) fn found(&self, (slot, value): (Slot, Bytes), want_ttl: bool) -> Found {
        Found {
            value,
            remaining: if want_ttl {
                self.remaining(&slot)
            } else {
                Remaining::Unknown
            },
        }
    }

    /// Refuses what cannot be stored.
    pub(super) fn admit(&self, key: &str, value: &[u8]) -> Result<()> {
        let refuse = |message: String| Err(BackendError::new(ErrorKind::Permanent, "set", message));
        let (len, max) = (value.len() as u64, self.config.max_value);
        if len > max {
            return refuse(format!(
                "a value of {len} bytes is longer than {max}; raise max_value_mb"
            ));
        }
        if Kind::of(key) == Kind::Lock {
            return refuse(format!("the key {key:?} has the form of a lock's"));
        }
        Ok(())
    }

    /// The file of a value that is too long for the data file, before any of the value is written.
    pub(super) fn draft(&self, key: &str, len: u64) -> Result<Draft> {
        let live = self.live()?;
        if !live.writable {
            return Err(self.failed("set", rustix::io::Errno::ROFS.into()));
        }
        let draft = Draft::new(&live, key, len);
        draft.map_err(|error| self.failed("set", error))
    }

    /// A value ready to be stored in a turn.
    pub(super) fn content<'a>(
        &self,
        key: &str,
        value: &'a [u8],
        timeout: Duration,
    ) -> Result<Content<'a>> {
        if Record::size(key, value.len() as u64) <= SPAN {
            return Ok(Content::Small(value));
        }
        let mut draft = self.draft(key, value.len() as u64)?;
        let deadline = after(timeout);
        for part in value.chunks(CHUNK) {
            if Instant::now() >= deadline {
                let message = "the time was up before the value was written; \
                               give the backend more (with_timeout)";
                return Err(BackendError::new(ErrorKind::Timeout, "set", message));
            }
            draft
                .write(part)
                .map_err(|error| self.failed("set", error))?;
        }
        self.finished(draft)
    }

    /// The content of a file whose parts are all written.
    pub(super) fn finished(&self, mut draft: Draft) -> Result<Content<'static>> {
        let finished = draft.finish().map(|()| Content::Large(Box::new(draft)));
        finished.map_err(|error| self.failed("set", error))
    }
}
