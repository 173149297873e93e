//! The cache as its users hold it.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use cachekit_wire::interop::Operation;

use crate::{
    builder::CacheBuilder, call::Call, change, core::Core, error::Error, function::Function,
    interop::is_usual_uuid, stats::Stats, value::Value,
};

/// A two-layer cache: values in this process (L1) over a store that processes share (L2).
///
/// Cloning is cheap, and clones share everything. [`Cache::builder`] and the presets make one,
/// [`Cache::from_env`] reads the environment.
///
/// ```
/// use cachekit::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let cache = Cache::builder().namespace("docs").build()?;
///
/// let squares: Vec<u64> = cache
///     .get_or_compute("squares", || async {
///         Ok::<_, std::convert::Infallible>((0..4).map(|i| i * i).collect())
///     })
///     .await
///     .unwrap();
/// assert_eq!(squares, [0, 1, 4, 9]);
/// assert_eq!(cache.get::<Vec<u64>>("squares").await, Some(squares));
/// # Ok(())
/// # }
/// ```
///
/// # What computing through a cache promises
///
/// - Of all callers that miss a key at once, tasks and threads together, one computes; where the
///   store has locks, one among all processes. The others get clones of its result.
/// - An error of the function reaches every caller who waits for it and is not stored.
/// - Nothing that happens to the store reaches the caller. When it is down, slow or full of garbage,
///   the function's result comes back, after the [timeout](CacheBuilder::timeout) at most.
/// - A caller that is dropped, or panics, hands over to one who waits.
/// - A function that calls for its own key, or in a circle, runs by itself instead of waiting.
///   That is told by the task's or thread's own calls. In a task that the function spawns it is
///   not, and the call waits for [`lock_wait`](CacheBuilder::lock_wait) before it runs.
///
/// The function runs in the caller's own task or thread; only the store's I/O runs on a thread of
/// ours, so that any executor will do. What is found is cloned, see [`Value`].
#[derive(Clone)]
pub struct Cache {
    core: Arc<Core>,
    /// The life of what is stored through this clone; `None` is without end.
    life: Option<Duration>,
}

impl Cache {
    pub(crate) fn new(core: Core) -> Self {
        Self {
            life: core.settings.ttl,
            core: Arc::new(core),
        }
    }

