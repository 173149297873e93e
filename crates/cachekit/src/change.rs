//! Storing and forgetting what no function computes: set, invalidate, clear.

use std::sync::Arc;

use bytes::Bytes;
use cachekit_engine::{
    flight::{Join, Leader},
    time::Clock,
};
use cachekit_wire::generation::Generation;

use crate::{
    asking::{here, on_runtime},
    call::Call,
    chain,
    clock::SystemClock,
    core::{self, Core, now},
    error::Error,
    scope::Scope,
    seal::Sealable,
    shared::{self, Shared},
    store::Unavailable,
    value::{self, Delivered, Held, Value},
};

/// A value that is about to replace what is under its key.
struct Putting {
    leader: Leader<Delivered>,
    held: Held,
}

impl Call<'_> {
    /// Stores a value in both layers.
    pub(crate) async fn set<T: Value>(&self, value: T) -> Result<(), Error> {
        if self.core.settings.disabled {
            return Ok(());
        }
        if self.lives_not() {
            return self.invalidate().await;
        }
        let held: Held = Arc::new(value);
        let shared = self.core.shared(self.scope, self.key);
        if shared.is_none() && !self.core.settings.encrypts() {
            self.kept(self.begin(held), None);
            return Ok(());
        }
        let (policy, settings) = (&self.scope.payload, &self.core.settings);
        let sealable = Sealable::new(&held, value::decode::<T>, policy, settings)?;
        let Some(shared) = shared else {
            let (_, held) = self.seal(&sealable, None, None)?;
            self.kept(self.begin(held), None);
            return Ok(());
        };
        let timeout = self.core.settings.timeout;
        let theirs = shared.clone();
        let generation = on_runtime(async move { theirs.generation_async(timeout).await }).await;
        let (bytes, held) = self.seal(
            &sealable,
            Some(&shared),
            generation.as_ref().ok().copied().flatten(),
        )?;
        let putting = self.begin(held);
        let written = match generation {
            Ok(_) => {
                let (theirs, life) = (shared.clone(), self.life);
                on_runtime(async move {
                    let store = theirs.store();
                    store
                        .set_async(theirs.key(), bytes, life, None, timeout)
                        .await
                })
                .await
            }
            Err(unavailable) => Err(unavailable),
        };
        self.kept(putting, Some(&shared));
        written.map_err(not_shared)
    }

    /// [`set`](Self::set) on the calling thread.
    pub(crate) fn set_blocking<T: Value>(&self, value: T) -> Result<(), Error> {
        if self.core.settings.disabled {
            return Ok(());
        }
        if self.lives_not() {
            return self.invalidate_blocking();
        }
        let held: Held = Arc::new(value);
        let shared = self.core.shared(self.scope, self.key);
        if shared.is_none() && !self.core.settings.encrypts() {
            self.kept(self.begin(held), None);
            return Ok(());
        }
        let (policy, settings) = (&self.scope.payload, &self.core.settings);
        let sealable = Sealable::new(&held, value::decode::<T>, policy, settings)?;
        let Some(shared) = shared else {
            let (_, held) = self.seal(&sealable, None, None)?;
            self.kept(self.begin(held), None);
            return Ok(());
        };
        let timeout = self.core.settings.timeout;
        let generation = here(|| shared.generation(timeout));
        let (bytes, held) = self.seal(
            &sealable,
            Some(&shared),
            generation.as_ref().ok().copied().flatten(),
        )?;
        let putting = self.begin(held);
        let written = generation.and_then(|_| {
            let store = shared.store();
            here(|| store.set(shared.key(), &bytes, self.life, None, timeout))
        });
        self.kept(putting, Some(&shared));
        written.map_err(not_shared)
    }

    fn lives_not(&self) -> bool {
        self.life.is_some_and(|life| life.is_zero())
    }

    fn seal(
        &self,
        sealable: &Sealable,
        shared: Option<&Shared>,
        generation: Option<Generation>,
    ) -> Result<(Bytes, Held), Error> {
        let sealer = self.core.sealer(self.scope, self.key);
        let x = shared.map(|shared| shared.extension(generation, self.life, SystemClock.wall()));
        let policy = &self.scope.payload;
        sealable.seal(
            &self.core.settings,
            policy,
            sealer.as_ref(),
            x.unwrap_or_default(),
        )
    }

    /// Takes the key over: a fill that runs no longer counts, and who comes now waits for `held`.
    fn begin(&self, held: Held) -> Putting {
        let leading = chain::current();
        loop {
            drop(self.scope.function.invalidate(self.key));
            let caller = chain::caller(false, &leading);
            // Otherwise somebody else began to fill in between; that one must go too.
            if let Join::Lead(leader) = self.scope.function.join(self.key, caller) {
                return Putting { leader, held };
            }
        }
    }

    fn kept(&self, putting: Putting, shared: Option<&Shared>) {
        let Putting { leader, held } = putting;
        let function = &self.scope.function;
        if self.core.l1.is_some() {
            let entry = core::entry(Arc::clone(&held), now(), self.life, leader.generation());
            drop(function.keep(&leader, Arc::new(entry)));
        }
        if let Some(shared) = shared.filter(|_| !function.may_keep(&leader)) {
            // An invalidation came while the value was being written: it must not outlive it.
            self.core.delete_behind(shared);
        }
        leader.land(Delivered::Value(held));
        self.core.report();
    }

    /// Forgets the key in both layers.
    pub(crate) async fn invalidate(&self) -> Result<(), Error> {
        drop(self.scope.function.invalidate(self.key));
        let Some(shared) = self.core.shared(self.scope, self.key) else {
            return Ok(());
        };
        let timeout = self.core.settings.timeout;
        let deleted = on_runtime(async move {
            let keys = [shared.key().to_owned()];
            shared.store().forget_async(&keys, timeout).await
        })
        .await;
        self.forgotten(deleted)
    }

    /// [`invalidate`](Self::invalidate) on the calling thread.
    pub(crate) fn invalidate_blocking(&self) -> Result<(), Error> {
        drop(self.scope.function.invalidate(self.key));
        let Some(shared) = self.core.shared(self.scope, self.key) else {
            return Ok(());
        };
        let timeout = self.core.settings.timeout;
        let deleted = here(|| shared.store().forget(&[shared.key()], timeout));
        self.forgotten(deleted)
    }

    fn forgotten(&self, told: Result<(), Unavailable>) -> Result<(), Error> {
        // A fill that began meanwhile may have read the entry before it was deleted.
        drop(self.scope.function.invalidate(self.key));
        self.core.report();
        told.map_err(not_forgotten)
    }
}

