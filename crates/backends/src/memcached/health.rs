//! How the servers are.

use std::time::{Duration, Instant};

use super::command::{Command, Replies};
use super::operations::{Operations, Way};
use super::protocol::Request;
use crate::backend::{Detail, Health};
use crate::error::{BackendError, Result};
use crate::net::Failure;

impl Operations {
    /// Asks every server for its version. The cache serves as long as one of them answers.
    pub(super) async fn health(&self, way: Way, timeout: Duration) -> Result<Health> {
        let start = Instant::now();
        let batch = [Command::Version];
        let whole = Request::new("health", &batch, timeout);
        let servers = self.all();
        let read = |outcome: std::result::Result<_, Failure>| match outcome {
            Ok(replies) => Replies::new("health", replies).version(),
            Err(failure) => Err(failure.error),
        };
        let outcomes: Vec<Result<Box<str>>> = match way {
            Way::Blocking => {
                let ask = |(index, server): (usize, &super::server::Server)| {
                    let request = whole.share(servers.len() - index);
                    read(server.node.call(&request))
                };
                servers.iter().enumerate().map(ask).collect()
            }
            Way::Shared => {
                let ask = |server: &'_ super::server::Server| {
                    let node = std::sync::Arc::clone(&server.node);
                    async move { read(node.call_async(&whole).await) }
                };
                futures_util::future::join_all(servers.iter().map(ask)).await
            }
        };
        let latency = start.elapsed();
        let mut version = None;
        let mut last: Option<BackendError> = None;
        let mut down = Vec::new();
        for (server, outcome) in servers.iter().zip(outcomes) {
            match outcome {
                Ok(found) => version = version.or(Some(found)),
                Err(error) => {
                    down.push(server.node.address.to_string());
                    last = Some(error);
                }
            }
        }
        let version = match (version, last) {
            (Some(version), _) => version.into(),
            (None, Some(error)) => return Err(error),
            (None, None) => String::new(),
        };
        let used = servers.iter().map(|server| server.node.connections());
        let (idle, lent) = used.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let int = |number: usize| Detail::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let details = [
            ("backend_type", Detail::Text("memcached".to_owned())),
            ("latency_ms", Detail::Float(latency.as_secs_f64() * 1e3)),
            ("version", Detail::Text(version)),
            ("configured_servers", int(servers.len())),
            ("reachable_servers", int(servers.len() - down.len())),
            ("unreachable", Detail::Text(down.join(", "))),
            ("created_connections", int(idle + lent)),
            ("in_use_connections", int(lent)),
        ];
        Ok(Health {
            healthy: true,
            latency,
            details: details
                .map(|(name, detail)| (name.to_owned(), detail))
                .into(),
        })
    }
}