    /// A builder with every protection on and no store: what is cached stays in this process.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::production()
    }

    /// The preset for speed: no guards before the store, no checksums.
    ///
    /// Checksums are part of an entry's key or of how it is read, so that all who share a store
    /// must agree on them.
    pub fn minimal() -> CacheBuilder {
        CacheBuilder::minimal()
    }

    /// The preset with every protection: breaker, backpressure, adaptive timeout, checksums.
    pub fn production() -> CacheBuilder {
        CacheBuilder::production()
    }

    /// The preset for tests: deterministic, since no guard remembers an earlier failure. Entries are
    /// those of [`minimal`](Self::minimal).
    pub fn test() -> CacheBuilder {
        CacheBuilder::minimal()
    }

    /// The cache that the environment describes; see [`CacheBuilder::from_env`].
    ///
    /// # Errors
    /// When a variable's value cannot be used; the error names the variable.
    pub fn from_env() -> Result<Self, Error> {
        CacheBuilder::from_env()?.build()
    }

    /// This cache, with another life for what is stored through the returned clone. A life of zero
    /// stores nothing.
    #[must_use]
    pub fn with_ttl(&self, ttl: Duration) -> Self {
        Self {
            core: Arc::clone(&self.core),
            life: Some(ttl),
        }
    }

    /// This cache, where what is stored through the returned clone lives until it is forgotten.
    #[must_use]
    pub fn forever(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            life: None,
        }
    }

    /// The entries of the function `module`.`name`, keyed by its arguments.
    ///
    /// A Python function of that module and qualified name, decorated with the same namespace,
    /// shares them.
    #[must_use]
    pub fn function(&self, module: &str, name: &str) -> Function {
        let scope = self.core.function(module, name);
        Function::new(Arc::clone(&self.core), scope, self.life)
    }

    /// The entries of an operation that programs in other languages share: interop mode.
    ///
    /// A Python function with `@cache(interop="get_user", namespace="users")` and any other CacheKit
    /// SDK have the same keys and values, whatever the functions are called. All arguments go into a
    /// tuple or struct, in the order of their declaration, defaults included. Values are one
    /// MessagePack document; a struct is a map of its fields' names.
    ///
    /// ```no_run
    /// use cachekit::prelude::*;
    ///
    /// # async fn run() -> Result<(), Error> {
    /// let cache = Cache::builder().redis("redis://localhost:6379/0").namespace("users").build()?;
    /// let get_user = cache.interop("get_user")?;
    /// // In Python: @cache(interop="get_user", namespace="users")  def user(id: int, full: bool = False)
    /// let name = get_user
    ///     .call(&(42, false), || async { Ok::<_, std::convert::Infallible>("Ada".to_owned()) })
    ///     .await;
    /// assert_eq!(name, Ok("Ada".to_owned()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// An entry says nothing but its value. It is as fresh as the store's remaining life, and
    /// [`Function::clear`] removes the entries that this process has written or found; those that only
    /// others know live until their TTL.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) without a namespace, without a store, with a
    /// tenant (whose prefix other programs do not know), with [encryption](CacheBuilder::encryption) and no
    /// [deployment](CacheBuilder::deployment) that is a UUID in its usual form (keys are derived from its
    /// text, and entries do not name it), and for names that are not `[a-z0-9][a-z0-9._-]{0,63}`.
    pub fn interop(&self, operation: &str) -> Result<Function, Error> {
        let settings = &self.core.settings;
        let refused = |what: &str, remedy| Err(Error::configuration(what, remedy));
        let Some(namespace) = &settings.namespace else {
            return refused(
                "interop mode needs a namespace",
                "name one with namespace()",
            );
        };
        if settings.tenant.is_some() {
            return refused(
                "interop mode and a tenant: its prefix to keys is unknown to other programs",
                "leave tenant() out, and name the store with redis() or backend() where the \
                 environment would",
            );
        }
        if self.core.store.is_none() && !settings.disabled {
            return refused(
                "interop mode needs a store that programs share",
                "name one with redis() or backend()",
            );
        }
        let named = settings.deployment.as_deref();
        if settings.encrypts() && !named.is_some_and(is_usual_uuid) {
            return refused(
                "interop mode and encryption: no deployment that every program spells alike",
                "name one with deployment(): a UUID in lower-case hexadecimal with hyphens",
            );
        }
        let operation = Operation::new(namespace, operation)
            .map_err(|error| Error::configuration(error, "rename it"))?;
        let scope = self.core.operation(operation);
        Ok(Function::new(Arc::clone(&self.core), scope, self.life))
    }

    /// The value under `key`, computed by `compute` where nobody has it.
    ///
    /// ```
    /// # use cachekit::prelude::*;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let cache = Cache::builder().build()?;
    /// # async fn load(id: u32) -> Result<String, std::num::ParseIntError> { Ok(format!("user {id}")) }
    /// let user = cache.get_or_compute("user:42", || load(42)).await;
    /// assert_eq!(user, Ok("user 42".to_owned()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `compute`, cloned for each who waits. For errors that do not clone there is
    /// [`get_or_try_compute`](Self::get_or_try_compute).
    pub fn get_or_compute<'s, T, E, F, Fut>(
        &'s self,
        key: &str,
        compute: F,
    ) -> impl Future<Output = Result<T, E>> + use<'s, T, E, F, Fut>
    where
        T: Value,
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let result = self.get_or_try_compute(key, compute);
        async move { result.await.map_err(Arc::unwrap_or_clone) }
    }

    /// [`get_or_compute`](Self::get_or_compute) for errors that do not clone: all who wait share one.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn get_or_try_compute<'s, T, E, F, Fut>(
        &'s self,
        key: &str,
        compute: F,
    ) -> impl Future<Output = Result<T, Arc<E>>> + use<'s, T, E, F, Fut>
    where
        T: Value,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let key = self.core.texts.text_key(key);
        async move { self.call(&key).compute(compute).await }
    }

    /// [`get_or_compute`](Self::get_or_compute) on the calling thread.
    ///
    /// # Errors
    /// Those of `compute`, cloned for each who waits.
    pub fn get_or_compute_blocking<T, E, F>(&self, key: &str, compute: F) -> Result<T, E>
    where
        T: Value,
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Result<T, E>,
    {
        self.get_or_try_compute_blocking(key, compute)
            .map_err(Arc::unwrap_or_clone)
    }

    /// [`get_or_try_compute`](Self::get_or_try_compute) on the calling thread.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn get_or_try_compute_blocking<T, E, F>(&self, key: &str, compute: F) -> Result<T, Arc<E>>
    where
        T: Value,
        E: Send + Sync + 'static,
        F: FnOnce() -> Result<T, E>,
    {
        let key = self.core.texts.text_key(key);
        self.call(&key).compute_blocking(compute)
    }

    /// The value under `key`, if either layer has one of this type. A store that cannot be asked has
    /// none.
    pub fn get<'s, T: Value>(&'s self, key: &str) -> impl Future<Output = Option<T>> + use<'s, T> {
        let key = self.core.texts.text_key(key);
        async move { self.call(&key).get().await }
    }

    /// [`get`](Self::get) on the calling thread.
    #[must_use]
    pub fn get_blocking<T: Value>(&self, key: &str) -> Option<T> {
        let key = self.core.texts.text_key(key);
        self.call(&key).get_blocking()
    }

    /// Stores `value` under `key` in both layers. A computation of the key that runs in this process
    /// is kept out of them.
    ///
    /// # Errors
    /// [`Value`](crate::ErrorKind::Value) when it cannot be stored, and what was there stays;
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when it is stored in this process only.
    pub fn set<'s, T: Value>(
        &'s self,
        key: &str,
        value: T,
    ) -> impl Future<Output = Result<(), Error>> + use<'s, T> {
        let key = self.core.texts.text_key(key);
        async move { self.call(&key).set(value).await }
    }

    /// [`set`](Self::set) on the calling thread.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_blocking<T: Value>(&self, key: &str, value: T) -> Result<(), Error> {
        let key = self.core.texts.text_key(key);
        self.call(&key).set_blocking(value)
    }

    /// Forgets `key` in both layers. A computation of it that runs in this process is kept out of
    /// them; copies in other processes live until their TTL.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when it is forgotten in this process only.
    pub fn invalidate<'s>(
        &'s self,
        key: &str,
    ) -> impl Future<Output = Result<(), Error>> + use<'s> {
        let key = self.core.texts.text_key(key);
        async move { self.call(&key).invalidate().await }
    }

    /// [`invalidate`](Self::invalidate) on the calling thread.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub fn invalidate_blocking(&self, key: &str) -> Result<(), Error> {
        let key = self.core.texts.text_key(key);
        self.call(&key).invalidate_blocking()
    }

    /// Forgets every entry of the namespace that is named by text, and those of every
    /// [`function`](Self::function) that this cache was asked for. It costs the same however many
    /// there are; copies in the memory of other processes live until their TTL.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when some are forgotten in this process only.
    pub async fn clear(&self) -> Result<(), Error> {
        change::clear(&self.core, &self.core.scopes()).await
    }

    /// [`clear`](Self::clear) on the calling thread.
    ///
    /// # Errors
    /// As [`clear`](Self::clear).
    pub fn clear_blocking(&self) -> Result<(), Error> {
        change::clear_blocking(&self.core, &self.core.scopes())
    }

    /// What happened so far, over all entries and functions of this cache.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let scopes = self.core.scopes();
        let mut stats = Stats::sum(scopes.iter().map(|scope| scope.function.stats.snapshot()));
        stats.refused = self.core.security.total();
        if let Some(l1) = &self.core.l1 {
            (stats.entries, stats.bytes) = (l1.len(), l1.weight());
        }
        stats
    }

    fn call<'a>(&'a self, key: &'a [u8]) -> Call<'a> {
        Call {
            core: &self.core,
            scope: &self.core.texts,
            key,
            life: self.life,
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = self.core.store.as_ref().map(|store| store.backend().name());
        f.debug_struct("Cache")
            .field("namespace", &self.core.settings.namespace)
            .field("backend", &backend)
            .field("ttl", &self.life)
            .finish_non_exhaustive()
    }
}