/// Forgets every entry of `scopes`, in this process and in all that share the store.
pub(crate) async fn clear(core: &Core, scopes: &[Arc<Scope>]) -> Result<(), Error> {
    let mut result = Ok(());
    for scope in scopes {
        drop(scope.function.clear());
        if let Some(store) = core.store.clone() {
            let (clearing, timeout) = (scope.clearing.clone(), core.settings.timeout);
            let clearing = async move { shared::clear_async(&store, &clearing, timeout).await };
            let cleared = on_runtime(clearing).await;
            result = result.and(cleared.map_err(not_forgotten));
        }
        // A fill that began meanwhile may have read an entry before it was cleared.
        drop(scope.function.clear());
    }
    core.report();
    result
}

/// [`clear`] on the calling thread.
pub(crate) fn clear_blocking(core: &Core, scopes: &[Arc<Scope>]) -> Result<(), Error> {
    let mut result = Ok(());
    for scope in scopes {
        drop(scope.function.clear());
        if let Some(store) = &core.store {
            let cleared = here(|| shared::clear(store, &scope.clearing, core.settings.timeout));
            result = result.and(cleared.map_err(not_forgotten));
        }
        drop(scope.function.clear());
    }
    core.report();
    result
}

fn not_shared(cause: Unavailable) -> Error {
    Error::unavailable(
        "stored in this process only",
        cause,
        "other processes see what was there before, until its TTL; set it again later",
    )
}

fn not_forgotten(cause: Unavailable) -> Error {
    Error::unavailable(
        "forgotten in this process only",
        cause,
        "entries in the shared layer live until their TTL; forget them again later",
    )
}
