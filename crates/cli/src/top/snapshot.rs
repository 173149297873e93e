//! What an endpoint has counted up to one moment.

use std::collections::BTreeMap;
use std::time::Instant;

use super::exposition::{self, Series};
use super::names::{program, server};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Hit,
    Miss,
    /// Done, where nothing was looked for.
    Done,
    /// Not taken on: over a limit, or not allowed.
    Refused,
    Error,
}

impl Outcome {
    /// By the status of an HTTP answer of the server.
    fn of_answer(operation: &str, status: &str) -> Self {
        let looks_up = matches!(operation, "get" | "head");
        match status {
            "200" | "204" if looks_up => Self::Hit,
            "404" if looks_up => Self::Miss,
            // Nothing to delete or release, and somebody else's lock, are answers.
            "404" | "409" => Self::Done,
            _ if status.starts_with('4') => Self::Refused,
            _ if status.starts_with('5') => Self::Error,
            _ => Self::Done,
        }
    }

    /// By the word of a program.
    fn of_operation(status: &str) -> Self {
        match status {
            "hit" => Self::Hit,
            "miss" => Self::Miss,
            "rejected" => Self::Refused,
            "error" | "timeout" => Self::Error,
            _ => Self::Done,
        }
    }
}

/// The calls of one operation, since the endpoint started or within a time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Calls {
    outcomes: [f64; 5],
    /// How many took at most so many seconds, by rising bounds.
    at_most: Vec<(f64, f64)>,
}

impl Calls {
    pub(super) fn with(&self, outcome: Outcome) -> f64 {
        self.outcomes[outcome as usize]
    }

    pub(super) fn count(&self) -> f64 {
        self.outcomes.iter().sum()
    }

    fn add_at_most(&mut self, bound: f64, count: f64) {
        let at = self.at_most.partition_point(|(other, _)| *other < bound);
        match self.at_most.get_mut(at) {
            Some((other, sum)) if *other == bound => *sum += count,
            _ => self.at_most.insert(at, (bound, count)),
        }
    }

    /// What was added since. An endpoint that has started anew counts from nothing.
    pub(super) fn since(&self, before: &Self) -> Self {
        if self.count() < before.count() {
            return self.clone();
        }
        let mut added = self.clone();
        for (now, then) in added.outcomes.iter_mut().zip(before.outcomes) {
            *now = (*now - then).max(0.0);
        }
        for (bound, count) in &mut added.at_most {
            let same = before.at_most.iter().find(|(other, _)| other == bound);
            *count = (*count - same.map_or(0.0, |(_, count)| *count)).max(0.0);
        }
        added
    }

    /// The time that this part of the calls took at most, in seconds, estimated as Prometheus does:
    /// evenly within a bucket, and the last finite bound beyond all of them.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let total = self.at_most.last().map(|(_, count)| *count)?;
        if total <= 0.0 {
            return None;
        }
        let rank = part * total;
        let (mut bound, mut below) = (0.0, 0.0);
        for &(upper, count) in &self.at_most {
            if upper.is_infinite() {
                break;
            }
            if count >= rank {
                return Some(bound + (upper - bound) * (rank - below) / (count - below));
            }
            (bound, below) = (upper, count);
        }
        Some(bound)
    }
}

/// Whose calls they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    /// Empty for the server, whose entries have none.
    pub(super) namespace: String,
    pub(super) operation: String,
}

/// All that is read of an endpoint.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) calls: BTreeMap<Subject, Calls>,
    /// The state of each namespace's breaker.
    pub(super) breakers: BTreeMap<String, &'static str>,
    /// The server's figures of [`server::GAUGES`] and [`server::COUNTERS`].
    pub(super) figures: BTreeMap<&'static str, f64>,
}

impl Snapshot {
    /// What a page says that was read at this time. None where it says nothing of caches.
    pub(super) fn read(page: &str, at: Instant) -> Option<Self> {
        let mut snapshot = Self {
            at,
            calls: BTreeMap::new(),
            breakers: BTreeMap::new(),
            figures: BTreeMap::new(),
        };
        for series in exposition::series(page) {
            snapshot.take(&series);
        }
        let is_empty = snapshot.calls.is_empty()
            && snapshot.breakers.is_empty()
            && snapshot.figures.is_empty();
        (!is_empty).then_some(snapshot)
    }

