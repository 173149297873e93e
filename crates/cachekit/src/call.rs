//! One key's dealings with both layers, for blocking callers and for tasks of any executor.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use cachekit_engine::{
    fill::Fill,
    flight::{Join, Leader, Waiter},
    time::Clock,
};

use crate::{
    asking::{Asking, ask_blocking},
    chain,
    clock::SystemClock,
    core::{Core, now},
    filling::{Filling, Next},
    park::block_on,
    runtime,
    scope::Scope,
    value::{self, Delivered, Failure, Held, Value},
};

/// How often a parked thread looks up; nothing depends on it.
const LOOK_UP: Duration = Duration::from_secs(60);

/// A key of a cache, and how long what is stored under it lives.
pub(crate) struct Call<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) scope: &'a Arc<Scope>,
    pub(crate) key: &'a [u8],
    pub(crate) life: Option<Duration>,
}

/// How a caller that missed goes on.
enum Turn<T> {
    Done(T),
    Lead(Box<Filling>),
    Wait(Waiter<Delivered>),
    Alone,
}

/// What came of waiting for a flight.
enum Landed<T, E> {
    Done(Result<T, Arc<E>>),
    Abandoned,
    /// Out of patience, or a result of other types than this caller's.
    Alone,
}

/// A function's result, as its own caller gets it and as everybody else does.
type Ran<T, E> = (Result<Arc<T>, Arc<E>>, Result<Held, Failure>);

fn split<T: Value, E: Send + Sync + 'static>(result: Result<T, E>) -> Ran<T, E> {
    match result {
        Ok(value) => {
            let value = Arc::new(value);
            (Ok(Arc::clone(&value)), Ok(value))
        }
        Err(error) => {
            let error = Arc::new(error);
            (Err(Arc::clone(&error)), Err(error))
        }
    }
}

