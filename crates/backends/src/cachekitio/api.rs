//! The API's operations, over one connection and within one deadline.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::call::{Call, Talk};
use super::key;
use super::link::Link;
use super::lock;
use super::{Entry, Live, MAX_TTL};
use crate::backend::{Detail, Found, Health, Remaining};
use crate::error::{BackendError, ErrorKind, Result};

const TTL: HeaderName = HeaderName::from_static("x-cachekit-ttl");
const TTL_OLD: HeaderName = HeaderName::from_static("x-ttl");
const STALE_TTL: HeaderName = HeaderName::from_static("x-cachekit-stale-ttl");
const FRESHNESS: HeaderName = HeaderName::from_static("x-cachekit-freshness");

/// How long a lock is taken for to store what is not there.
const ADDING: Duration = Duration::from_secs(2);

/// What says that a value was stored.
const STORED: [u16; 3] = [200, 201, 204];

/// One conversation with the API.
pub(super) struct Api<'a>(pub(super) Talk<'a>);

impl<'a> Api<'a> {
    pub(super) fn new(
        live: &'a Live,
        link: Arc<Link>,
        timeout: Duration,
        deadline: Instant,
    ) -> Self {
        Self(Talk {
            live,
            link,
            timeout,
            deadline,
        })
    }

    /// The entry, fresh or stale.
    pub(super) async fn entry(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.read(key).await?.map(|(entry, _)| entry))
    }

    /// The entry with its remaining life as the server sent it along.
    async fn read(&self, key: &str) -> Result<Option<(Entry, Option<Duration>)>> {
        let call = Call::new("get", Method::GET, key::path(key, "")).for_value();
        let answer = self.0.ask(&call, &[200, 404]).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let entry = Entry {
            is_stale: is_stale(&answer.headers),
            value: answer.body,
        };
        Ok(Some((entry, seconds(&answer.headers, &TTL))))
    }

    /// The entry if it is fresh.
    pub(super) async fn get(&self, key: &str, want_ttl: bool) -> Result<Option<Found>> {
        let tells_life = &self.0.live.tells_life;
        let (read, life) = if want_ttl && !tells_life.load(Ordering::Relaxed) {
            let (read, life) = try_join(self.read(key), self.ttl(key)).await?;
            (read, life.unwrap_or(Remaining::Unknown))
        } else {
            match self.read(key).await? {
                Some((entry, Some(life))) if want_ttl => {
                    (Some((entry, None)), Remaining::For(life))
                }
                Some(read) if want_ttl => {
                    // This server does not: from now on both are asked for at once.
                    tells_life.store(false, Ordering::Relaxed);
                    let life = self.ttl(key).await?;
                    (Some(read), life.unwrap_or(Remaining::Unknown))
                }
                read => (read, Remaining::Unknown),
            }
        };
        Ok(read
            .filter(|(entry, _)| !entry.is_stale)
            .map(|(entry, _)| Found {
                value: entry.value,
                remaining: life,
            }))
    }

    pub(super) async fn get_with(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
    ) -> Result<(Option<Found>, Option<Bytes>)> {
        let (found, item) = try_join(self.get(key, want_ttl), self.get(beside, false)).await?;
        Ok((found, item.map(|found| found.value)))
    }

    /// Stores the value if there is no entry. The API has no such request, but a lock, under which
    /// one of those who would store it at once does.
    pub(super) async fn add(&self, key: &str, value: &[u8]) -> Result<Bytes> {
        // Without a TTL the service gives its own, which may be short.
        let put = put(key, value, Some(MAX_TTL), None)?;
        let mut pauses = lock::Pauses::default();
        loop {
            if let Some(found) = self.get(key, false).await? {
                return Ok(found.value);
            }
            if let Some(id) = self.acquire(key, ADDING).await? {
                let found = self.get(key, false).await;
                if !matches!(found, Ok(None)) {
                    // A lock that is not given back ends soon.
                    let _ = self.release(key, &id).await;
                }
                if let Some(found) = found? {
                    return Ok(found.value);
                }
                if self.store_under(key, put.clone(), &id).await? {
                    return Ok(Bytes::copy_from_slice(value));
                }
                // Taken away by who has stored something else, or over: look again.
            }
            pauses.nap(self.0.deadline).await;
        }
    }

    /// Stores the value, and ends the lock under which an [`add`](Self::add) may be about to store
    /// another. A service that does not know the header stores it all the same.
    pub(super) async fn set_over_add(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<()> {
        let call = put(key, value, ttl, None)?.header(lock::LOCK_ID, lock::ANYBODY);
        self.0.ask(&call, &STORED).await.map(drop)
    }

    pub(super) async fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        stale_ttl: Option<Duration>,
    ) -> Result<()> {
        let call = put(key, value, ttl, stale_ttl)?;
        self.0.ask(&call, &STORED).await.map(drop)
    }

    /// Removes what is called `key`: an entry, or a lock from whoever holds it.
    pub(super) async fn delete(&self, key: &str) -> Result<bool> {
        match lock::named(key) {
            Some(key) => self.end_lock(key).await,
            None => self.delete_entry(key, false).await,
        }
    }

    /// Removes an entry; `and_lock` takes the lock on it away in the same request.
    async fn delete_entry(&self, key: &str, and_lock: bool) -> Result<bool> {
        let mut call = Call::new("delete", Method::DELETE, key::path(key, ""));
        if and_lock {
            call = call.header(lock::LOCK_ID, lock::ANYBODY);
        }
        let answer = self.0.ask(&call, &[200, 204, 404]).await?;
        Ok(answer.status != 404)
    }

    /// Removes entries and locks. The count is that of entries, and of locks without their entry.
    pub(super) async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        // All of them are under way at once, on one connection.
        const AT_ONCE: usize = 64;
        let locks: HashSet<&str> = keys.iter().filter_map(|key| lock::named(key)).collect();
        let entries: HashSet<&str> = match locks.is_empty() {
            true => HashSet::new(),
            false => keys.iter().copied().collect(),
        };
        // A lock goes in the same request as its entry.
        let alone = |key: &&&str| !lock::named(key).is_some_and(|key| entries.contains(key));
        let keys: Vec<&str> = keys.iter().filter(alone).copied().collect();
        let mut removed = 0;
        for keys in keys.chunks(AT_ONCE) {
            let deleting = keys.iter().map(async |key| match lock::named(key) {
                Some(key) => self.end_lock(key).await,
                None => self.delete_entry(key, locks.contains(key)).await,
            });
            let deleted = try_join_all(deleting).await?;
            removed += deleted.into_iter().map(u64::from).sum::<u64>();
        }
        Ok(removed)
    }

    pub(super) async fn exists(&self, key: &str) -> Result<bool> {
        let call = Call::new("exists", Method::HEAD, key::path(key, ""));
        let answer = self.0.ask(&call, &[200, 204, 404]).await?;
        Ok(answer.status != 404 && !is_stale(&answer.headers))
    }

    pub(super) async fn ttl(&self, key: &str) -> Result<Option<Remaining>> {
        let call = Call::new("ttl", Method::GET, key::path(key, "/ttl"));
        let answer = self.0.ask(&call, &[200, 404]).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        match answer.json().as_ref().and_then(|json| json.get("ttl")) {
            Some(Value::Null) => Ok(Some(Remaining::Forever)),
            Some(ttl) if ttl.as_f64().is_some_and(|ttl| ttl <= 0.0) => Ok(None),
            Some(ttl) => ttl
                .as_f64()
                .and_then(|ttl| Duration::try_from_secs_f64(ttl).ok())
                .map(|ttl| Some(Remaining::For(ttl)))
                .ok_or_else(|| malformed("ttl")),
            None => Err(malformed("ttl")),
        }
    }

    pub(super) async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        let ttl = checked_seconds("expire", ttl)?;
        let call =
            Call::new("expire", Method::PATCH, key::path(key, "/ttl")).json(&json!({ "ttl": ttl }));
        let answer = self.0.ask(&call, &[200, 204, 404]).await?;
        Ok(answer.status != 404)
    }

    pub(super) async fn health(&self) -> Result<Health> {
        let started = Instant::now();
        let call = Call::new("health", Method::GET, "health");
        let answer = self.0.ask(&call, &[200]).await?;
        let latency = started.elapsed();
        let json = answer.json().ok_or_else(|| malformed("health"))?;
        let text = |text: &str| Detail::Text(text.to_owned());
        let version = json.get("version").and_then(Value::as_str);
        let mut details = vec![
            ("backend_type".to_owned(), text("saas")),
            (
                "latency_ms".to_owned(),
                Detail::Float(latency.as_secs_f64() * 1e3),
            ),
            ("api_url".to_owned(), text(self.0.live.config.api_url())),
        ];
        details.push(("version".to_owned(), text(version.unwrap_or("unknown"))));
        Ok(Health {
            healthy: true,
            latency,
            details,
        })
    }
}

