//! The thread that makes every change to the embedded store.
//!
//! It gathers the changes that wait, commits them as one batch, shows them in the index and only
//! then confirms them. Under load one write to the journal so serves many requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::PersistMode;
use tokio::sync::{mpsc, oneshot};

use super::index::{self, Gone, Slot};
use super::{Shared, record};
use crate::config::Durability;
use crate::store::{Holder, Life, Place, Put, Quota, Result, StoreError};

/// A change, and where its outcome goes.
pub(super) enum Change {
    Put {
        place: Place,
        value: Bytes,
        life: Life,
        quota: Quota,
        /// Who must hold the lock, or anybody, and holds it no longer afterwards.
        holder: Option<Holder>,
        done: oneshot::Sender<Result<Put>>,
    },
    Delete {
        place: Place,
        /// Whether the lock ends as well.
        lock: bool,
        done: oneshot::Sender<Result<bool>>,
    },
    Expire {
        place: Place,
        fresh: Duration,
        done: oneshot::Sender<Result<bool>>,
    },
    /// Make everything durable and end.
    Close { done: oneshot::Sender<Result<()>> },
}

/// How many changes and bytes of values go into one batch.
const BATCH_CHANGES: usize = 256;
const BATCH_BYTES: usize = 8 << 20;
/// How often the writer looks after what has expired, the disk and the sync.
const TICK: Duration = Duration::from_millis(250);
/// How many expired entries are removed at a time, so that writers do not wait long behind them.
const EXPIRE_AT_ONCE: usize = 1024;

/// What a batch does to one entry. Changes of one entry are merged, so that a batch never holds two
/// for one key: they would carry the same sequence number, and which one wins would be open.
struct Effect {
    place: Place,
    /// The entry before the batch.
    before: Option<Slot>,
    /// The entry behind it.
    after: Option<Slot>,
    /// The value, if the batch brings one.
    value: Option<Bytes>,
}

type Effects = HashMap<Arc<str>, Effect>;

pub(super) struct Writer {
    shared: Arc<Shared>,
    next_number: u64,
    synced: Instant,
    dirty: bool,
    /// What has ended and is still on the disk.
    ended: Vec<Gone>,
}

/// An outcome that is sent once the batch is committed.
enum Outcome {
    Put(oneshot::Sender<Result<Put>>, Put),
    Truth(oneshot::Sender<Result<bool>>, bool),
}

impl Outcome {
    fn send(self, committed: &Result<()>) {
        // Who asked may have gone.
        match self {
            Self::Put(done, put) => drop(done.send(committed.clone().map(|()| put))),
            Self::Truth(done, truth) => drop(done.send(committed.clone().map(|()| truth))),
        }
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, next_number: u64) -> Self {
        Self {
            shared,
            next_number,
            synced: Instant::now(),
            dirty: false,
            ended: Vec::new(),
        }
    }