impl Call<'_> {
    /// The value in L1.
    pub(crate) fn hit<T: Value>(&self) -> Option<T> {
        let now = SystemClock.coarse();
        let hit = self.scope.function.lookup(self.key, now)?;
        let value = value::hand_out(&hit.entry.value)?;
        self.scope.function.stats.l1_hit(now);
        Some(value)
    }

    fn filling<T: Value>(&self, leader: Option<Leader<Delivered>>, fill: Fill) -> Filling {
        let shared = self.core.shared(self.scope, self.key);
        let sealer = self.core.sealer(self.scope, self.key);
        let reading = (value::decode::<T> as value::Decode, self.life);
        Filling::new(
            (self.core, self.scope),
            leader,
            fill,
            (shared, sealer),
            reading,
        )
    }

    fn turn<T: Value>(&self, blocking: bool) -> Turn<T> {
        let function = &self.scope.function;
        let leading = chain::current();
        match function.join(self.key, chain::caller(blocking, &leading)) {
            Join::Lead(leader) => {
                // Whoever led before may have landed since this caller looked.
                if let Some(value) = self.hit::<T>() {
                    if let Some(entry) = function.peek(self.key, SystemClock.coarse()) {
                        leader.land(Delivered::Value(Arc::clone(&entry.value)));
                    }
                    return Turn::Done(value);
                }
                let fill = Fill::new(self.core.fill_policy());
                Turn::Lead(Box::new(self.filling::<T>(Some(leader), fill)))
            }
            Join::Wait(waiter) => Turn::Wait(waiter),
            Join::Alone => Turn::Alone,
        }
    }

    fn landed<T: Value, E: Send + Sync + 'static>(
        &self,
        delivered: Option<Arc<Delivered>>,
    ) -> Landed<T, E> {
        let Some(delivered) = delivered else {
            return Landed::Abandoned;
        };
        let result = match &*delivered {
            Delivered::Value(held) => value::hand_out(held).map(Ok),
            Delivered::Failed(failure) => Arc::clone(failure).downcast::<E>().ok().map(Err),
        };
        let Some(result) = result else {
            return Landed::Alone;
        };
        self.scope.function.stats.l1_hit(now());
        Landed::Done(result)
    }

    fn count_alone(&self) {
        self.scope.function.stats.miss(now());
    }

    fn patience(&self) -> Duration {
        self.core.settings.lock_wait
    }

    /// The value, computed by `compute` in the caller's own task where both layers miss.
    pub(crate) async fn compute<T, E, F, Fut>(&self, compute: F) -> Result<T, Arc<E>>
    where
        T: Value,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        if self.core.settings.disabled {
            return compute().await.map_err(Arc::new);
        }
        if let Some(value) = self.hit() {
            return Ok(value);
        }
        let mut patience = None;
        loop {
            match self.turn(false) {
                Turn::Done(value) => return Ok(value),
                Turn::Lead(filling) => return self.lead(filling, compute).await,
                Turn::Wait(waiter) => {
                    let patience = patience.get_or_insert_with(|| timer(self.patience()));
                    let landed = first(waiter, patience.as_mut()).await;
                    match landed.map_or(Landed::Alone, |landed| self.landed(landed)) {
                        Landed::Done(result) => return result,
                        Landed::Abandoned => {}
                        Landed::Alone => break,
                    }
                }
                Turn::Alone => break,
            }
        }
        self.count_alone();
        compute().await.map_err(Arc::new)
    }

    async fn lead<T, E, F, Fut>(&self, mut filling: Box<Filling>, compute: F) -> Result<T, Arc<E>>
    where
        T: Value,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut compute = Some(compute);
        let mut ran = None;
        loop {
            match filling.next() {
                Next::Ask(request) => {
                    let timeout = self.core.settings.timeout;
                    let asking = Asking::new(filling.shared(), request, timeout);
                    filling.reply(asking.await);
                }
                Next::Run => {
                    let (compute, flight) = once(&mut compute, &filling);
                    let (own, theirs) = split(chain::within_async(flight, compute).await);
                    ran = Some(own);
                    filling.ran(theirs);
                }
                Next::Finish => return ended(filling.finish(), ran),
            }
        }
    }

    /// [`compute`](Self::compute) on the calling thread.
    pub(crate) fn compute_blocking<T, E, F>(&self, compute: F) -> Result<T, Arc<E>>
    where
        T: Value,
        E: Send + Sync + 'static,
        F: FnOnce() -> Result<T, E>,
    {
        if self.core.settings.disabled {
            return compute().map_err(Arc::new);
        }
        if let Some(value) = self.hit() {
            return Ok(value);
        }
        let start = Instant::now();
        loop {
            match self.turn(true) {
                Turn::Done(value) => return Ok(value),
                Turn::Lead(filling) => return self.lead_blocking(filling, compute),
                Turn::Wait(waiter) => {
                    let left = self.patience().saturating_sub(start.elapsed());
                    let landed = block_on(waiter, left, LOOK_UP, || true);
                    match landed.map_or(Landed::Alone, |landed| self.landed(landed)) {
                        Landed::Done(result) => return result,
                        Landed::Abandoned => {}
                        Landed::Alone => break,
                    }
                }
                Turn::Alone => break,
            }
        }
        self.count_alone();
        compute().map_err(Arc::new)
    }

    fn lead_blocking<T, E, F>(&self, mut filling: Box<Filling>, compute: F) -> Result<T, Arc<E>>
    where
        T: Value,
        E: Send + Sync + 'static,
        F: FnOnce() -> Result<T, E>,
    {
        let mut compute = Some(compute);
        let mut ran = None;
        loop {
            match filling.next() {
                Next::Ask(request) => {
                    filling.reply(ask_blocking(filling.shared(), request));
                }
                Next::Run => {
                    let (compute, flight) = once(&mut compute, &filling);
                    let (own, theirs) = split(chain::within(flight, compute));
                    ran = Some(own);
                    filling.ran(theirs);
                }
                Next::Finish => return ended(filling.finish(), ran),
            }
        }
    }

    /// A read for which nothing is computed. It leads the key's flight if there is none, so that
    /// what it finds can be kept; beside a running one it only looks.
    fn reading<T: Value>(&self) -> Option<Filling> {
        self.core.store.as_ref()?;
        let leading = chain::current();
        let join = self
            .scope
            .function
            .join(self.key, chain::caller(false, &leading));
        let leader = match join {
            Join::Lead(leader) => Some(leader),
            Join::Wait(_) | Join::Alone => None,
        };
        let fill = Fill::new(self.core.read_policy());
        Some(self.filling::<T>(leader, fill))
    }

    /// The value of either layer.
    pub(crate) async fn get<T: Value>(&self) -> Option<T> {
        if let Some(value) = self.hit() {
            return Some(value);
        }
        let Some(mut filling) = self.reading::<T>() else {
            return self.nothing(None);
        };
        loop {
            match filling.next() {
                Next::Ask(request) => {
                    let timeout = self.core.settings.timeout;
                    let asking = Asking::new(filling.shared(), request, timeout);
                    filling.reply(asking.await);
                }
                Next::Run => return self.nothing(Some(filling)),
                Next::Finish => return filling.finish().and_then(value::take),
            }
        }
    }

    /// [`get`](Self::get) on the calling thread.
    pub(crate) fn get_blocking<T: Value>(&self) -> Option<T> {
        if let Some(value) = self.hit() {
            return Some(value);
        }
        let Some(mut filling) = self.reading::<T>() else {
            return self.nothing(None);
        };
        loop {
            match filling.next() {
                Next::Ask(request) => {
                    filling.reply(ask_blocking(filling.shared(), request));
                }
                Next::Run => return self.nothing(Some(filling)),
                Next::Finish => return filling.finish().and_then(value::take),
            }
        }
    }

    fn nothing<T>(&self, filling: Option<Filling>) -> Option<T> {
        self.count_alone();
        if let Some(filling) = filling {
            filling.purge();
            drop(filling); // Whoever waits leads.
            self.core.report();
        }
        None
    }
}

/// The function, which is called once, and the flight that it is called in.
fn once<F>(compute: &mut Option<F>, filling: &Filling) -> (F, cachekit_engine::waits::FlightId) {
    let compute = compute.take().expect("a fill runs its function once");
    let flight = filling.flight().expect("only leaders run the function");
    (compute, flight)
}

/// What the leader's own caller gets: what was computed, else what was found.
fn ended<T: Value, E>(
    found: Option<Held>,
    ran: Option<Result<Arc<T>, Arc<E>>>,
) -> Result<T, Arc<E>> {
    match (ran, found) {
        (Some(result), _) => result.map(Arc::unwrap_or_clone),
        (None, Some(held)) => {
            Ok(value::take(held).expect("it was decoded as the type of this caller"))
        }
        (None, None) => unreachable!("a fill ends with a value that was found or computed"),
    }
}

type Timer = std::pin::Pin<Box<tokio::time::Sleep>>;

/// A timer of our runtime, for tasks of any executor.
fn timer(duration: Duration) -> Timer {
    let runtime = runtime::handle();
    let _entered = runtime.enter();
    Box::pin(tokio::time::sleep(duration))
}

/// The waiter's result, unless the timer is over first.
async fn first<F: Future>(
    waiter: F,
    mut timer: std::pin::Pin<&mut tokio::time::Sleep>,
) -> Option<F::Output> {
    let mut waiter = pin!(waiter);
    std::future::poll_fn(|context| {
        if let Poll::Ready(landed) = waiter.as_mut().poll(context) {
            return Poll::Ready(Some(landed));
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}
