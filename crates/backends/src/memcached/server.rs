//! One server among several: whether it is used at the moment, and what it has missed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::protocol::Node;

/// How long a server that fails is left alone: at first, and at most after doubling.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// How many changes that a server misses are remembered.
const MAX_MISSED: usize = 10_000;
/// How long a server is not called on again after it was called on in vain.
const DEAF: Duration = Duration::from_secs(1);

/// A server with its record.
pub(super) struct Server {
    pub(super) node: Arc<Node>,
    /// Whether there is nothing in the record, which is the usual case.
    is_well: AtomicBool,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    /// Failures since the last answer.
    failures: u32,
    /// Until when it is left alone, and how long the next pause is.
    closed: Option<(Instant, Duration)>,
    /// Until when it is not called on.
    deaf: Option<Instant>,
    /// Keys that were changed elsewhere while it was left alone, each with the number of its last change.
    missed: HashMap<String, u64>,
    changes: u64,
}

/// A key whose item is outdated on a server, and the number of the change that made it so.
pub(super) type Outdated = (String, u64);

/// How a server may be used at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// As always.
    Open,
    /// By this caller, to see whether it is back.
    Probe,
    /// Not now.
    Closed,
}

impl Server {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            is_well: AtomicBool::new(true),
            record: Mutex::default(),
        }
    }

    /// How the caller may use the server. Of those who ask after a pause, the first one probes.
    pub(super) fn admit(&self, now: Instant) -> Use {
        if self.is_well() {
            return Use::Open;
        }
        self.record.lock().admit(now)
    }

    /// Whether nothing speaks against using the server.
    pub(super) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Acquire)
    }

    /// Whether the server is left alone at this moment.
    pub(super) fn is_closed(&self) -> bool {
        !self.is_well() && self.record.lock().closed.is_some()
    }

    /// Whether to call on the server before its pause is over, for a change that it should not miss.
    pub(super) fn may_be_called(&self, now: Instant) -> bool {
        let mut record = self.record.lock();
        record.closed.is_some() && record.may_be_called(now)
    }

    /// The server has answered.
    pub(super) fn answered(&self) {
        if self.is_well() {
            return;
        }
        let mut record = self.record.lock();
        if record.closed.take().is_some() {
            tracing::info!(target: "cachekit", "memcached {} is used again", self.node.address);
        }
        record.failures = 0;
        record.deaf = None;
        self.is_well
            .store(record.missed.is_empty(), Ordering::Release);
    }

    /// The server was lost; true if it is left alone from now on, after more than `bearable`
    /// failures in a row.
    pub(super) fn failed(&self, bearable: u32, now: Instant) -> bool {
        let mut record = self.record.lock();
        self.is_well.store(false, Ordering::Release);
        let was_closed = record.closed.is_some();
        let closed = record.failed(bearable, now);
        if closed && !was_closed {
            tracing::warn!(
                target: "cachekit",
                "memcached {} fails; the next server in each key's order stands in for it",
                self.node.address
            );
        }
        closed
    }

    /// Remembers that the item under `key` was changed elsewhere.
    pub(super) fn missed(&self, key: &str) {
        let mut record = self.record.lock();
        if record.missed.len() < MAX_MISSED || record.missed.contains_key(key) {
            record.changes += 1;
            let change = record.changes;
            record.missed.insert(key.to_owned(), change);
            self.is_well.store(false, Ordering::Release);
        }
    }

    /// The keys whose items are outdated here. Everybody is told until somebody has [`removed`](Self::removed)
    /// them, so that nobody reads such an item meanwhile and nothing is forgotten with a call that is given up.
    pub(super) fn outdated(&self) -> Vec<Outdated> {
        if self.is_well() {
            return Vec::new();
        }
        let record = self.record.lock();
        let missed = record.missed.iter();
        missed.map(|(key, change)| (key.clone(), *change)).collect()
    }

    /// The outdated items were removed; those that were changed elsewhere once more stay outdated.
    pub(super) fn removed(&self, outdated: &[Outdated]) {
        if outdated.is_empty() {
            return;
        }
        let missed = &mut self.record.lock().missed;
        for (key, change) in outdated {
            if missed.get(key) == Some(change) {
                missed.remove(key);
            }
        }
    }
}

impl Record {
    fn admit(&mut self, now: Instant) -> Use {
        match self.closed {
            None => Use::Open,
            Some((until, _)) if now < until => Use::Closed,
            Some((_, pause)) => {
                // The others go on without it until the answer is there.
                self.closed = Some((now + pause, pause));
                Use::Probe
            }
        }
    }

    fn may_be_called(&mut self, now: Instant) -> bool {
        let may = self.deaf.is_none_or(|until| until <= now);
        if may {
            // Others who ask meanwhile do not wait for it as well.
            self.deaf = Some(now + DEAF);
        }
        may
    }

    fn failed(&mut self, bearable: u32, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures > bearable {
            let pause = match self.closed {
                None => FIRST_PAUSE,
                Some((_, pause)) => (pause * 2).min(LAST_PAUSE),
            };
            self.closed = Some((now + pause, pause));
        }
        self.closed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_called_on_once_a_second() {
        let start = Instant::now();
        let mut record = Record::default();
        assert!(record.may_be_called(start));
        assert!(!record.may_be_called(start + DEAF / 2));
        assert!(record.may_be_called(start + DEAF));
    }

    #[test]
    fn a_failing_server_is_left_alone_for_longer_and_longer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut record = Record::default();
        for _ in 0..2 {
            assert!(!record.failed(2, start));
            assert_eq!(record.admit(start), Use::Open);
        }
        assert!(record.failed(2, start));
        assert_eq!(record.admit(start), Use::Closed);
        // One caller probes, the others wait for what comes of it.
        assert_eq!(record.admit(at(1)), Use::Probe);
        assert_eq!(record.admit(at(1)), Use::Closed);
        assert!(record.failed(2, at(1)));
        assert_eq!(record.admit(at(2)), Use::Closed);
        assert_eq!(record.admit(at(3)), Use::Probe);
        for _ in 0..10 {
            record.failed(2, at(3));
        }
        assert_eq!(record.admit(at(32)), Use::Closed);
        assert_eq!(record.admit(at(33)), Use::Probe);
    }
}
