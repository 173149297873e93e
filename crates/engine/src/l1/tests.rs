use super::*;
use crate::time::Tick;
use proptest::prelude::*;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

fn entry<V>(value: V, weight: u64) -> Arc<Entry<V>> {
    Arc::new(Entry::new(value, weight))
}

fn key(number: u64) -> Vec<u8> {
    // Short and long ones, so that some need an allocation.
    let mut key = number.to_be_bytes().to_vec();
    key.resize(8 + (number % 40) as usize, b'k');
    key
}

/// The weight that L1 gives to an entry of this weight under this key.
fn weight_of<V: Default>(number: u64, weight: u64) -> u64 {
    weigh(
        &Key::from(&key(number)[..]),
        Some(&Entry::new(V::default(), weight)),
    )
}

#[test]
fn stores_replaces_and_removes() {
    let l1 = L1::new(1 << 20, 1);
    assert!(l1.is_empty() && l1.get(b"a").is_none());
    let mut first = Entry::new(1, 10);
    (first.expires, first.refresh_at, first.generation) = (Tick(5), Tick(3), 7);
    assert!(l1.insert(&b"a"[..], Arc::new(first)).is_empty());
    let found = l1.get(b"a").expect("it was stored");
    assert_eq!((found.value, found.weight(), found.generation), (1, 10, 7));
    assert_eq!((found.expires, found.refresh_at), (Tick(5), Tick(3)));

    let replaced = l1.insert(Box::<[u8]>::from(*b"a"), entry(2, 20));
    assert!(!replaced.refused());
    assert_eq!(
        replaced.iter().map(|entry| entry.value).collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(l1.peek(b"a").map(|entry| entry.value), Some(2));
    assert!(!l1.remove_entry(b"a", &found), "a newer one stays");
    assert_eq!(l1.remove(b"a").map(|entry| entry.value), Some(2));
    assert!(l1.remove(b"a").is_none());
    assert_eq!((l1.len(), l1.weight()), (0, 0));
}

#[test]
fn a_value_heavier_than_the_capacity_is_refused_and_the_older_one_gone() {
    let l1 = L1::new(10_000, 1);
    drop(l1.insert(&b"a"[..], entry("light", 100)));
    drop(l1.insert(&b"b"[..], entry("other", 100)));
    let evicted = l1.insert(&b"a"[..], entry("heavy", 10_001));
    assert!(evicted.refused());
    let mut values: Vec<_> = evicted.iter().map(|entry| entry.value).collect();
    values.sort_unstable();
    assert_eq!(values, ["heavy", "light"]);
    assert!(l1.get(b"a").is_none());
    assert!(l1.get(b"b").is_some(), "nothing else had to go");
}

#[test]
fn clears_everything_or_what_is_condemned() {
    let l1 = L1::new(1 << 20, 4);
    for number in 0..1000 {
        drop(l1.insert(&key(number)[..], entry(number, 0)));
    }
    assert_eq!(l1.count_where(|_, entry| entry.value < 10), 10);
    let odd = l1.remove_where(|found, entry| {
        assert_eq!(found, key(entry.value));
        entry.value % 2 == 1
    });
    assert_eq!((odd.len(), l1.len()), (500, 500));
    assert!(l1.get(&key(1)).is_none() && l1.get(&key(2)).is_some());
    assert_eq!(l1.clear().len(), 500);
    assert_eq!((l1.len(), l1.weight()), (0, 0));
}

#[test]
fn capacity_grows_and_shrinks() {
    let each = weight_of::<()>(0, 1000);
    // Capacities are kept in multiples of 32.
    let room_for = |entries: u64| each * entries + 31;
    let l1 = L1::new(room_for(100), 1);
    let fill = |from: u64| {
        let insert = |number: u64| l1.insert(&number.to_be_bytes()[..], entry((), 1000)).len();
        (from..from + 400).map(insert).sum::<usize>()
    };
    assert_eq!(fill(0), 300);
    drop(l1.set_capacity(room_for(200)));
    assert_eq!(fill(1000), 300);
    assert_eq!(l1.set_capacity(room_for(50)).len(), 150);
    assert_eq!((l1.len(), l1.capacity()), (50, room_for(50)));
    assert_eq!(fill(2000), 400);
    assert!(l1.insert(&b"big"[..], entry((), each * 51)).refused());
    drop(l1.set_capacity(room_for(200)));
    assert_eq!(fill(3000), 250);
    assert_eq!(l1.len(), 200);
}

#[test]
fn changes_of_capacity_do_not_wear_it_out() {
    let l1 = L1::new(100_000, 1);
    for step in 0..50_000 {
        drop(l1.set_capacity(100_000 + step % 977));
    }
    drop(l1.set_capacity(100_000));
    assert!(!l1.insert(&b"large"[..], entry((), 96_000)).refused());
}

/// A value that counts itself and uses the L1 that it was in while it is dropped: a lock that is
/// held at that moment would never be released.
struct Visitor {
    alive: Arc<AtomicI64>,
    l1: Arc<OnceLock<Weak<L1<Visitor>>>>,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
        if let Some(l1) = self.l1.get().and_then(Weak::upgrade) {
            drop(l1.remove(b"no such key"));
            assert!(l1.weight() <= l1.capacity() + (1 << 20));
        }
    }
}

