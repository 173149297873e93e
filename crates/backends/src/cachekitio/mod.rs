//! The CachekitIO API, managed or self-hosted: entries behind HTTP/2 over TLS.
//!
//! The API is that of the protocol's HTTP chapter. What a server does beyond it is used, and done
//! without where it is missing: the remaining life of an entry sent along with it, and what locks can
//! do on `cachekit serve`. `docs/cachekitio.md` has the table.
//!
//! Blocking calls use a small pool of connections, each served by the calling thread. Asynchronous
//! calls of one tokio runtime share one connection.

mod address;
mod aio;
mod api;
mod call;
mod config;
mod connect;
mod error;
mod key;
mod link;
mod lock;
mod session;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::Semaphore;

use self::api::Api;
use self::call::Answer;
pub use self::config::{CachekitIOConfig, DEFAULT_URL};
use self::connect::Connector;
use self::link::{Links, Slot};
use self::lock::Holders;
use self::session::Session;
use crate::backend::{AsyncBackend, Backend, Capabilities, Found, Health, Locking, Remaining};
use crate::deadline::after;
use crate::error::{BackendError, ErrorKind, Result};
use crate::net::pool::Pool;
use crate::process::PerProcess;
use crate::tally::Tally;

/// The longest life that the API gives an entry: 30 days.
pub const MAX_TTL: Duration = Duration::from_secs(2_592_000);
/// The largest value that is read.
const MAX_VALUE: usize = 256 << 20;

/// A [`Backend`] that keeps entries in a CachekitIO service.
///
/// Nothing is connected before the first call. Each instance has connections, key and settings of
/// its own.
pub struct CachekitIOBackend(Client);

/// What the blocking, the locking and the asynchronous operations work on.
struct Client {
    config: CachekitIOConfig,
    tally: Arc<Tally>,
    live: PerProcess<Arc<Live>>,
}

/// What belongs to one process.
struct Live {
    config: CachekitIOConfig,
    connector: Connector,
    authorization: HeaderValue,
    session: Session,
    blocking: Pool<Slot>,
    links: Links,
    holders: Holders,
    /// Whether the server sends an entry's remaining life with the entry. Assumed until it does not.
    tells_life: AtomicBool,
    /// Whether the server tells when a lock is free. Assumed until it does not.
    tells_locks: AtomicBool,
    /// Those who wait for the server to tell.
    watchers: Semaphore,
}

/// An entry as the API tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stored bytes.
    pub value: Bytes,
    /// Whether its TTL has passed, and it is served during its `stale_ttl` only.
    pub is_stale: bool,
}

impl CachekitIOBackend {
    /// A backend for the service that `config` names.
    #[must_use]
    pub fn new(config: CachekitIOConfig) -> Self {
        let tally = Arc::default();
        let live = PerProcess::new(Live::new(&config, Session::new(&tally)));
        Self(Client {
            config,
            tally,
            live,
        })
    }

    /// The API's URL.
    #[must_use]
    pub fn api_url(&self) -> &str {
        self.0.config.api_url()
    }

    /// The entry under `key` with whether its TTL has passed; [`Backend::get`] gives fresh ones only.
    ///
    /// # Errors
    /// Those of [`Backend::get`].
    pub fn get_with_freshness(&self, key: &str, timeout: Duration) -> Result<Option<Entry>> {
        self.0
            .block("get", timeout, async |api: Api<'_>| api.entry(key).await)
    }

    /// Stores `value` for `ttl`, after which it can be had for `stale_ttl` more, as stale.
    ///
    /// # Errors
    /// Those of [`Backend::set`].
    pub fn set_with_stale(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        stale_ttl: Option<Duration>,
        timeout: Duration,
    ) -> Result<()> {
        self.0.block("set", timeout, async |api: Api<'_>| {
            api.set(key, value, ttl, stale_ttl).await
        })
    }

    /// Takes the lock on `key` once; the lock's id as the service gave it, None where it is held.
    /// [`Locking::unlock`] takes the id for a token.
    ///
    /// # Errors
    /// Those of [`Locking::try_lock`].
    pub fn acquire(&self, key: &str, lease: Duration, timeout: Duration) -> Result<Option<String>> {
        self.0.block("lock", timeout, async |api: Api<'_>| {
            api.acquire(key, lease).await
        })
    }

    /// [`Self::get_with_freshness`] as a future, to be polled inside a tokio runtime.
    ///
    /// # Errors
    /// Those of [`Backend::get`].
    pub async fn get_with_freshness_async(
        &self,
        key: &str,
        timeout: Duration,
    ) -> Result<Option<Entry>> {
        self.0.here(timeout).entry(key).await
    }

    /// [`Self::set_with_stale`] as a future, to be polled inside a tokio runtime.
    ///
    /// # Errors
    /// Those of [`Backend::set`].
    pub async fn set_with_stale_async(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        stale_ttl: Option<Duration>,
        timeout: Duration,
    ) -> Result<()> {
        self.0.here(timeout).set(key, value, ttl, stale_ttl).await
    }

    /// [`Self::acquire`] as a future, to be polled inside a tokio runtime.
    ///
    /// # Errors
    /// Those of [`Locking::try_lock`].
    pub async fn acquire_async(
        &self,
        key: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<Option<String>> {
        self.0.here(timeout).acquire(key, lease).await
    }
}

impl Client {
    fn live(&self) -> &Arc<Live> {
        self.live
            .get(|| Live::new(&self.config, Session::of_child(&self.tally)))
    }

