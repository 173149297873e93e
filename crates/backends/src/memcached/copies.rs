//! What outlives the server that it is on: items that are added, of which the next server in their key's
//! order has a copy.
//!
//! One such item may decide about thousands of entries on all servers. When its server fails the next one
//! stands in for it, and the item is found there like anything else, so that reads cost nothing. Copies are
//! best effort: a call succeeds without. A copy that may be older than the item is removed before this
//! process uses its server again.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::command::{Command, Only, Replies};
use super::life::life;
use super::operations::{Operations, PART, Way, left};
use super::server::Server;
use super::servers::Place;
use crate::deadline::after;
use crate::error::Result;

/// A copy that may be outdated: it is removed before its server is used again, unless this is forgotten.
struct Suspect<'a> {
    server: &'a Server,
    key: &'a str,
}

impl Drop for Suspect<'_> {
    fn drop(&mut self) {
        self.server.missed(self.key);
    }
}

impl Operations {
    /// An item that the first server has lost is the copy if there is one, else the value.
    pub(super) async fn add(
        &self,
        way: Way,
        key: &str,
        value: &[u8],
        timeout: Duration,
    ) -> Result<Bytes> {
        self.check_size(value)?;
        let deadline = after(timeout);
        let place = self.place(key);
        let Some(second) = self.second(&place) else {
            return self.add_at(way, &place, value, deadline).await;
        };
        let get = [Command::get(&place.stored)];
        let mut replies = self.run(way, "add", &place, &get, left(deadline)).await?;
        if let Some((there, _)) = replies.value()? {
            return Ok(there);
        }
        let look = [Command::Get {
            key: &place.stored,
            version: true,
        }];
        let looked = self.ask_in_part(way, second, "add", &look, deadline).await;
        let Some(copy) = looked.and_then(|mut replies| replies.value().ok()) else {
            // It would be older than what is added now.
            second.missed(&place.stored);
            return self.add_at(way, &place, value, deadline).await;
        };
        let value = copy.as_ref().map_or(value, |(copy, _)| copy);
        let there = self.add_at(way, &place, value, deadline).await?;
        // Whoever changes the copy in the meantime knows better.
        let only = match &copy {
            None => Only::IfAbsent,
            Some((copy, _)) if *copy == there => return Ok(there),
            Some((_, flags)) => flags.cas.map_or(Only::IfAbsent, Only::IfVersion),
        };
        let suspect = Suspect {
            server: second,
            key: &place.stored,
        };
        let set = [Command::Set {
            key: &place.stored,
            value: &there,
            life: 0,
            only,
        }];
        let replies = self.ask_in_part(way, second, "add", &set, deadline).await;
        if replies.is_some_and(|mut replies| replies.done().is_ok()) {
            std::mem::forget(suspect);
        }
        Ok(there)
    }

    async fn add_at(
        &self,
        way: Way,
        place: &Place<'_>,
        value: &[u8],
        deadline: Instant,
    ) -> Result<Bytes> {
        let batch = [
            Command::add(&place.stored, value, 0),
            Command::get(&place.stored),
        ];
        loop {
            let mut replies = self.run(way, "add", place, &batch, left(deadline)).await?;
            if replies.done()?.is_some() {
                return Ok(Bytes::copy_from_slice(value));
            }
            // What kept ours out may be gone in the meantime.
            if let Some((value, _)) = replies.value()? {
                return Ok(value);
            }
        }
    }

    pub(super) async fn set_over_add(
        &self,
        way: Way,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> Result<()> {
        let deadline = after(timeout);
        let place = self.place(key);
        let Some(second) = self.second(&place) else {
            return self.set(way, key, value, ttl, timeout).await;
        };
        self.call_back(way, &place, deadline).await;
        let suspect = Suspect {
            server: second,
            key: &place.stored,
        };
        self.set(way, key, value, ttl, left(deadline)).await?;
        let set = [Command::set(&place.stored, value, life("set", ttl)?)];
        let replies = self.ask_in_part(way, second, "set", &set, deadline).await;
        let stored = replies.and_then(|mut replies| replies.done().ok().flatten());
        let Some(flags) = stored else {
            return Ok(());
        };
        // Two who set at once may come to the two servers in different orders.
        let time = left(deadline) / PART;
        if let Ok(Some(there)) = self.get(way, key, false, time).await
            && there.value == value
        {
            std::mem::forget(suspect);
            return Ok(());
        }
        let delete = [Command::Delete {
            key: &place.stored,
            version: flags.cas,
        }];
        let replies = self
            .ask_in_part(way, second, "set", &delete, deadline)
            .await;
        if replies.is_some_and(|mut replies| replies.done().is_ok()) {
            std::mem::forget(suspect);
        }
        Ok(())
    }

    async fn ask_in_part(
        &self,
        way: Way,
        server: &Server,
        operation: &'static str,
        batch: &[Command<'_>],
        deadline: Instant,
    ) -> Option<Replies> {
        let time = left(deadline) / PART;
        match way {
            Way::Blocking => self.ask_blocking(server, operation, batch, time),
            Way::Shared => self.ask_shared(server, operation, batch, time).await,
        }
    }
}
