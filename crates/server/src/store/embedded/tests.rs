use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use cachekit_testkit::TempDir;
use proptest::prelude::*;

use super::*;
use crate::keys::Mode;
use crate::store::{ENTRY_OVERHEAD, Scope};

/// A store whose clock stands until it is set.
struct Held {
    dir: TempDir,
    clock: Arc<AtomicU64>,
    store: EmbeddedStore,
}

impl Held {
    fn open() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut EmbeddedOptions)) -> Self {
        let dir = TempDir::new();
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let mut options = options(&dir, &clock);
        change(&mut options);
        let store = EmbeddedStore::open(options).unwrap();
        Self { dir, clock, store }
    }

    /// Closes the store and opens it again on the same files.
    async fn reopened(self) -> Self {
        let Self { dir, clock, store } = self;
        store.close().await.unwrap();
        drop(store);
        let store = open_soon(&options(&dir, &clock));
        Self { dir, clock, store }
    }

    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    async fn store(&self, place: &Place, value: Bytes, life: Life, quota: Quota) -> Result<Put> {
        self.store.put(place, value, life, quota, None).await
    }

    async fn put(&self, place: &Place, value: &str) -> Put {
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.store(place, value, life(60, 0), Quota::default())
            .await
            .unwrap()
    }

    async fn get(&self, place: &Place) -> Option<String> {
        let (_, value) = self.store.get(place).await.unwrap()?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }
}

fn options(dir: &TempDir, clock: &Arc<AtomicU64>) -> EmbeddedOptions {
    let clock = clock.clone();
    EmbeddedOptions {
        clock: Arc::new(move || clock.load(Ordering::Relaxed)),
        min_free_disk: 0,
        ..EmbeddedOptions::new(dir.path().join("store"))
    }
}

/// The files stay locked for the moment that the writer's thread takes to end.
fn open_soon(options: &EmbeddedOptions) -> EmbeddedStore {
    let mut opened = None;
    cachekit_testkit::servers::wait_until("the store is free", || {
        opened = EmbeddedStore::open(options.clone()).ok();
        opened.is_some()
    });
    opened.unwrap()
}

fn place(key: &str) -> Place {
    Place::new(&Scope::new(Mode::Live, "t"), key)
}

fn life(fresh: u64, stale: u64) -> Life {
    Life {
        fresh: Duration::from_secs(fresh),
        stale: Duration::from_secs(stale),
    }
}

#[tokio::test]
async fn entries_come_back_after_closing() {
    let held = Held::open();
    let large = "x".repeat(3 << 20);
    assert_eq!(held.put(&place("a"), "one").await, Put::Stored);
    held.put(&place("a"), "two").await;
    held.put(&place("large"), &large).await;
    held.put(&place("gone"), "x").await;
    assert!(held.store.delete(&place("gone"), false).await.unwrap());
    assert!(!held.store.delete(&place("gone"), false).await.unwrap());
    let usage = held.store.usage();
    let held = held.reopened().await;
    assert_eq!(held.get(&place("a")).await.as_deref(), Some("two"));
    assert_eq!(held.get(&place("large")).await, Some(large));
    assert_eq!(held.get(&place("gone")).await, None);
    let again = held.store.usage();
    assert_eq!((again.entries, again.bytes), (usage.entries, usage.bytes));
    assert_eq!(again.entries, 2);
}

#[tokio::test]
async fn lives_end_and_may_be_prolonged() {
    let held = Held::open();
    let (store, a) = (&held.store, place("a"));
    let put = store
        .put(
            &a,
            Bytes::from_static(b"v"),
            life(10, 5),
            Quota::default(),
            None,
        )
        .await;
    assert_eq!(put.unwrap(), Put::Stored);
    held.pass(9);
    let (facts, _) = store.get(&a).await.unwrap().unwrap();
    assert_eq!(
        (facts.fresh_for, facts.is_stale()),
        (Duration::from_secs(1), false)
    );
    held.pass(1);
    assert!(store.facts(&a).await.unwrap().unwrap().is_stale());
    assert!(store.expire(&a, Duration::from_secs(20)).await.unwrap());
    held.pass(19);
    assert!(!store.facts(&a).await.unwrap().unwrap().is_stale());
    let held = held.reopened().await;
    held.pass(5);
    assert!(held.store.facts(&a).await.unwrap().unwrap().is_stale());
    held.pass(1);
    assert_eq!(held.get(&a).await, None);
    assert!(!held.store.delete(&a, false).await.unwrap());
    assert!(!held.store.expire(&a, Duration::from_secs(1)).await.unwrap());
}