    /// Runs a conversation on the calling thread.
    fn block<R: Send>(
        &self,
        operation: &'static str,
        timeout: Duration,
        talk: impl AsyncFnOnce(Api<'_>) -> Result<R> + Send,
    ) -> Result<R> {
        if tokio::runtime::Handle::try_current().is_ok() {
            // A runtime's thread cannot wait for another runtime; a thread without one can.
            return std::thread::scope(|scope| {
                let waiting = scope.spawn(|| self.block_here(operation, timeout, talk));
                waiting
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
        }
        self.block_here(operation, timeout, talk)
    }

    fn block_here<R>(
        &self,
        operation: &'static str,
        timeout: Duration,
        talk: impl AsyncFnOnce(Api<'_>) -> Result<R>,
    ) -> Result<R> {
        let deadline = after(timeout);
        let live = self.live();
        let Some((place, idle)) = live.blocking.take(deadline) else {
            let message = format!(
                "all {} connections were busy for {timeout:?}; raise connection_pool_size",
                self.config.pool_size
            );
            return Err(BackendError::new(ErrorKind::Timeout, operation, message));
        };
        let slot = idle.map_or_else(Slot::new, Ok).map_err(|error| {
            let message = format!("no poller for a connection: {error}");
            BackendError::new(ErrorKind::Transient, operation, message).with_source(error)
        })?;
        let api = Api::new(live, Arc::clone(&slot.link), timeout, deadline);
        let result = slot.block_on(talk(api));
        place.give_back(slot);
        result
    }

    /// A conversation in the runtime that polls this.
    fn here(&self, timeout: Duration) -> Api<'_> {
        let live = self.live();
        Api::new(live, live.links.here(), timeout, after(timeout))
    }
}

impl Live {
    fn new(config: &CachekitIOConfig, session: Session) -> Arc<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", config.key()))
            .expect("the key was found to be visible ASCII");
        authorization.set_sensitive(true);
        Arc::new(Self {
            config: config.clone(),
            connector: Connector::new(config.clone()),
            authorization,
            session,
            blocking: Pool::new(config.pool_size),
            links: Links::default(),
            holders: Holders::default(),
            tells_life: AtomicBool::new(true),
            tells_locks: AtomicBool::new(true),
            watchers: Semaphore::new(lock::WATCHERS),
        })
    }

    /// The server's reason for a refusal, in one short line and without the key, should it have sent
    /// that back.
    fn reason(&self, answer: &Answer) -> String {
        const SHOWN: usize = 200;
        let json = answer.json();
        let field = |name: &str| Some(json.as_ref()?.get(name)?.as_str()?.to_owned());
        let text = ["error", "message", "reason", "detail"]
            .into_iter()
            .find_map(field)
            .unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned());
        text.replace(self.config.key(), "***")
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SHOWN)
            .collect::<String>()
            .trim()
            .to_owned()
    }
}

impl fmt::Debug for CachekitIOBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachekitIOBackend")
            .field(&self.0.config)
            .finish()
    }
}

impl Backend for CachekitIOBackend {
    fn name(&self) -> &'static str {
        "cachekitio"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ttl: true,
            lock: true,
            max_ttl: Some(MAX_TTL),
            max_key: Some(key::MAX_LENGTH),
            max_value: Some(MAX_VALUE),
        }
    }

    fn get(&self, key: &str, want_ttl: bool, timeout: Duration) -> Result<Option<Found>> {
        self.0.block("get", timeout, async |api: Api<'_>| {
            api.get(key, want_ttl).await
        })
    }

    fn get_with(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>)> {
        self.0.block("get", timeout, async |api: Api<'_>| {
            api.get_with(key, beside, want_ttl).await
        })
    }

    fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes> {
        self.0.block("add", timeout, async |api: Api<'_>| {
            api.add(key, value).await
        })
    }

    fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, timeout: Duration) -> Result<()> {
        self.set_with_stale(key, value, ttl, None, timeout)
    }

    fn set_over_add(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> Result<()> {
        self.0.block("set", timeout, async |api: Api<'_>| {
            api.set_over_add(key, value, ttl).await
        })
    }

    fn delete(&self, key: &str, timeout: Duration) -> Result<bool> {
        self.0.block("delete", timeout, async |api: Api<'_>| {
            api.delete(key).await
        })
    }

    fn delete_many(&self, keys: &[&str], timeout: Duration) -> Result<u64> {
        self.0.block("delete", timeout, async |api: Api<'_>| {
            api.delete_many(keys).await
        })
    }

    fn exists(&self, key: &str, timeout: Duration) -> Result<bool> {
        self.0.block("exists", timeout, async |api: Api<'_>| {
            api.exists(key).await
        })
    }

    fn ttl(&self, key: &str, timeout: Duration) -> Result<Option<Remaining>> {
        self.0
            .block("ttl", timeout, async |api: Api<'_>| api.ttl(key).await)
    }

    fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool> {
        self.0.block("expire", timeout, async |api: Api<'_>| {
            api.expire(key, ttl).await
        })
    }

    fn health(&self, timeout: Duration) -> Result<Health> {
        self.0
            .block("health", timeout, async |api: Api<'_>| api.health().await)
    }

    fn lock(&self) -> Option<&dyn Locking> {
        Some(&self.0)
    }

    fn aio(&self) -> Option<&dyn AsyncBackend> {
        Some(&self.0)
    }

    fn tally(&self) -> Option<&Tally> {
        Some(&self.0.tally)
    }

    fn after_fork(&self) {
        self.0.live();
    }
}
