//! Rates as text and as JSON.

use serde_json::{Value, json};

use super::rates::{Line, Rates};
use crate::text::{duration, plain, rate, size, table};

pub(super) fn text(rates: &Rates) -> String {
    let mut out = String::new();
    if !rates.lines.is_empty() {
        let named = rates
            .lines
            .iter()
            .any(|line| !line.subject.namespace.is_empty());
        let from = usize::from(!named);
        let head = [
            "NAMESPACE",
            "OPERATION",
            "CALLS/S",
            "HITS",
            "P50",
            "P99",
            "ERRORS/S",
            "REFUSED/S",
            "CALLS",
        ];
        let rows: Vec<_> = rates
            .lines
            .iter()
            .map(|line| row(line)[from..].to_vec())
            .collect();
        out.push_str(&table(&head[from..], &rows));
    }
    let is_bytes = |name: &str| name.contains("bytes");
    let shown = |(name, value): &(&'static str, f64), as_number: fn(f64) -> String| {
        let amount = match is_bytes(name) {
            true => size(*value as u64),
            false => as_number(*value),
        };
        let words = name.trim_end_matches("_total").trim_end_matches("_bytes");
        format!("{} {amount}", words.replace('_', " "))
    };
    let mut below = Vec::new();
    let mut section = |title: &str, parts: Vec<String>| {
        if !parts.is_empty() {
            below.push(format!("{title}: {}\n", parts.join(", ")));
        }
    };
    let gauges = rates.gauges.iter();
    section(
        "now",
        gauges
            .map(|gauge| shown(gauge, |value| value.to_string()))
            .collect(),
    );
    let counters = rates.counters.iter();
    section(
        "per second",
        counters.map(|counter| shown(counter, rate)).collect(),
    );
    let breakers = rates.breakers.iter();
    let breakers = breakers.map(|(namespace, state)| format!("{} {state}", plain(namespace)));
    section("breakers", breakers.collect());
    if !out.is_empty() && !below.is_empty() {
        out.push('\n');
    }
    out.extend(below);
    out
}

fn row(line: &Line) -> [String; 9] {
    let or_dash =
        |value: Option<f64>, shown: fn(f64) -> String| value.map_or("-".to_owned(), shown);
    [
        plain(&line.subject.namespace),
        plain(&line.subject.operation),
        rate(line.calls_per_second),
        or_dash(line.hit_ratio, |ratio| format!("{:.1} %", ratio * 100.0)),
        or_dash(line.p50, duration),
        or_dash(line.p99, duration),
        rate(line.errors_per_second),
        rate(line.refused_per_second),
        line.calls.to_string(),
    ]
}

/// The same for programs: seconds, bytes, and ratios from 0 to 1.
pub(super) fn json(rates: &Rates) -> Value {
    let line = |line: &Line| {
        json!({
            "namespace": line.subject.namespace,
            "operation": line.subject.operation,
            "calls_per_second": line.calls_per_second,
            "hit_ratio": line.hit_ratio,
            "p50_seconds": line.p50,
            "p99_seconds": line.p99,
            "errors_per_second": line.errors_per_second,
            "refused_per_second": line.refused_per_second,
            "calls": line.calls as u64,
        })
    };
    let gauges = rates.gauges.iter();
    let gauges = gauges.map(|(name, value)| ((*name).to_owned(), Value::from(*value as u64)));
    let counters = rates.counters.iter();
    let counters =
        counters.map(|(name, value)| (name.replace("_total", "_per_second"), Value::from(*value)));
    json!({
        "seconds": rates.seconds,
        "operations": rates.lines.iter().map(line).collect::<Vec<_>>(),
        "breakers": rates.breakers,
        "server": gauges.chain(counters).collect::<serde_json::Map<_, _>>(),
    })
}