    /// Works until told to close or until nobody can ask any more.
    pub(super) async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        let mut tick = Instant::now() + TICK;
        loop {
            match tokio::time::timeout_at(tick.into(), changes.recv()).await {
                Ok(Some(first)) => {
                    if let Some(done) = self.batch(first, &mut changes) {
                        changes.close();
                        let closed = self.sync(PersistMode::SyncAll);
                        drop(done.send(closed));
                        return;
                    }
                }
                Ok(None) => return,
                Err(_) => {}
            }
            if Instant::now() >= tick {
                self.tick();
                tick = Instant::now() + TICK;
            }
        }
    }

    /// Performs the first change and those that wait behind it. Returns where to report when one
    /// of them was to close.
    fn batch(
        &mut self,
        first: Change,
        changes: &mut mpsc::Receiver<Change>,
    ) -> Option<oneshot::Sender<Result<()>>> {
        let shared = self.shared.clone();
        let now = shared.now();
        let mut effects = Effects::new();
        let mut outcomes = Vec::new();
        let mut quotas: HashMap<_, Quota> = HashMap::new();
        let mut stored_under = Vec::new();
        let mut bytes = 0;
        let mut count = 0;
        let mut closing = None;
        // Set by what ends a lock, which it does once it is shown: until then others may take the lock
        // without seeing it, and what they store must come when the lock has ended.
        let mut last = false;
        let mut next = Some(first);
        while let Some(change) = next.take() {
            count += 1;
            match change {
                Change::Put {
                    place,
                    value,
                    life,
                    quota,
                    holder,
                    done,
                } => {
                    let put = match &holder {
                        Some(Holder::Id(id))
                            if !shared.locks.is_held(&place, id, Instant::now()) =>
                        {
                            Ok(Put::NotHeld)
                        }
                        _ => self.may_put(&place, value.len(), &effects, &quota, now),
                    };
                    if matches!(put, Ok(Put::Stored)) {
                        last = holder == Some(Holder::Anybody);
                        stored_under.extend(holder.map(|holder| (place.clone(), holder)));
                        bytes += value.len();
                        let slot = self.new_slot(value.len(), life, now);
                        quotas.insert(place.scope().clone(), quota);
                        let effect = self.effect(&mut effects, place);
                        effect.after = Some(slot);
                        effect.value = Some(value);
                    }
                    match put {
                        Ok(put) => outcomes.push(Outcome::Put(done, put)),
                        Err(error) => drop(done.send(Err(error))),
                    }
                }
                Change::Delete { place, lock, done } => {
                    if lock {
                        shared.locks.end(&place, Instant::now());
                    }
                    let effect = self.effect(&mut effects, place);
                    let old = effect.after.take();
                    effect.value = None;
                    let lived = old.is_some_and(|old| old.ends > now);
                    outcomes.push(Outcome::Truth(done, lived));
                }
                Change::Expire { place, fresh, done } => {
                    let effect = self.effect(&mut effects, place);
                    let slot = effect.after.as_mut().filter(|slot| slot.ends > now);
                    let lives = slot.is_some();
                    if let Some(slot) = slot {
                        let stale = slot.ends - slot.fresh_until;
                        slot.fresh_until = now + milliseconds(fresh);
                        slot.ends = slot.fresh_until + stale;
                    }
                    outcomes.push(Outcome::Truth(done, lives));
                }
                Change::Close { done } => {
                    closing = Some(done);
                    break;
                }
            }
            if !last && count < BATCH_CHANGES && bytes < BATCH_BYTES {
                next = changes.try_recv().ok();
            }
        }
        let committed = self.commit(&mut effects);
        let gone = match committed {
            Ok(()) => self.show(effects, &quotas),
            Err(_) => Vec::new(),
        };
        // Only now: whoever is woken finds the value.
        for (place, holder) in stored_under.iter().filter(|_| committed.is_ok()) {
            match holder {
                Holder::Id(id) => shared.locks.release(place, id, Instant::now()),
                Holder::Anybody => shared.locks.end(place, Instant::now()),
            };
        }
        for outcome in outcomes {
            outcome.send(&committed);
        }
        self.forget(gone, &shared.evicted);
        closing
    }

    /// The effect on an entry, which is none yet if it is new.
    fn effect<'a>(&self, effects: &'a mut Effects, place: Place) -> &'a mut Effect {
        effects.entry(place.full().clone()).or_insert_with(|| {
            let before = self.shared.index.read().find(place.full(), 0);
            Effect {
                place,
                before,
                after: before,
                value: None,
            }
        })
    }

    /// Writes the effects to the disk, all or none.
    fn commit(&mut self, effects: &mut Effects) -> Result<()> {
        let shared = &self.shared;
        let mut batch = shared.database.batch().durability(Some(self.mode()));
        for (full, effect) in effects {
            if effect.before == effect.after {
                continue;
            }
            if let Some(old) = effect.before
                && effect.after.is_none_or(|new| new.number != old.number)
            {
                batch.remove(&shared.values, old.number.to_be_bytes());
            }
            match effect.after {
                Some(slot) => {
                    if let Some(value) = effect.value.take() {
                        batch.insert(&shared.values, slot.number.to_be_bytes(), value);
                    }
                    batch.insert(&shared.entries, full.as_bytes(), record::encode(&slot));
                }
                None => batch.remove(&shared.entries, full.as_bytes()),
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        shared.healthy(batch.commit())
    }

    /// Shows the committed effects in the index; returns the entries that had to make room.
    fn show(
        &mut self,
        effects: Effects,
        quotas: &HashMap<crate::store::Scope, Quota>,
    ) -> Vec<Gone> {
        if effects.is_empty() {
            return Vec::new();
        }
        let mut gone = Vec::new();
        let mut index = self.shared.index.write();
        for (full, effect) in effects {
            match effect.after {
                Some(slot) => match index.find(&full, 0) {
                    Some(old) if old.number == slot.number => {
                        index.extend(&full, slot.fresh_until, slot.ends);
                    }
                    _ => index.insert(&effect.place, slot),
                },
                None => drop(index.remove(&full)),
            }
        }
        for (scope, quota) in quotas {
            index.shrink_scope(scope, quota, &mut gone);
        }
        let options = &self.shared.options;
        index.shrink(options.max_bytes, options.max_entries, &mut gone);
        gone
    }

    /// Removes from the disk what has left the index.
    fn forget(&mut self, gone: Vec<Gone>, counter: &std::sync::atomic::AtomicU64) {
        if gone.is_empty() {
            return;
        }
        counter.fetch_add(gone.len() as u64, Ordering::Relaxed);
        let shared = &self.shared;
        let mut batch = shared
            .database
            .batch()
            .durability(Some(PersistMode::Buffer));
        let index = shared.index.read();
        for entry in gone {
            batch.remove(&shared.values, entry.number.to_be_bytes());
            // The place may have been filled again.
            if index.find(&entry.full, 0).is_none() {
                batch.remove(&shared.entries, entry.full.as_bytes());
            }
        }
        drop(index);
        self.dirty = true;
        if let Err(error) = shared.healthy(batch.commit()) {
            tracing::error!(%error, "removing evicted entries failed");
        }
    }

    fn may_put(
        &mut self,
        place: &Place,
        length: usize,
        effects: &Effects,
        quota: &Quota,
        now: u64,
    ) -> Result<Put> {
        if self.shared.disk_full.load(Ordering::Relaxed) {
            return Err(StoreError::Full(
                "the disk has less free space than min_free_disk".to_owned(),
            ));
        }
        let weight = index::weight(place.full(), length as u64);
        let most = quota.bytes.unwrap_or(u64::MAX);
        if weight > most.min(self.shared.options.max_bytes) {
            return Ok(Put::TooLarge);
        }
        if quota.reject {
            // What has ended makes room first; it leaves the disk with the next tick.
            let gone = self.shared.index.write().expire(now, EXPIRE_AT_ONCE);
            self.ended.extend(gone);
            let index = self.shared.index.read();
            let mut share = index.share(place.scope());
            let weigh = |full: &str, slot: Slot| (index::weight(full, slot.size), 1);
            for (full, effect) in effects {
                if effect.place.scope() == place.scope() {
                    share.replace(
                        index.find(full, 0).map(|old| weigh(full, old)),
                        effect.after.map(|new| weigh(full, new)),
                    );
                }
            }
            let old = match effects.get(place.full()) {
                Some(effect) => effect.after,
                None => index.find(place.full(), 0),
            };
            share.replace(old.map(|old| weigh(place.full(), old)), Some((weight, 1)));
            if share.is_over(quota) {
                return Ok(Put::OverQuota);
            }
        }
        Ok(Put::Stored)
    }

    fn new_slot(&mut self, length: usize, life: Life, now: u64) -> Slot {
        let number = self.next_number;
        self.next_number += 1;
        let fresh_until = now + milliseconds(life.fresh);
        Slot {
            number,
            size: length as u64,
            fresh_until,
            ends: fresh_until + milliseconds(life.stale),
        }
    }

    fn mode(&self) -> PersistMode {
        match self.shared.options.durability {
            Durability::Process => PersistMode::Buffer,
            Durability::Power => PersistMode::SyncData,
        }
    }

    fn tick(&mut self) {
        let shared = self.shared.clone();
        let now = shared.now();
        loop {
            let mut gone = std::mem::take(&mut self.ended);
            gone.extend(shared.index.write().expire(now, EXPIRE_AT_ONCE));
            let more = gone.len() >= EXPIRE_AT_ONCE;
            self.forget(gone, &shared.expired);
            if !more {
                break;
            }
        }
        shared.locks.sweep(Instant::now());
        shared.look_at_disk();
        if self.dirty
            && self.synced.elapsed() >= shared.options.sync_interval
            && let Err(error) = self.sync(PersistMode::SyncData)
        {
            tracing::error!(%error, "the store could not be synced");
        }
    }

    fn sync(&mut self, mode: PersistMode) -> Result<()> {
        self.synced = Instant::now();
        self.dirty = false;
        self.shared.healthy(self.shared.database.persist(mode))
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
