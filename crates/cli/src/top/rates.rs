//! What happened between two snapshots.

use std::collections::BTreeMap;

use super::names::server;
use super::snapshot::{Calls, Outcome, Snapshot, Subject};

/// The calls of one subject within the time.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) subject: Subject,
    pub(super) calls_per_second: f64,
    /// Of those that looked something up; none where nothing did.
    pub(super) hit_ratio: Option<f64>,
    /// Seconds.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) errors_per_second: f64,
    pub(super) refused_per_second: f64,
    /// Since the endpoint started.
    pub(super) calls: f64,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Rates {
    /// How long the time was.
    pub(super) seconds: f64,
    /// The busiest first.
    pub(super) lines: Vec<Line>,
    pub(super) breakers: BTreeMap<String, &'static str>,
    /// How much the server holds now.
    pub(super) gauges: Vec<(&'static str, f64)>,
    /// What the server counted, per second.
    pub(super) counters: Vec<(&'static str, f64)>,
}

impl Rates {
    pub(super) fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let none = Calls::default();
        let lines = after.calls.iter().map(|(subject, calls)| {
            let added = calls.since(before.calls.get(subject).unwrap_or(&none));
            let per_second = |outcome| added.with(outcome) / seconds;
            let (hits, misses) = (added.with(Outcome::Hit), added.with(Outcome::Miss));
            Line {
                subject: subject.clone(),
                calls_per_second: added.count() / seconds,
                hit_ratio: (hits + misses > 0.0).then(|| hits / (hits + misses)),
                p50: added.quantile(0.5),
                p99: added.quantile(0.99),
                errors_per_second: per_second(Outcome::Error),
                refused_per_second: per_second(Outcome::Refused),
                calls: calls.count(),
            }
        });
        let mut lines: Vec<Line> = lines.collect();
        // Those that are equally busy stay in the order of their names.
        lines.sort_by(|a, b| b.calls_per_second.total_cmp(&a.calls_per_second));
        let figure = |name: &'static str| Some((name, *after.figures.get(name)?));
        let counter = |name: &'static str| {
            let now = *after.figures.get(name)?;
            let then = before.figures.get(name).copied().unwrap_or(0.0);
            let added = if now < then { now } else { now - then };
            Some((name, added / seconds))
        };
        Self {
            seconds,
            lines,
            breakers: after.breakers.clone(),
            gauges: server::GAUGES.into_iter().filter_map(figure).collect(),
            counters: server::COUNTERS.into_iter().filter_map(counter).collect(),
        }
    }
}
