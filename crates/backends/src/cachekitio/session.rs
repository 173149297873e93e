//! The hits and misses that every request reports to the service.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

const ID: HeaderName = HeaderName::from_static("x-cachekit-session-id");
const START: HeaderName = HeaderName::from_static("x-cachekit-session-start");
const L1_HITS: HeaderName = HeaderName::from_static("x-cachekit-l1-hits");
const L2_HITS: HeaderName = HeaderName::from_static("x-cachekit-l2-hits");
const MISSES: HeaderName = HeaderName::from_static("x-cachekit-misses");
const L1_HIT_RATE: HeaderName = HeaderName::from_static("x-cachekit-l1-hit-rate");
const L1_STATUS: HeaderName = HeaderName::from_static("x-cachekit-l1-status");

/// What the functions of a process have counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls answered by the process's own cache.
    pub l1_hits: u64,
    /// Calls answered by the service.
    pub l2_hits: u64,
    /// Calls that ran the function.
    pub misses: u64,
}

type Counting = Box<dyn Fn() -> Option<Counters> + Send + Sync>;

/// Who counts, once that is known.
pub(super) type Source = Arc<OnceLock<Counting>>;

/// A stretch of one process's life during which no counter goes backwards: the service takes
/// numbers that do for a replay. A fork's child has a session of its own, and so has the time after
/// statistics were cleared.
pub(super) struct Session {
    source: Source,
    state: Mutex<State>,
}

struct State {
    id: HeaderValue,
    start: HeaderValue,
    /// What was counted before the session began, and at its last request.
    base: Option<Counters>,
    last: Counters,
}

impl Session {
    pub(super) fn new(source: &Source) -> Self {
        Self::with_base(source, Some(Counters::default()))
    }

    /// The session of a fork's child: what its parent counted was reported by the parent.
    pub(super) fn of_child(source: &Source) -> Self {
        Self::with_base(source, None)
    }

    fn with_base(source: &Source, base: Option<Counters>) -> Self {
        Self {
            source: Arc::clone(source),
            state: Mutex::new(State::new(base)),
        }
    }

    /// Writes the headers of one request.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let counting = self.source.get();
        let mut state = self.state.lock();
        // Counted within the lock, so that the order of requests is that of their numbers.
        let Some(now) = counting.and_then(|counters| counters()) else {
            headers.insert(L1_STATUS, HeaderValue::from_static("disabled"));
            return;
        };
        let counted = state.count(now);
        headers.insert(ID, state.id.clone());
        headers.insert(START, state.start.clone());
        drop(state);
        headers.insert(L1_HITS, counted.l1_hits.into());
        headers.insert(L2_HITS, counted.l2_hits.into());
        headers.insert(MISSES, counted.misses.into());
        let rate = format!("{:.3}", counted.l1_hit_rate());
        headers.insert(
            L1_HIT_RATE,
            HeaderValue::try_from(rate).expect("digits and a point"),
        );
        headers.insert(L1_STATUS, HeaderValue::from_static("enabled"));
    }
}

impl State {
    fn new(base: Option<Counters>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let start = since.unwrap_or_default().as_millis();
        Self {
            id: HeaderValue::try_from(uuid()).expect("hexadecimal digits"),
            start: HeaderValue::from(u64::try_from(start).unwrap_or(u64::MAX)),
            base,
            last: Counters::default(),
        }
    }

    /// What this session has counted so far; begins a new one where it would be less than before.
    fn count(&mut self, now: Counters) -> Counters {
        let base = *self.base.get_or_insert(now);
        if let Some(counted) = now.since(base)
            && counted.since(self.last).is_some()
        {
            self.last = counted;
            return counted;
        }
        *self = Self::new(Some(Counters::default()));
        self.last = now;
        now
    }
}

impl Counters {
    fn since(self, earlier: Self) -> Option<Self> {
        Some(Self {
            l1_hits: self.l1_hits.checked_sub(earlier.l1_hits)?,
            l2_hits: self.l2_hits.checked_sub(earlier.l2_hits)?,
            misses: self.misses.checked_sub(earlier.misses)?,
        })
    }

