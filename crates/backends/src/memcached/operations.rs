//! What the backend does, written once for blocking and asynchronous callers.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::command::{Command, Replies};
use super::config::MemcachedConfig;
use super::life::{life, remaining};
use super::protocol::Request;
use super::servers::{AT_ONCE, Place, Servers};
use crate::backend::{Found, Remaining};
use crate::deadline::after;
use crate::error::{BackendError, ErrorKind, Result};
use crate::process::PerProcess;

/// How requests are sent and replies waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// On the calling thread, over its server's pool. Futures of operations are ready at once.
    Blocking,
    /// On the current runtime's shared connections.
    Shared,
}

/// One of how many parts of the time that is left a request may take that the operation succeeds without.
pub(super) const PART: u32 = 4;

/// The operations, on the servers of one backend.
pub(super) struct Operations {
    pub(super) config: MemcachedConfig,
    live: PerProcess<Arc<Servers>>,
}

/// The time that is left, or none.
pub(super) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

impl Deref for Operations {
    type Target = Servers;

    fn deref(&self) -> &Servers {
        self.live.get(|| Arc::new(Servers::new(&self.config)))
    }
}

impl Operations {
    pub(super) fn new(config: MemcachedConfig) -> Self {
        let live = PerProcess::new(Arc::new(Servers::new(&config)));
        Self { config, live }
    }

