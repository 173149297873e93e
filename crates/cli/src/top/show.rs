//! Rates as text and as JSON.

use serde_json::{Value, json};

use super::rates::{Line, Rates};
use crate::text::{duration, plain, rate, size, table};

const HEAD: [&str; 9] = [
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

pub(super) fn text(rates: &Rates) -> String {
    let mut out = String::new();
    if !rates.lines.is_empty() {
        // The server's calls have no namespace.
        let mut subjects = rates.lines.iter().map(|line| &line.subject);
        let first = usize::from(subjects.all(|subject| subject.namespace.is_empty()));
        let rows = rates.lines.iter().map(|line| row(line)[first..].to_vec());
        out.push_str(&table(&HEAD[first..], &rows.collect::<Vec<_>>()));
    }
    let mut below = String::new();
    let now = rates.gauges.iter();
    let now = now.map(|(name, value)| figure(name, *value, |count| count.to_string()));
    list(&mut below, "now", now);
    let counted = rates.counters.iter();
    let counted = counted.map(|(name, value)| figure(name, *value, rate));
    list(&mut below, "per second", counted);
    let breakers = rates.breakers.iter();
    let breakers = breakers.map(|(namespace, state)| format!("{} {state}", plain(namespace)));
    list(&mut below, "breakers", breakers);
    if !out.is_empty() && !below.is_empty() {
        out.push('\n');
    }
    out + &below
}

fn list(out: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let items: Vec<_> = items.collect();
    if !items.is_empty() {
        out.push_str(&format!("{title}: {}\n", items.join(", ")));
    }
}

/// A figure of the server in words, as "stored 21 MiB".
fn figure(name: &str, value: f64, as_number: fn(f64) -> String) -> String {
    let name = name.trim_end_matches("_total");
    match name.strip_suffix("_bytes") {
        Some(of) => format!("{} {}", of.replace('_', " "), size(value as u64)),
        None => format!("{} {}", name.replace('_', " "), as_number(value)),
    }
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