    fn l1_hit_rate(self) -> f64 {
        match self.l1_hits + self.l2_hits {
            0 => 0.0,
            hits => self.l1_hits as f64 / hits as f64,
        }
    }
}

/// A random UUID (version 4).
fn uuid() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn counters(l1_hits: u64, l2_hits: u64, misses: u64) -> Counters {
        Counters {
            l1_hits,
            l2_hits,
            misses,
        }
    }

    /// A session that reports these numbers.
    fn session(child: bool) -> (Session, Arc<Mutex<Option<Counters>>>) {
        let told = Arc::new(Mutex::new(None));
        let source = Source::default();
        let theirs = Arc::clone(&told);
        assert!(source.set(Box::new(move || *theirs.lock())).is_ok());
        let session = if child {
            Session::of_child(&source)
        } else {
            Session::new(&source)
        };
        (session, told)
    }

    fn written(session: &Session) -> HashMap<String, String> {
        let mut headers = HeaderMap::new();
        session.write(&mut headers);
        headers
            .iter()
            .map(|(name, value)| {
                let value = value.to_str().expect("text").to_owned();
                (name.as_str().replace("x-cachekit-", ""), value)
            })
            .collect()
    }

    #[test]
    fn without_functions_there_is_no_cache_in_the_process() {
        let (counted, _) = session(false);
        for session in [Session::new(&Source::default()), counted] {
            let headers = written(&session);
            assert_eq!(headers.len(), 1);
            assert_eq!(headers["l1-status"], "disabled");
        }
    }

    #[test]
    fn all_that_was_counted_is_told() {
        let (session, told) = session(false);
        *told.lock() = Some(counters(2, 1, 7));
        let headers = written(&session);
        for (name, value) in [
            ("l1-hits", "2"),
            ("l2-hits", "1"),
            ("misses", "7"),
            ("l1-hit-rate", "0.667"),
            ("l1-status", "enabled"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert_eq!(headers["session-id"].len(), 36);
        assert!(
            headers["session-start"]
                .parse::<u64>()
                .is_ok_and(|ms| ms > 1_600_000_000_000)
        );
    }

    #[test]
    fn cleared_statistics_begin_a_session() {
        let (session, told) = session(false);
        let id = |now| {
            *told.lock() = Some(now);
            written(&session)["session-id"].clone()
        };
        let first = id(counters(5, 5, 5));
        assert_eq!(id(counters(5, 6, 5)), first);
        let second = id(counters(0, 0, 1));
        assert_ne!(second, first);
        assert_eq!(id(counters(0, 0, 1)), second);
    }

    #[test]
    fn a_child_reports_what_it_counted_itself() {
        let (session, told) = session(true);
        *told.lock() = Some(counters(100, 10, 10));
        assert_eq!(written(&session)["l1-hits"], "0");
        *told.lock() = Some(counters(103, 10, 11));
        let headers = written(&session);
        assert_eq!((&*headers["l1-hits"], &*headers["misses"]), ("3", "1"));
    }

    proptest! {
        #[test]
        fn no_counter_goes_backwards_in_a_session(
            reports in prop::collection::vec((0u64..9, 0u64..9, 0u64..9), 1..50),
            child in any::<bool>(),
        ) {
            let (session, told) = session(child);
            let mut last = HashMap::<String, [u64; 3]>::new();
            for (l1_hits, l2_hits, misses) in reports {
                *told.lock() = Some(counters(l1_hits, l2_hits, misses));
                let headers = written(&session);
                let now = ["l1-hits", "l2-hits", "misses"].map(|name| headers[name].parse().expect("a number"));
                let before = last.insert(headers["session-id"].clone(), now).unwrap_or_default();
                prop_assert!(before.iter().zip(now).all(|(before, now)| *before <= now));
            }
        }
    }
}