    pub(super) async fn run(
        &self,
        way: Way,
        operation: &'static str,
        place: &Place<'_>,
        batch: &[Command<'_>],
        timeout: Duration,
    ) -> Result<Replies> {
        match way {
            Way::Blocking => self.run_blocking(operation, place, batch, timeout),
            Way::Shared => self.run_shared(operation, place, batch, timeout).await,
        }
    }

    pub(super) async fn get(
        &self,
        way: Way,
        key: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<Option<Found>> {
        let place = self.place(key);
        let batch = [Command::get(&place.stored)];
        self.run(way, "get", &place, &batch, timeout)
            .await?
            .found(want_ttl)
    }

    pub(super) async fn get_with(
        &self,
        way: Way,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>)> {
        let (place, other) = (self.place(key), self.place(beside));
        if self.are_together(&place, &other) {
            let batch = [Command::get(&place.stored), Command::get(&other.stored)];
            let mut replies = self.run(way, "get", &place, &batch, timeout).await?;
            let found = replies.found(want_ttl)?;
            return Ok((found, replies.value()?.map(|(value, _)| value)));
        }
        let (found, item) = match way {
            Way::Shared => {
                futures_util::future::try_join(
                    self.get(way, key, want_ttl, timeout),
                    self.get(way, beside, false, timeout),
                )
                .await?
            }
            Way::Blocking => {
                // The first request is on its way while the second one is answered.
                let deadline = after(timeout);
                let batch = [Command::get(&place.stored)];
                let request = Request::new("get", &batch, timeout);
                let started = self
                    .preferred(&place)
                    .and_then(|(_, server)| server.node.start(&request));
                let item = self.get(way, beside, false, timeout).await?;
                let found = match started.and_then(|started| started.finish()) {
                    Some(replies) => Replies::new("get", replies).found(want_ttl)?,
                    None => self.get(way, key, want_ttl, left(deadline)).await?,
                };
                (found, item)
            }
        };
        Ok((found, item.map(|found| found.value)))
    }

    pub(super) async fn set(
        &self,
        way: Way,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> Result<()> {
        self.check_size(value)?;
        let place = self.place(key);
        let batch = [Command::set(&place.stored, value, life("set", ttl)?)];
        let mut replies = self.run(way, "set", &place, &batch, timeout).await?;
        match replies.done()? {
            Some(_) => Ok(()),
            None => Err(super::error::unexpected("set")),
        }
    }

    /// Takes a server into use again that comes before those which stand in for it, if it answers. Others may
    /// be using it already, and would not see what is removed or cleared elsewhere.
    pub(super) async fn call_back(&self, way: Way, place: &Place<'_>, deadline: Instant) {
        for server in self.passed(place) {
            if self.is_back(way, server, left(deadline) / PART).await {
                break;
            }
        }
    }

    async fn delete_at(&self, way: Way, place: &Place<'_>, deadline: Instant) -> Result<bool> {
        let now = Instant::now();
        if self.passed(place).any(|server| server.may_be_called(now)) {
            self.call_back(way, place, deadline).await;
        }
        let batch = [Command::delete(&place.stored)];
        let mut replies = self
            .run(way, "delete", place, &batch, left(deadline))
            .await?;
        Ok(replies.done()?.is_some())
    }

    pub(super) async fn delete(&self, way: Way, key: &str, timeout: Duration) -> Result<bool> {
        self.delete_at(way, &self.place(key), after(timeout)).await
    }

    pub(super) async fn delete_many(
        &self,
        way: Way,
        keys: &[&str],
        timeout: Duration,
    ) -> Result<u64> {
        let deadline = after(timeout);
        let mut groups: BTreeMap<Option<usize>, Vec<Place<'_>>> = BTreeMap::new();
        for key in keys {
            let place = self.place(key);
            let server = self.preferred(&place).map(|(index, _)| index);
            groups.entry(server).or_default().push(place);
        }
        let groups = groups
            .into_iter()
            .map(|(server, places)| self.delete_group(way, server, places, deadline));
        let counts = match way {
            Way::Shared => try_join_all(groups).await?,
            Way::Blocking => {
                let mut counts = Vec::new();
                for group in groups {
                    counts.push(group.await?);
                }
                counts
            }
        };
        Ok(counts.into_iter().sum())
    }

    /// Deletes what is on one server, many at once; one by one where a server is not well.
    async fn delete_group(
        &self,
        way: Way,
        server: Option<usize>,
        places: Vec<Place<'_>>,
        deadline: Instant,
    ) -> Result<u64> {
        let mut removed = 0;
        for places in places.chunks(AT_ONCE) {
            let batch: Vec<_> = places
                .iter()
                .map(|place| Command::delete(&place.stored))
                .collect();
            let request = Request::new("delete", &batch, left(deadline));
            let replies = match (server.map(|index| &self.all()[index].node), way) {
                (Some(node), Way::Blocking) => node.call(&request).ok(),
                (Some(node), Way::Shared) => node.call_async(&request).await.ok(),
                (None, _) => None,
            };
            if let Some(replies) = replies {
                let mut replies = Replies::new("delete", replies);
                for _ in places {
                    removed += u64::from(replies.done()?.is_some());
                }
                continue;
            }
            for place in places {
                removed += u64::from(self.delete_at(way, place, deadline).await?);
            }
        }
        Ok(removed)
    }

    pub(super) async fn exists(&self, way: Way, key: &str, timeout: Duration) -> Result<bool> {
        Ok(self.look(way, "exists", key, timeout).await?.is_some())
    }

    pub(super) async fn ttl(
        &self,
        way: Way,
        key: &str,
        timeout: Duration,
    ) -> Result<Option<Remaining>> {
        self.look(way, "ttl", key, timeout).await
    }

    async fn look(
        &self,
        way: Way,
        operation: &'static str,
        key: &str,
        timeout: Duration,
    ) -> Result<Option<Remaining>> {
        let place = self.place(key);
        let batch = [Command::Look { key: &place.stored }];
        let mut replies = self.run(way, operation, &place, &batch, timeout).await?;
        Ok(replies.done()?.map(|flags| remaining(flags.ttl)))
    }

    pub(super) async fn expire(
        &self,
        way: Way,
        key: &str,
        ttl: Duration,
        timeout: Duration,
    ) -> Result<bool> {
        let life = life("expire", Some(ttl))?;
        let place = self.place(key);
        let batch = [Command::Touch {
            key: &place.stored,
            life,
        }];
        let mut replies = self.run(way, "expire", &place, &batch, timeout).await?;
        Ok(replies.done()?.is_some())
    }

    pub(super) fn check_size(&self, value: &[u8]) -> Result<()> {
        let limit = self.config.max_item_size;
        if limit == 0 || value.len() <= limit {
            return Ok(());
        }
        Err(BackendError::new(
            ErrorKind::Permanent,
            "set",
            format!(
                "a value of {} bytes is larger than max_item_size_bytes ({limit}); cache less in one value, or raise \
                 it together with the server's own limit (-I)",
                value.len()
            ),
        ))
    }
}
