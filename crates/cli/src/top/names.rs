//! The series that are read, under the names they are exported by.

/// What our server exports (`cachekit-server`, its `metrics` module).
pub(super) mod server {
    /// Requests, by `operation` and the HTTP `status`.
    pub(crate) const REQUESTS: &str = "cachekit_server_requests_total";
    /// How long they took, by `operation`.
    pub(crate) const DURATION: &str = "cachekit_server_request_duration_seconds";
    /// What all names begin with.
    pub(crate) const PREFIX: &str = "cachekit_server_";
    /// How much there is of something, without [`PREFIX`].
    pub(crate) const GAUGES: [&str; 6] = [
        "entries",
        "stored_bytes",
        "disk_bytes",
        "locks",
        "connections",
        "in_flight_bytes",
    ];
    /// What is counted besides requests, without [`PREFIX`].
    pub(crate) const COUNTERS: [&str; 4] = [
        "evicted_total",
        "expired_total",
        "received_bytes_total",
        "sent_bytes_total",
    ];
}

/// What programs export that cache functions.
pub(super) mod program {
    /// Operations, by `namespace`, `operation` and `status`.
    pub(crate) const OPERATIONS: &str = "redis_cache_operations_total";
    /// How long they took, by `namespace` and `operation`.
    pub(crate) const DURATION: &str = "redis_cache_operation_duration_seconds";
    /// The breaker, by `namespace`: 0 closed, 1 open, 2 half-open.
    pub(crate) const BREAKER: &str = "redis_circuit_breaker_state";
}
