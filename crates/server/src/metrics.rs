//! What the server counts, and the Prometheus text of it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The operations that requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Head,
    Put,
    Delete,
    Lock,
    Unlock,
    Watch,
    Ttl,
    Refresh,
    Health,
    Other,
}

impl Operation {
    const ALL: [Self; 11] = [
        Self::Get,
        Self::Head,
        Self::Put,
        Self::Delete,
        Self::Lock,
        Self::Unlock,
        Self::Watch,
        Self::Ttl,
        Self::Refresh,
        Self::Health,
        Self::Other,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::Watch => "watch",
            Self::Ttl => "ttl",
            Self::Refresh => "refresh",
            Self::Health => "health",
            Self::Other => "other",
        }
    }
}

/// The statuses that are counted one by one; others count as the last of their hundred.
const STATUSES: [u16; 16] = [
    200, 204, 299, 400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 499, 503, 599,
];
/// Upper bounds of the latency histogram's buckets, in microseconds.
const BOUNDS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

#[derive(Default)]
struct PerOperation {
    statuses: [AtomicU64; STATUSES.len()],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

/// The server's counters.
#[derive(Default)]
pub(crate) struct Metrics {
    operations: [PerOperation; Operation::ALL.len()],
    pub(crate) connections: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) slow_peers: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Metrics {
    /// Counts one request.
    pub(crate) fn count(&self, operation: Operation, status: u16, took: Duration) {
        let of = &self.operations[operation as usize];
        let at = STATUSES
            .iter()
            .position(|known| *known == status)
            .or_else(|| {
                STATUSES
                    .iter()
                    .position(|known| *known == status / 100 * 100 + 99)
            })
            .unwrap_or(STATUSES.len() - 1);
        add(&of.statuses[at], 1);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        add(&of.buckets[bucket], 1);
        add(&of.microseconds, took);
    }

    /// The text of all counters, with those that are read elsewhere behind them: name, kind, help
    /// and value.
    pub(crate) fn text(&self, gauges: &[(&str, &str, &str, u64)]) -> String {
        let mut out = String::with_capacity(8192);
        self.write(&mut out, gauges).expect("strings grow");
        out
    }

    fn write(&self, out: &mut String, gauges: &[(&str, &str, &str, u64)]) -> std::fmt::Result {
        const REQUESTS: &str = "cachekit_server_requests_total";
        writeln!(out, "# HELP {REQUESTS} Requests by operation and status.")?;
        writeln!(out, "# TYPE {REQUESTS} counter")?;
        let used = |of: &PerOperation| of.buckets.iter().any(|b| b.load(Ordering::Relaxed) > 0);
        for (operation, of) in Operation::ALL.iter().zip(&self.operations) {
            for (status, count) in STATUSES.iter().zip(&of.statuses) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let operation = operation.as_str();
                    writeln!(
                        out,
                        "{REQUESTS}{{operation=\"{operation}\",status=\"{status}\"}} {count}"
                    )?;
                }
            }
        }
        const SECONDS: &str = "cachekit_server_request_duration_seconds";
        writeln!(
            out,
            "# HELP {SECONDS} Time from a request's headers to its answer."
        )?;
        writeln!(out, "# TYPE {SECONDS} histogram")?;
        for (operation, of) in Operation::ALL.iter().zip(&self.operations) {
            if !used(of) {
                continue;
            }
            let operation = operation.as_str();
            let mut sum = 0;
            for (at, bucket) in of.buckets.iter().enumerate() {
                sum += bucket.load(Ordering::Relaxed);
                let bound = BOUNDS
                    .get(at)
                    .map_or_else(|| "+Inf".to_owned(), |us| seconds(*us));
                writeln!(
                    out,
                    "{SECONDS}_bucket{{operation=\"{operation}\",le=\"{bound}\"}} {sum}"
                )?;
            }
            let total = seconds(of.microseconds.load(Ordering::Relaxed));
            writeln!(out, "{SECONDS}_sum{{operation=\"{operation}\"}} {total}")?;
            writeln!(out, "{SECONDS}_count{{operation=\"{operation}\"}} {sum}")?;
        }
        let own = [
            (
                "connections",
                "gauge",
                "Open connections.",
                &self.connections,
            ),
            (
                "handshakes_failed_total",
                "counter",
                "TLS handshakes that failed or took too long.",
                &self.handshakes_failed,
            ),
            (
                "slow_peers_total",
                "counter",
                "Requests and connections ended because the peer was too slow.",
                &self.slow_peers,
            ),
            (
                "panics_total",
                "counter",
                "Requests that ended in a panic.",
                &self.panics,
            ),
            (
                "received_bytes_total",
                "counter",
                "Bytes of values received.",
                &self.received,
            ),
            (
                "sent_bytes_total",
                "counter",
                "Bytes of values sent.",
                &self.sent,
            ),
        ];
        for (name, kind, help, value) in own {
            single(out, name, kind, help, value.load(Ordering::Relaxed))?;
        }
        for (name, kind, help, value) in gauges {
            single(out, name, kind, help, *value)?;
        }
        Ok(())
    }
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: u64) -> std::fmt::Result {
    writeln!(out, "# HELP cachekit_server_{name} {help}")?;
    writeln!(out, "# TYPE cachekit_server_{name} {kind}")?;
    writeln!(out, "cachekit_server_{name} {value}")
}

/// Microseconds as a decimal number of seconds.
fn seconds(microseconds: u64) -> String {
    format!(
        "{}.{:06}",
        microseconds / 1_000_000,
        microseconds % 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_status() {
        let metrics = Metrics::default();
        metrics.count(Operation::Get, 200, Duration::from_micros(100));
        metrics.count(Operation::Get, 200, Duration::from_micros(101));
        metrics.count(Operation::Put, 418, Duration::from_secs(9));
        let text = metrics.text(&[("entries", "gauge", "Entries.", 7)]);
        for line in [
            r#"cachekit_server_requests_total{operation="get",status="200"} 2"#,
            r#"cachekit_server_requests_total{operation="put",status="499"} 1"#,
            r#"cachekit_server_request_duration_seconds_bucket{operation="get",le="0.000100"} 1"#,
            r#"cachekit_server_request_duration_seconds_bucket{operation="put",le="5.000000"} 0"#,
            r#"cachekit_server_request_duration_seconds_bucket{operation="put",le="+Inf"} 1"#,
            r#"cachekit_server_request_duration_seconds_sum{operation="get"} 0.000201"#,
            "cachekit_server_entries 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
