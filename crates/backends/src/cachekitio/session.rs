//! The hits and misses that every request reports to the service.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::tally::{Counters, Tally};

const ID: HeaderName = HeaderName::from_static("x-cachekit-session-id");
const START: HeaderName = HeaderName::from_static("x-cachekit-session-start");
const L1_HITS: HeaderName = HeaderName::from_static("x-cachekit-l1-hits");
const L2_HITS: HeaderName = HeaderName::from_static("x-cachekit-l2-hits");
const MISSES: HeaderName = HeaderName::from_static("x-cachekit-misses");
const L1_HIT_RATE: HeaderName = HeaderName::from_static("x-cachekit-l1-hit-rate");
const L1_STATUS: HeaderName = HeaderName::from_static("x-cachekit-l1-status");

/// What one process reports under one name. No counter goes backwards, as the service takes numbers
/// that do for a replay; a fork's child has a session of its own.
pub(super) struct Session {
    tally: Arc<Tally>,
    id: HeaderValue,
    start: HeaderValue,
    /// What was counted before the session began.
    base: Counters,
}

impl Session {
    pub(super) fn new(tally: &Arc<Tally>) -> Self {
        Self::with_base(tally, Some(Counters::default()))
    }

    /// The session of a fork's child: what its parent counted is reported by the parent.
    pub(super) fn of_child(tally: &Arc<Tally>) -> Self {
        Self::with_base(tally, tally.counters())
    }

    fn with_base(tally: &Arc<Tally>, base: Option<Counters>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let start = since.unwrap_or_default().as_millis();
        Self {
            tally: Arc::clone(tally),
            id: HeaderValue::try_from(uuid()).expect("hexadecimal digits"),
            start: HeaderValue::from(u64::try_from(start).unwrap_or(u64::MAX)),
            base: base.unwrap_or_default(),
        }
    }

    /// Writes the headers of one request.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let Some(now) = self.tally.counters() else {
            headers.insert(L1_STATUS, HeaderValue::from_static("disabled"));
            return;
        };
        let counted = now.since(self.base).unwrap_or_default();
        headers.insert(ID, self.id.clone());
        headers.insert(START, self.start.clone());
        headers.insert(L1_HITS, counted.l1_hits.into());
        headers.insert(L2_HITS, counted.l2_hits.into());
        headers.insert(MISSES, counted.misses.into());
        let rate = format!("{:.3}", l1_hit_rate(counted));
        headers.insert(
            L1_HIT_RATE,
            HeaderValue::try_from(rate).expect("digits and a point"),
        );
        headers.insert(L1_STATUS, HeaderValue::from_static("enabled"));
    }
}

/// The part of the hits that the process's own cache has answered.
fn l1_hit_rate(counted: Counters) -> f64 {
    match counted.l1_hits + counted.l2_hits {
        0 => 0.0,
        hits => counted.l1_hits as f64 / hits as f64,
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
        let headers = written(&Session::new(&Arc::default()));
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["l1-status"], "disabled");
    }

    #[test]
    fn all_that_was_counted_is_told() {
        let tally = Arc::<Tally>::default();
        let session = Session::new(&tally);
        tally.add(&mut Counters::default(), counters(1, 1, 3));
        tally.add(&mut Counters::default(), counters(1, 0, 4));
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
        let start = headers["session-start"].parse::<u64>();
        assert!(start.is_ok_and(|ms| ms > 1_600_000_000_000));
    }

    #[test]
    fn a_child_reports_what_it_counted_itself() {
        let tally = Arc::<Tally>::default();
        let (parent, mut told) = (Session::new(&tally), Counters::default());
        tally.add(&mut told, counters(100, 10, 10));
        let child = Session::of_child(&tally);
        assert_eq!(written(&child)["l1-hits"], "0");
        tally.add(&mut told, counters(103, 10, 11));
        let headers = written(&child);
        assert_eq!((&*headers["l1-hits"], &*headers["misses"]), ("3", "1"));
        assert_ne!(headers["session-id"], written(&parent)["session-id"]);
    }

    proptest! {
        #[test]
        fn no_counter_goes_backwards(
            reports in prop::collection::vec((0usize..3, 0u64..9, 0u64..9, 0u64..9), 1..50),
        ) {
            let tally = Arc::<Tally>::default();
            let session = Session::new(&tally);
            let mut told = [Counters::default(); 3];
            let mut last = [0; 3];
            // Counters that are less than before were cleared meanwhile.
            for (function, l1_hits, l2_hits, misses) in reports {
                tally.add(&mut told[function], counters(l1_hits, l2_hits, misses));
                let headers = written(&session);
                let now = ["l1-hits", "l2-hits", "misses"]
                    .map(|name| headers[name].parse::<u64>().expect("a number"));
                prop_assert!(last.iter().zip(now).all(|(before, now)| *before <= now));
                last = now;
            }
        }
    }
}