#[test]
fn values_are_dropped_outside_of_every_lock() {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let (alive, home) = (Arc::new(AtomicI64::new(0)), Arc::new(OnceLock::new()));
        let ceiling = Arc::new(Ceiling::new(60_000));
        let l1 = Arc::new(L1::with_ceiling(50_000, 2, Arc::clone(&ceiling)));
        let other = L1::with_ceiling(50_000, 1, ceiling);
        home.set(Arc::downgrade(&l1)).expect("set once");
        let visitor = |weight| {
            alive.fetch_add(1, Ordering::SeqCst);
            entry(
                Visitor {
                    alive: Arc::clone(&alive),
                    l1: Arc::clone(&home),
                },
                weight,
            )
        };
        for number in 0..20_000_u64 {
            let from = if number % 3 == 0 { &other } else { &*l1 };
            drop(from.insert(&key(number * 7 % 701)[..], visitor(number % 900)));
            match number % 1000 {
                1 => drop(l1.insert(&key(5)[..], visitor(60_000))),
                2 => drop(l1.remove_where(|key, _| key.len() % 3 == 0)),
                3 => drop(l1.set_capacity(30_000)),
                4 => drop(l1.set_capacity(50_000)),
                5 => drop(l1.clear()),
                _ => drop(l1.remove(&key(number % 300))),
            }
            assert_eq!(
                alive.load(Ordering::SeqCst),
                (l1.len() + other.len()) as i64
            );
        }
        drop(other);
        drop(l1);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        done.send(()).expect("the test waits");
    });
    finished
        .recv_timeout(Duration::from_secs(60))
        .expect("no deadlock, no failed assertion");
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u64),
    Get(u64),
    Remove(u64),
    RemoveWhere(u64),
    Clear,
    Capacity(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let weight = prop_oneof![8 => 0_u64..600, 1 => 0_u64..12_000];
    let op = prop_oneof![
        10 => (0_u64..80, weight).prop_map(|(key, weight)| Op::Insert(key, weight)),
        6 => (0_u64..80).prop_map(Op::Get),
        2 => (0_u64..80).prop_map(Op::Remove),
        1 => (2_u64..5).prop_map(Op::RemoveWhere),
        1 => (3_000_u64..12_000).prop_map(Op::Capacity),
    ];
    prop::collection::vec(prop_oneof![40 => op, 1 => Just(Op::Clear)], 0..300)
}

/// What an L1 must hold, told by what it hands out: it may evict what it likes, but must say so.
#[derive(Default)]
struct Model {
    held: HashMap<u64, (u64, u64)>, // number -> serial, weight
    next: u64,
}