    fn take(&mut self, series: &Series<'_>) {
        let status = series.label("status");
        match series.name {
            server::REQUESTS => {
                let outcome = Outcome::of_answer(series.label("operation"), status);
                self.of(series).outcomes[outcome as usize] += series.value;
            }
            program::OPERATIONS => {
                let outcome = Outcome::of_operation(status);
                self.of(series).outcomes[outcome as usize] += series.value;
            }
            program::BREAKER => {
                let state = match series.value {
                    0.0 => "closed",
                    1.0 => "open",
                    2.0 => "half-open",
                    _ => "unknown",
                };
                let namespace = series.label("namespace").to_owned();
                self.breakers.insert(namespace, state);
            }
            name => {
                let measured = name.strip_suffix("_bucket");
                if measured.is_some_and(|of| of == server::DURATION || of == program::DURATION) {
                    if let Ok(bound) = series.label("le").parse() {
                        self.of(series).add_at_most(bound, series.value);
                    }
                } else if let Some(figure) = name.strip_prefix(server::PREFIX) {
                    let mut known = server::GAUGES.into_iter().chain(server::COUNTERS);
                    if let Some(known) = known.find(|known| *known == figure) {
                        self.figures.insert(known, series.value);
                    }
                }
            }
        }
    }

    fn of(&mut self, series: &Series<'_>) -> &mut Calls {
        let subject = Subject {
            namespace: series.label("namespace").to_owned(),
            operation: series.label("operation").to_owned(),
        };
        self.calls.entry(subject).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(page: &str) -> Calls {
        let snapshot = Snapshot::read(page, Instant::now()).expect("it is of caches");
        let mut calls = snapshot.calls.into_values();
        calls.next().expect("there are calls")
    }

    #[test]
    fn answers_of_the_server_have_outcomes() {
        for (operation, status, expected) in [
            ("get", "200", Outcome::Hit),
            ("head", "404", Outcome::Miss),
            ("put", "200", Outcome::Done),
            ("delete", "404", Outcome::Done),
            ("lock", "409", Outcome::Done),
            ("get", "429", Outcome::Refused),
            ("put", "599", Outcome::Error),
        ] {
            let found = Outcome::of_answer(operation, status);
            assert_eq!(found, expected, "{operation} {status}");
        }
    }

    #[test]
    fn series_of_one_subject_are_summed() {
        let page = r#"
            redis_cache_operations_total{operation="get",status="hit",serializer="std",namespace="a"} 3
            redis_cache_operations_total{operation="get",status="hit",serializer="auto",namespace="a"} 2
            redis_cache_operations_total{operation="get",status="timeout",serializer="std",namespace="a"} 1
            redis_cache_operation_duration_seconds_bucket{operation="get",serializer="std",namespace="a",le="1"} 1
            redis_cache_operation_duration_seconds_bucket{operation="get",serializer="std",namespace="a",le="+Inf"} 2
            redis_cache_operation_duration_seconds_bucket{operation="get",serializer="auto",namespace="a",le="1.0"} 4
            redis_cache_operation_duration_seconds_sum{operation="get",serializer="std",namespace="a"} 9
        "#;
        let calls = calls(page);
        assert_eq!(calls.with(Outcome::Hit), 5.0);
        assert_eq!(calls.with(Outcome::Error), 1.0);
        assert_eq!(calls.count(), 6.0);
        assert_eq!(calls.at_most, [(1.0, 5.0), (f64::INFINITY, 2.0)]);
    }

    #[test]
    fn only_what_was_added_counts_and_a_restart_starts_anew() {
        let page = |hits: u32, fast: u32, all: u32| {
            format!(
                "cachekit_server_requests_total{{operation=\"get\",status=\"200\"}} {hits}\n\
                 cachekit_server_request_duration_seconds_bucket{{operation=\"get\",le=\"0.1\"}} {fast}\n\
                 cachekit_server_request_duration_seconds_bucket{{operation=\"get\",le=\"+Inf\"}} {all}\n"
            )
        };
        let (before, after) = (calls(&page(10, 8, 10)), calls(&page(14, 10, 14)));
        let added = after.since(&before);
        assert_eq!(added.count(), 4.0);
        assert_eq!(added.at_most, [(0.1, 2.0), (f64::INFINITY, 4.0)]);
        assert_eq!(before.since(&after), before);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let mut calls = Calls::default();
        assert_eq!(calls.quantile(0.5), None);
        for (bound, count) in [(0.1, 50.0), (0.2, 90.0), (f64::INFINITY, 100.0)] {
            calls.add_at_most(bound, count);
        }
        let near = |part: f64, expected: f64| {
            let found = calls.quantile(part).expect("there are calls");
            assert!((found - expected).abs() < 1e-9, "{part}: {found}");
        };
        near(0.25, 0.05);
        near(0.5, 0.1);
        near(0.7, 0.15);
        near(0.99, 0.2);
        assert_eq!(calls.since(&calls).quantile(0.5), None);
    }

    #[test]
    fn pages_of_others_are_none() {
        assert!(Snapshot::read("up 1\nhttp_requests_total 5", Instant::now()).is_none());
        let idle = Snapshot::read("cachekit_server_entries 0", Instant::now());
        assert_eq!(idle.expect("a server").figures["entries"], 0.0);
    }
}