/// The request that stores a value.
pub(super) fn put(
    key: &str,
    value: &[u8],
    ttl: Option<Duration>,
    stale_ttl: Option<Duration>,
) -> Result<Call> {
    let mut call =
        Call::new("set", Method::PUT, key::path(key, "")).body(Bytes::copy_from_slice(value));
    if let Some(ttl) = ttl {
        let seconds = HeaderValue::from(checked_seconds("set", ttl)?);
        call = call.header(TTL, seconds.clone()).header(TTL_OLD, seconds);
        if let Some(stale_ttl) = stale_ttl.filter(|stale| !stale.is_zero()) {
            // The sum is the entry's whole life, which has the same bound.
            let stale = stale_ttl.min(MAX_TTL.saturating_sub(ttl));
            if !stale.is_zero() {
                call = call.header(STALE_TTL, whole_seconds(stale));
            }
        }
    }
    Ok(call)
}

/// A life in whole seconds as the API takes it: rounded up, and no longer than it allows.
fn checked_seconds(operation: &'static str, ttl: Duration) -> Result<u64> {
    if ttl.is_zero() {
        let message = "a ttl of 0 would be over at once; give a positive one";
        return Err(BackendError::new(ErrorKind::Permanent, operation, message));
    }
    let ttl = ttl.min(MAX_TTL);
    Ok(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0))
}

fn whole_seconds(span: Duration) -> HeaderValue {
    HeaderValue::from(span.as_secs() + u64::from(span.subsec_nanos() > 0))
}

fn is_stale(headers: &HeaderMap) -> bool {
    headers
        .get(FRESHNESS)
        .is_some_and(|freshness| freshness != "fresh")
}

fn seconds(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    let seconds: f64 = headers.get(name)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The error of an answer that is not what the API promises.
pub(super) fn malformed(operation: &'static str) -> BackendError {
    BackendError::new(
        ErrorKind::Transient,
        operation,
        "the API's answer is not the JSON that it should be; check CACHEKIT_API_URL",
    )
}