impl Model {
    fn forget<'a>(&mut self, gone: impl IntoIterator<Item = &'a Arc<Entry<(u64, u64)>>>) {
        for entry in gone {
            let (number, serial) = entry.value;
            if self.held.get(&number).is_some_and(|held| held.0 == serial) {
                self.held.remove(&number);
            }
        }
    }

    fn apply(&mut self, l1: &L1<(u64, u64)>, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Insert(number, weight) => {
                self.next += 1;
                let replaced = self.held.get(&number).copied();
                let out = l1.insert(&key(number)[..], entry((number, self.next), weight));
                self.held.insert(number, (self.next, weight));
                self.forget(out.iter());
                prop_assert_eq!(out.refused(), !self.held.contains_key(&number));
                if let Some((serial, _)) = replaced {
                    let handed_out = out.iter().any(|entry| entry.value == (number, serial));
                    prop_assert!(handed_out, "the replaced entry goes to the caller");
                }
                let share = l1.capacity() / l1.shards.len() as u64;
                let heavy = weight_of::<(u64, u64)>(number, weight) > (share - 32) / 32 * 31;
                // One that grows in its place may be the one that has to make room.
                prop_assert!(!out.refused() || heavy || replaced.is_some());
            }
            Op::Get(number) => {
                let found = l1.get(&key(number)).map(|entry| entry.value.1);
                prop_assert_eq!(found, self.held.get(&number).map(|held| held.0));
            }
            Op::Remove(number) => {
                let removed = l1.remove(&key(number)).map(|entry| entry.value.1);
                prop_assert_eq!(removed, self.held.remove(&number).map(|held| held.0));
            }
            Op::RemoveWhere(modulus) => {
                let removed = l1.remove_where(|_, entry| entry.value.0 % modulus == 0);
                let before = self.held.len();
                self.held.retain(|number, _| number % modulus != 0);
                prop_assert_eq!(removed.len(), before - self.held.len());
            }
            Op::Clear => {
                prop_assert_eq!(l1.clear().len(), self.held.len());
                self.held.clear();
            }
            Op::Capacity(capacity) => {
                let out = l1.set_capacity(capacity);
                self.forget(out.iter());
            }
        }
        self.check(l1)
    }

    fn check(&self, l1: &L1<(u64, u64)>) -> Result<(), TestCaseError> {
        prop_assert_eq!(l1.len(), self.held.len());
        let weight = self
            .held
            .iter()
            .map(|(number, held)| weight_of::<(u64, u64)>(*number, held.1))
            .sum::<u64>();
        prop_assert_eq!(l1.weight(), weight);
        prop_assert!(weight <= l1.capacity(), "{weight} in {}", l1.capacity());
        for number in 0..80 {
            let found = l1.peek(&key(number)).map(|entry| entry.value.1);
            prop_assert_eq!(found, self.held.get(&number).map(|held| held.0));
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn agrees_with_a_map_and_keeps_its_weight(ops in ops(), shards in 1_usize..4) {
        let l1 = L1::new(9_000, shards);
        let mut model = Model::default();
        for op in &ops {
            model.apply(&l1, op)?;
        }
    }

    #[test]
    fn a_ceiling_knows_the_sum_and_keeps_it(
        ops in prop::collection::vec((0_usize..3, ops()), 1..12),
        limit in 4_000_u64..20_000,
    ) {
        let ceiling = Arc::new(Ceiling::new(limit));
        let l1s = [1, 1, 2].map(|shards| L1::with_ceiling(9_000, shards, Arc::clone(&ceiling)));
        let sum = || l1s.iter().map(L1::weight).sum::<u64>();
        for (index, ops) in &ops {
            for op in ops {
                let before = sum();
                match *op {
                    Op::Insert(number, weight) => {
                        drop(l1s[*index].insert(&key(number)[..], entry((number, 0), weight)));
                        prop_assert!(sum() <= limit);
                    }
                    Op::Get(number) => drop(l1s[*index].get(&key(number))),
                    Op::Remove(number) => drop(l1s[*index].remove(&key(number))),
                    Op::RemoveWhere(by) => drop(l1s[*index].remove_where(|_, e| e.value.0 % by == 0)),
                    Op::Clear => drop(l1s[*index].clear()),
                    Op::Capacity(capacity) => drop(l1s[*index].set_capacity(capacity)),
                }
                prop_assert!(sum() <= limit.max(before));
                prop_assert_eq!(ceiling.used(), sum());
            }
        }
        drop(l1s);
        prop_assert_eq!(ceiling.used(), 0);
    }
}

#[test]
fn a_late_l1_gets_its_share_of_the_ceiling() {
    let each = weight_of::<u64>(0, 1000);
    let ceiling = Arc::new(Ceiling::new(each * 300));
    let [early, late] = [(); 2].map(|()| L1::with_ceiling(each * 300, 1, Arc::clone(&ceiling)));
    let fill = |l1: &L1<u64>, from: u64| {
        for number in from..from + 1000 {
            drop(l1.insert(&number.to_be_bytes()[..], entry(number, 1000)));
        }
    };
    fill(&early, 0);
    assert_eq!(early.len(), 300);
    fill(&late, 5000);
    assert!((140..=160).contains(&late.len()), "{}", late.len());
    assert!(
        early.len() + late.len() >= 230,
        "no more was taken than a portion: {}",
        early.len()
    );
    fill(&early, 2000);
    assert!(late.len() >= 140, "{}", late.len());
    // Who leaves gives everything back.
    drop(late);
    fill(&early, 9000);
    assert_eq!(early.len(), 300);
    assert_eq!(ceiling.used(), early.weight());
}

#[test]
fn a_ceiling_may_come_and_go() {
    let ceiling = Arc::new(Ceiling::new(u64::MAX));
    let each = weight_of::<u64>(0, 1000);
    let l1 = L1::with_ceiling(each * 100 + 31, 1, Arc::clone(&ceiling));
    let fill = |from: u64| {
        for number in from..from + 500 {
            drop(l1.insert(&number.to_be_bytes()[..], entry(number, 1000)));
        }
        l1.len()
    };
    assert_eq!(fill(0), 100);
    ceiling.set_limit(each * 10 + 31);
    assert_eq!(fill(1000), 10);
    ceiling.set_limit(u64::MAX);
    assert_eq!(fill(2000), 100);
}

/// Numbers from 0 with a Zipf distribution of exponent 0.9, interrupted by scans of new keys.
fn trace(length: usize) -> Vec<u64> {
    let mut sum = 0.0;
    let cumulated: Vec<f64> = (1..=20_000)
        .map(|rank| {
            sum += f64::from(rank).powf(-0.9);
            sum
        })
        .collect();
    let random = foldhash::fast::FixedState::with_seed(7);
    let mut scanned = 1 << 40;
    let mut trace = Vec::with_capacity(length);
    while trace.len() < length {
        let mut hasher = random.build_hasher();
        hasher.write_usize(trace.len());
        let at = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        trace.push(cumulated.partition_point(|&edge| edge < at) as u64);
        if trace.len() % 1300 >= 1000 {
            trace.extend(scanned..scanned + 300);
            scanned += 300;
        }
    }
    trace
}

fn hits(l1: &L1<()>, trace: &[u64]) -> usize {
    let hit = |number: &u64| {
        let key = number.to_be_bytes();
        let hit = l1.get(&key).is_some();
        if !hit {
            drop(l1.insert(&key[..], entry((), 0)));
        }
        hit
    };
    trace.iter().filter(|number| hit(number)).count()
}

fn hits_of_lru(entries: usize, trace: &[u64]) -> usize {
    let (mut used, mut order) = (HashMap::new(), std::collections::BTreeMap::new());
    let mut hit = |(now, &number): (usize, &u64)| {
        let before = used.insert(number, now);
        before.map(|before| order.remove(&before));
        order.insert(now, number);
        if order.len() > entries {
            let (_, oldest) = order.pop_first().expect("it is not empty");
            used.remove(&oldest);
        }
        before.is_some()
    };
    trace
        .iter()
        .enumerate()
        .filter(|&access| hit(access))
        .count()
}

#[test]
fn scans_do_not_flush_what_is_used() {
    const ENTRIES: u64 = 500;
    let trace = trace(150_000);
    let percent = |hits: usize| hits as f64 / trace.len() as f64 * 100.0;
    let each = weigh(&Key::from(&[0; 8][..]), Some(&Entry::new((), 0)));
    let lru = percent(hits_of_lru(ENTRIES as usize, &trace));
    let own = percent(hits(&L1::new(ENTRIES * each, 1), &trace));
    assert!(own > lru + 9.0, "{own} % of hits, LRU {lru} %");
    // The same when a ceiling is what bounds it.
    let ceiling = Arc::new(Ceiling::new(ENTRIES * each));
    let below = percent(hits(&L1::with_ceiling(1 << 20, 1, ceiling), &trace));
    assert!(
        below > lru + 8.0,
        "{below} % of hits below a ceiling, LRU {lru} %"
    );
}

#[test]
fn threads() {
    let alive = Arc::new(AtomicI64::new(0));
    let ceiling = Arc::new(Ceiling::new(70_000));
    let l1s = [1, 4].map(|shards| L1::with_ceiling(50_000, shards, Arc::clone(&ceiling)));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (l1s, alive) = (&l1s, &alive);
            scope.spawn(move || {
                for round in 0..20_000_u64 {
                    let number = (round * 31 + thread * 97) % 500;
                    let l1 = &l1s[(round % 2) as usize];
                    if let Some(found) = l1.get(&key(number)) {
                        assert_eq!(found.generation, number, "an entry of another key");
                    }
                    match round % 16 {
                        0 => drop(l1.remove(&key(number))),
                        1 if round % 512 == 1 => drop(l1.clear()),
                        2 if round % 256 == 2 => {
                            drop(l1.remove_where(|_, e| e.generation % 7 == 0))
                        }
                        3 if round % 128 == 3 => drop(l1.set_capacity(20_000 + round)),
                        _ => {
                            alive.fetch_add(1, Ordering::SeqCst);
                            let home = Arc::new(OnceLock::new());
                            let value = Visitor {
                                alive: Arc::clone(alive),
                                l1: home,
                            };
                            let mut entry = Entry::new(value, number);
                            entry.generation = number;
                            drop(l1.insert(&key(number)[..], Arc::new(entry)));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(
        alive.load(Ordering::SeqCst) as usize,
        l1s.iter().map(L1::len).sum::<usize>()
    );
    assert_eq!(ceiling.used(), l1s.iter().map(L1::weight).sum::<u64>());
    for l1 in &l1s {
        assert!(l1.weight() <= l1.capacity());
        let (mut weight, mut len) = (0, 0);
        let all = l1.remove_where(|key, entry| {
            weight += weigh(&Key::from(key), Some(entry));
            len += 1;
            false
        });
        assert!(all.is_empty());
        assert_eq!((l1.weight(), l1.len()), (weight, len));
    }
    drop(l1s);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