#[tokio::test]
async fn what_has_ended_leaves_index_and_disk() {
    let held = Held::open();
    for number in 0..3000 {
        held.put(&place(&format!("k{number}")), "v").await;
    }
    held.pass(61);
    // Filled again before the sweep comes by: it must not take the new entry along.
    held.put(&place("k7"), "new").await;
    let swept = || held.store.usage().expired == 2999;
    let limit = tokio::time::timeout(Duration::from_secs(20), async {
        while !swept() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(limit.await.is_ok(), "{:?}", held.store.usage());
    assert_eq!(held.store.usage().entries, 1);
    let held = held.reopened().await;
    assert_eq!(held.store.shared.entries.len().unwrap(), 1);
    assert_eq!(held.store.shared.values.len().unwrap(), 1);
    assert_eq!(held.get(&place("k7")).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn the_store_stays_within_its_bounds() {
    let held = Held::with(|options| {
        options.max_bytes = 100_000;
        options.max_entries = 50;
    });
    let mut most = Usage::default();
    for number in 0..500 {
        held.put(
            &place(&format!("k{number}")),
            &"v".repeat(number * 7 % 3000),
        )
        .await;
        // A value that is read again and again stays.
        if number > 0 {
            assert!(held.get(&place("k1")).await.is_some() || number < 1);
        }
        let usage = held.store.usage();
        most.bytes = most.bytes.max(usage.bytes);
        most.entries = most.entries.max(usage.entries);
    }
    assert!(most.bytes <= 100_000 && most.entries <= 50, "{most:?}");
    assert!(most.bytes > 50_000, "{most:?}");
    assert!(held.store.usage().evicted > 400);
    assert_eq!(
        held.put(&place("huge"), &"v".repeat(100_001)).await,
        Put::TooLarge
    );
    let held = held.reopened().await;
    assert!(held.store.shared.values.len().unwrap() <= 50);
}

#[tokio::test]
async fn a_quota_evicts_or_refuses() {
    let held = Held::open();
    let of = |tenant: &str, key: &str| Place::new(&Scope::new(Mode::Live, tenant), key);
    let quota = Quota {
        bytes: None,
        entries: Some(2),
        reject: false,
    };
    let put = async |place: Place, quota: Quota| {
        held.store(&place, Bytes::from_static(b"v"), life(60, 0), quota)
            .await
            .unwrap()
    };
    for key in ["a", "b", "c"] {
        assert_eq!(put(of("one", key), quota).await, Put::Stored);
    }
    assert_eq!(held.get(&of("one", "a")).await, None);
    let reject = Quota {
        reject: true,
        ..quota
    };
    assert_eq!(put(of("two", "a"), reject).await, Put::Stored);
    assert_eq!(put(of("two", "b"), reject).await, Put::Stored);
    assert_eq!(put(of("two", "c"), reject).await, Put::OverQuota);
    assert_eq!(put(of("two", "b"), reject).await, Put::Stored);
    assert_eq!(put(of("three", "c"), reject).await, Put::Stored);
    held.pass(61);
    assert_eq!(put(of("two", "c"), reject).await, Put::Stored);
    let bytes = Quota {
        bytes: Some(ENTRY_OVERHEAD + 20),
        ..Quota::default()
    };
    let value = Bytes::from(vec![0; 20]);
    let large = held
        .store(&of("four", "a"), value, life(60, 0), bytes)
        .await;
    assert_eq!(large.unwrap(), Put::TooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_come_at_once_keep_to_a_refusing_quota() {
    let held = Arc::new(Held::open());
    let quota = Quota {
        bytes: None,
        entries: Some(10),
        reject: true,
    };
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..100 {
        let held = held.clone();
        writes.spawn(async move {
            let place = place(&format!("k{number}"));
            let put = held
                .store(&place, Bytes::from_static(b"v"), life(60, 0), quota)
                .await;
            put.unwrap() == Put::Stored
        });
    }
    let stored = writes
        .join_all()
        .await
        .into_iter()
        .filter(|stored| *stored)
        .count();
    assert_eq!((stored, held.store.usage().entries), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_never_sees_a_torn_or_missing_value_while_it_is_overwritten() {
    let held = Arc::new(Held::open());
    let value = |byte: u8| Bytes::from(vec![byte; 20_000]);
    let write = |byte| {
        let held = held.clone();
        async move {
            let put = held
                .store(&place("a"), value(byte), life(60, 0), Quota::default())
                .await;
            assert_eq!(put.unwrap(), Put::Stored);
        }
    };
    write(0).await;
    let writer = tokio::spawn({
        let writes: Vec<_> = (1..200).map(write).collect();
        async move {
            for write in writes {
                write.await;
            }
        }
    });
    let mut seen = 0;
    while !writer.is_finished() {
        let (_, found) = held
            .store
            .get(&place("a"))
            .await
            .unwrap()
            .expect("it is there");
        assert_eq!(found.len(), 20_000);
        assert!(found.iter().all(|byte| *byte == found[0]) && found[0] >= seen);
        seen = found[0];
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_entry_that_come_at_once_leave_one() {
    let held = Arc::new(Held::open());
    for _ in 0..5 {
        let mut changes = tokio::task::JoinSet::new();
        for number in 0..60 {
            let held = held.clone();
            changes.spawn(async move {
                match number % 4 {
                    0 => drop(held.store.delete(&place("a"), false).await.unwrap()),
                    1 => {
                        let fresh = Duration::from_secs(99);
                        held.store.expire(&place("a"), fresh).await.unwrap();
                    }
                    _ => assert_eq!(
                        held.put(&place("a"), &number.to_string()).await,
                        Put::Stored
                    ),
                }
            });
        }
        changes.join_all().await;
    }
    held.put(&place("b"), "v").await;
    let before = held.get(&place("a")).await;
    let entries = held.store.usage().entries;
    let held = Arc::into_inner(held)
        .expect("the changes have ended")
        .reopened()
        .await;
    assert_eq!(held.get(&place("a")).await, before);
    assert_eq!(held.store.usage().entries, entries);
    let shared = &held.store.shared;
    assert_eq!(shared.values.len().unwrap() as u64, entries);
    assert_eq!(shared.entries.len().unwrap() as u64, entries);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let held = Held::with(|options| options.min_free_disk = u64::MAX);
    let put = held
        .store(&place("a"), Bytes::new(), life(60, 0), Quota::default())
        .await;
    assert!(matches!(put, Err(StoreError::Full(_))));
    assert_eq!(held.get(&place("a")).await, None);
    assert!(!held.store.delete(&place("a"), false).await.unwrap());
    held.store.check().await.unwrap();
}

#[tokio::test]
async fn a_store_has_one_owner_and_ends_once() {
    let held = Held::open();
    let error = EmbeddedStore::open(options(&held.dir, &held.clock))
        .err()
        .unwrap();
    assert!(error.to_string().contains("another process"), "{error}");
    held.store.close().await.unwrap();
    let put = held
        .store(&place("a"), Bytes::new(), life(60, 0), Quota::default())
        .await;
    assert!(put.is_err());
    assert!(held.store.check().await.is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, Vec<u8>, u8),
    Delete(u8, u8),
    Expire(u8, u8, u8),
    Pass(u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..40);
    let step = prop_oneof![
        8 => (0..3u8, 0..6u8, bytes, 1..90u8).prop_map(|(t, k, v, l)| Step::Put(t, k, v, l)),
        3 => (0..3u8, 0..6u8).prop_map(|(t, k)| Step::Delete(t, k)),
        2 => (0..3u8, 0..6u8, 1..90u8).prop_map(|(t, k, l)| Step::Expire(t, k, l)),
        2 => (1..40u8).prop_map(Step::Pass),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is done in whatever order by several tenants, the store holds what a map would.
    #[test]
    fn the_store_is_a_map_with_lives(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut held = Held::open();
            let mut model: HashMap<(u8, u8), (Vec<u8>, u64)> = HashMap::new();
            let mut now = 0;
            let at = |tenant: u8, key: u8| {
                Place::new(&Scope::new(Mode::Live, &format!("t{tenant}")), &format!("k{key}"))
            };
            for step in steps {
                match step {
                    Step::Put(tenant, key, value, seconds) => {
                        let bytes = Bytes::from(value.clone());
                        let life = life(u64::from(seconds), 0);
                        let put = held.store(&at(tenant, key), bytes, life, Quota::default()).await;
                        assert_eq!(put.unwrap(), Put::Stored);
                        model.insert((tenant, key), (value, now + u64::from(seconds)));
                    }
                    Step::Delete(tenant, key) => {
                        let was = model.remove(&(tenant, key)).is_some();
                        assert_eq!(held.store.delete(&at(tenant, key), false).await.unwrap(), was);
                    }
                    Step::Expire(tenant, key, seconds) => {
                        let fresh = Duration::from_secs(u64::from(seconds));
                        let is = held.store.expire(&at(tenant, key), fresh).await.unwrap();
                        let known = model.get_mut(&(tenant, key));
                        assert_eq!(is, known.is_some());
                        if let Some((_, ends)) = known {
                            *ends = now + u64::from(seconds);
                        }
                    }
                    Step::Pass(seconds) => {
                        held.pass(u64::from(seconds));
                        now += u64::from(seconds);
                        model.retain(|_, (_, ends)| *ends > now);
                    }
                    Step::Reopen => held = held.reopened().await,
                }
                for tenant in 0..3 {
                    for key in 0..6 {
                        let found = held.store.get(&at(tenant, key)).await.unwrap();
                        let found = found.map(|(_, value)| value.to_vec());
                        let known = model.get(&(tenant, key)).map(|(value, _)| value.clone());
                        assert_eq!(found, known, "tenant {tenant}, key {key}");
                    }
                }
            }
        });
    }
}

const LEASE: Duration = Duration::from_secs(60);
const ID: &str = "0123456789abcdef0123456789abcdef";

async fn put_under(held: &Held, key: &str, id: &str) -> Put {
    put_as(held, key, "v", &Holder::Id(id.to_owned())).await
}

async fn put_as(held: &Held, key: &str, value: &'static str, holder: &Holder) -> Put {
    let (place, value) = (place(key), Bytes::from_static(value.as_bytes()));
    let (life, quota) = (life(60, 0), Quota::default());
    let storing = held.store.put(&place, value, life, quota, Some(holder));
    storing.await.unwrap()
}

async fn lock(held: &Held, key: &str) {
    let taken = held.store.lock(&place(key), ID, LEASE).await.unwrap();
    assert_eq!(taken, Lock::Acquired);
}

#[tokio::test]
async fn what_is_stored_under_a_lock_needs_it() {
    let held = Held::open();
    let a = place("a");
    assert_eq!(put_under(&held, "a", ID).await, Put::NotHeld);
    lock(&held, "a").await;
    assert_eq!(
        put_under(&held, "a", &ID.replace('0', "1")).await,
        Put::NotHeld
    );
    assert!(held.store.facts(&a).await.unwrap().is_none());
    assert_eq!(put_under(&held, "a", ID).await, Put::Stored);
    assert!(held.store.facts(&a).await.unwrap().is_some());
    assert_eq!(
        held.store.watch_lock(&a, Duration::ZERO).await.unwrap(),
        None
    );
    assert_eq!(
        put_under(&held, "a", ID).await,
        Put::NotHeld,
        "it was released"
    );
    // An entry and its lock are two things, unless it is said that both go.
    lock(&held, "a").await;
    assert!(held.store.delete(&a, false).await.unwrap());
    assert_eq!(put_under(&held, "a", ID).await, Put::Stored);
    lock(&held, "a").await;
    assert!(held.store.delete(&a, true).await.unwrap());
    assert_eq!(put_under(&held, "a", ID).await, Put::NotHeld);
    assert!(!held.store.delete(&a, true).await.unwrap());
    lock(&held, "a").await;
    assert!(held.store.end_lock(&a).await.unwrap());
    assert!(!held.store.end_lock(&a).await.unwrap());
}

/// Whichever comes first: after a deletion that ends the lock, there is no entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_and_a_fill_that_meet_leave_nothing() {
    let held = Held::open();
    for round in 0..200 {
        lock(&held, "a").await;
        let a = place("a");
        let late = async {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            held.store.delete(&a, true).await.unwrap()
        };
        let (put, deleted) = tokio::join!(put_under(&held, "a", ID), late);
        assert_eq!(deleted, put == Put::Stored, "round {round}");
        assert!(held.store.facts(&a).await.unwrap().is_none());
    }
}

/// Who takes the lock, finds nothing and stores, as one who adds does, never does so over what ends locks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_over_a_lock_is_never_stored_over() {
    let held = Held::open();
    for round in 0..300 {
        let key = format!("k{round}");
        let a = place(&key);
        let adding = async {
            while held.store.get(&a).await.unwrap().is_none() {
                if held.store.lock(&a, ID, LEASE).await.unwrap() != Lock::Acquired {
                    tokio::task::yield_now().await;
                    continue;
                }
                if held.store.get(&a).await.unwrap().is_some() {
                    break;
                }
                put_under(&held, &key, ID).await;
            }
        };
        let over = async {
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
            put_as(&held, &key, "over", &Holder::Anybody).await
        };
        let ((), put) = tokio::join!(adding, over);
        assert_eq!(put, Put::Stored);
        let (_, value) = held.store.get(&a).await.unwrap().unwrap();
        assert_eq!(value, "over", "round {round}");
    }
}

#[tokio::test]
async fn a_lock_is_watched_until_it_is_free() {
    let held = Held::open();
    let a = place("a");
    assert_eq!(held.store.watch_lock(&a, LEASE).await.unwrap(), None);
    lock(&held, "a").await;
    let left = held.store.watch_lock(&a, Duration::ZERO).await.unwrap();
    assert!(left.is_some_and(|left| left <= LEASE && left + LEASE / 2 > LEASE));
    let watching = held.store.watch_lock(&a, LEASE * 9);
    let (left, released) = tokio::join!(watching, held.store.unlock(&a, ID));
    assert_eq!((left.unwrap(), released.unwrap()), (None, true));
}
