//! One function's results, keyed by its arguments.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use crate::{
    args::{Args, ArgsError, KeyBytes},
    call::Call,
    change,
    core::{Core, now},
    error::{Error, ErrorKind},
    scope::{Once, Scope},
    stats::Stats,
    value::Value,
};

/// The cached results of one function, from [`Cache::function`](crate::Cache::function).
///
/// Entries are keyed as the protocol says, by the function's name and its [arguments](Args), so that
/// a Python function of the same module, qualified name and namespace shares them:
///
/// ```
/// use cachekit::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let cache = Cache::builder().build()?;
/// // In Python: shop/prices.py, @cache  def price(article: str, quantity: int) -> float
/// let price = cache.function("shop.prices", "price");
/// let total = price
///     .call(&("tea", 3), || async { Ok::<_, std::convert::Infallible>(3.0 * 2.5) })
///     .await;
/// assert_eq!(total, Ok(7.5));
/// # Ok(())
/// # }
/// ```
///
/// Arguments that have no key (their `Serialize` fails, or they are nested more than 512 deep) make
/// the call run uncached, which is logged once per function.
#[derive(Clone)]
pub struct Function {
    core: Arc<Core>,
    scope: Arc<Scope>,
    life: Option<Duration>,
}

impl Function {
    pub(crate) fn new(core: Arc<Core>, scope: Arc<Scope>, life: Option<Duration>) -> Self {
        Self { core, scope, life }
    }

    /// This function, with another life for what is stored through the returned handle. A life of
    /// zero stores nothing.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.life = Some(ttl);
        self
    }

    /// This function, where what is stored through the returned handle lives until it is forgotten.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.life = None;
        self
    }

    /// The function's result for these arguments, computed by `compute` where nobody has it.
    ///
    /// # Errors
    /// Those of `compute`, cloned for each who waits. For errors that do not clone there is
    /// [`try_call`](Self::try_call).
    pub fn call<'s, A, T, E, F, Fut>(
        &'s self,
        args: &A,
        compute: F,
    ) -> impl Future<Output = Result<T, E>> + use<'s, A, T, E, F, Fut>
    where
        A: Args + ?Sized,
        T: Value,
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let key = self.key(args);
        async move {
            let result = self.try_call_key(key, compute).await;
            result.map_err(Arc::unwrap_or_clone)
        }
    }

    /// [`call`](Self::call) for errors that do not clone: all who wait share one.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn try_call<'s, A, T, E, F, Fut>(
        &'s self,
        args: &A,
        compute: F,
    ) -> impl Future<Output = Result<T, Arc<E>>> + use<'s, A, T, E, F, Fut>
    where
        A: Args + ?Sized,
        T: Value,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let key = self.key(args);
        self.try_call_key(key, compute)
    }

    async fn try_call_key<T, E, F, Fut>(
        &self,
        key: Option<KeyBytes>,
        compute: F,
    ) -> Result<T, Arc<E>>
    where
        T: Value,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match key {
            Some(key) => self.at(&key).compute(compute).await,
            None => compute().await.map_err(Arc::new),
        }
    }

    /// [`call`](Self::call) on the calling thread.
    ///
    /// # Errors
    /// Those of `compute`, cloned for each who waits.
    pub fn call_blocking<T, E, F>(&self, args: &(impl Args + ?Sized), compute: F) -> Result<T, E>
    where
        T: Value,
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Result<T, E>,
    {
        self.try_call_blocking(args, compute)
            .map_err(Arc::unwrap_or_clone)
    }

    /// [`try_call`](Self::try_call) on the calling thread.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn try_call_blocking<T, E, F>(
        &self,
        args: &(impl Args + ?Sized),
        compute: F,
    ) -> Result<T, Arc<E>>
    where
        T: Value,
        E: Send + Sync + 'static,
        F: FnOnce() -> Result<T, E>,
    {
        match self.key(args) {
            Some(key) => self.at(&key).compute_blocking(compute),
            None => compute().map_err(Arc::new),
        }
    }

    /// The key of a call's entry in the store.
    ///
    /// # Errors
    /// [`Arguments`](ErrorKind::Arguments) when they have no key.
    pub fn key_for(&self, args: &(impl Args + ?Sized)) -> Result<String, Error> {
        let key = self.strict_key(args)?;
        Ok(self.scope.stored_key(&key))
    }

    /// Forgets a call in both layers; see [`Cache::invalidate`](crate::Cache::invalidate).
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) when it is forgotten in this process only,
    /// [`Arguments`](ErrorKind::Arguments) when the arguments have no key.
    pub fn invalidate<'s, A: Args + ?Sized>(
        &'s self,
        args: &A,
    ) -> impl Future<Output = Result<(), Error>> + use<'s, A> {
        let key = self.strict_key(args);
        async move { self.at(&key?).invalidate().await }
    }

    /// [`invalidate`](Self::invalidate) on the calling thread.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub fn invalidate_blocking(&self, args: &(impl Args + ?Sized)) -> Result<(), Error> {
        let key = self.strict_key(args)?;
        self.at(&key).invalidate_blocking()
    }

    /// Forgets every call; see [`Cache::clear`](crate::Cache::clear).
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) when they are forgotten in this process only.
    pub async fn clear(&self) -> Result<(), Error> {
        change::clear(&self.core, std::slice::from_ref(&self.scope)).await
    }

    /// [`clear`](Self::clear) on the calling thread.
    ///
    /// # Errors
    /// As [`clear`](Self::clear).
    pub fn clear_blocking(&self) -> Result<(), Error> {
        change::clear_blocking(&self.core, std::slice::from_ref(&self.scope))
    }

    /// What happened so far. It looks at every entry of the cache to count this function's.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let function = &self.scope.function;
        Stats {
            entries: function.len(),
            ..Stats::sum(std::iter::once(function.stats.snapshot()))
        }
    }

    /// The key of a call; without one it runs uncached.
    fn key(&self, args: &(impl Args + ?Sized)) -> Option<KeyBytes> {
        let refused = match self.scope.call_key(args) {
            Ok(key) => return Some(key),
            Err(refused) => refused,
        };
        self.scope.function.stats.miss(now());
        self.scope.warn_once(Once::Unkeyable, || {
            format!("called uncached, since its arguments have no key: {refused}")
        });
        None
    }

    fn strict_key(&self, args: &(impl Args + ?Sized)) -> Result<KeyBytes, Error> {
        self.scope.call_key(args).map_err(|refused: ArgsError| {
            Error::new(
                ErrorKind::Arguments,
                format!("the arguments have no key: {refused}"),
                "such calls run uncached; pass arguments that serialize",
            )
        })
    }

    fn at<'a>(&'a self, key: &'a [u8]) -> Call<'a> {
        Call {
            core: &self.core,
            scope: &self.scope,
            key,
            life: self.life,
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.scope.name())
            .field("ttl", &self.life)
            .finish_non_exhaustive()
    }
}
