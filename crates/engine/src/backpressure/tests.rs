use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::task::Wake;
use std::thread::Thread;

fn limits(max_concurrent: u32, queue_size: u32) -> Arc<Backpressure> {
    Arc::new(Backpressure::new(BackpressureConfig {
        max_concurrent,
        queue_size,
        ..BackpressureConfig::default()
    }))
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll(entering: &mut Entering, flag: &Arc<Flag>) -> Poll<Result<Pass, QueueFull>> {
    let waker = Waker::from(Arc::clone(flag));
    Pin::new(entering).poll(&mut Context::from_waker(&waker))
}

#[test]
fn lets_in_queues_and_rejects() {
    let gate = limits(1, 1);
    let pass = gate.try_enter_owned().expect("free");
    assert!(gate.try_enter().is_none());
    let (mut second, flag) = (gate.enter_owned(), Arc::new(Flag::default()));
    assert!(poll(&mut second, &flag).is_pending());
    let mut third = gate.enter_owned();
    let Poll::Ready(Err(full)) = poll(&mut third, &flag) else {
        panic!("one waits already")
    };
    assert!(
        full.to_string()
            .starts_with("1 operations under way and 1 waiting")
    );
    let seen = gate.snapshot();
    assert_eq!(
        (seen.current, seen.waiting, seen.rejected, seen.abandoned),
        (1, 1, 1, 0)
    );
    drop(pass);
    assert!(flag.is_set());
    assert!(gate.try_enter().is_none(), "the pass has an owner already");
    let Poll::Ready(Ok(pass)) = poll(&mut second, &flag) else {
        panic!("woken for nothing")
    };
    drop(pass);
    assert_eq!(gate.snapshot().current, 0);
    assert!(gate.try_enter().is_some());
}

#[test]
fn a_granted_pass_that_is_not_picked_up_goes_on() {
    let gate = limits(1, 9);
    let pass = gate.try_enter_owned().expect("free");
    let flags = [(); 2].map(|()| Arc::new(Flag::default()));
    let mut waiters = flags.each_ref().map(|flag| {
        let mut entering = gate.enter_owned();
        assert!(poll(&mut entering, flag).is_pending());
        entering
    });
    drop(pass);
    assert!(flags[0].is_set() && !flags[1].is_set());
    let [first, ref mut second] = waiters;
    drop(first);
    assert!(flags[1].is_set());
    assert!(matches!(poll(second, &flags[1]), Poll::Ready(Ok(_))));
    assert_eq!(gate.snapshot().abandoned, 1);
}

#[test]
fn the_latest_waker_is_woken() {
    let gate = limits(1, 1);
    let pass = gate.try_enter_owned().expect("free");
    let flags = [(); 2].map(|()| Arc::new(Flag::default()));
    let mut entering = gate.enter_owned();
    for flag in &flags {
        assert!(poll(&mut entering, flag).is_pending());
    }
    assert_eq!(
        Arc::strong_count(&flags[0]),
        1,
        "the first waker is forgotten"
    );
    drop(pass);
    assert!(!flags[0].is_set() && flags[1].is_set());
}

#[test]
fn nobody_waits_without_a_queue() {
    let gate = limits(0, 0);
    let pass = gate.try_enter_owned().expect("zero counts as one");
    let flag = Arc::new(Flag::default());
    assert!(matches!(
        poll(&mut gate.enter_owned(), &flag),
        Poll::Ready(Err(_))
    ));
    drop(pass);
    assert!(matches!(
        poll(&mut gate.enter_owned(), &flag),
        Poll::Ready(Ok(_))
    ));
}

#[derive(Clone, Debug)]
enum Event {
    Try,
    Enter,
    Poll(prop::sample::Index),
    Cancel(prop::sample::Index),
    Leave(prop::sample::Index),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = any::<prop::sample::Index>;
    let event = prop_oneof![
        2 => Just(Event::Try),
        5 => Just(Event::Enter),
        3 => index().prop_map(Event::Poll),
        2 => index().prop_map(Event::Cancel),
        4 => index().prop_map(Event::Leave),
    ];
    prop::collection::vec(event, 0..300)
}

proptest! {
    #[test]
    fn in_order_within_bounds_and_without_leaks(
        events in events(),
        max in 1_u32..4,
        queue_size in 0_u32..5,
    ) {
        let gate = limits(max, queue_size);
        let mut passes = Vec::new();
        // Futures that have been polled, with their wakers and numbers in order of arrival.
        let mut waiters: Vec<(Entering, Arc<Flag>, u32)> = Vec::new();
        // The model: who was given a pass and has not picked it up, and who waits.
        let mut granted: Vec<u32> = Vec::new();
        let mut queue: VecDeque<u32> = VecDeque::new();
        let mut arrivals = 0;
        for event in events {
            let out = passes.len() + granted.len();
            match event {
                Event::Try => {
                    let free = out < max as usize && queue.is_empty();
                    let pass = gate.try_enter_owned();
                    prop_assert_eq!(pass.is_some(), free);
                    passes.extend(pass);
                }
                Event::Enter => {
                    arrivals += 1;
                    let (mut entering, flag) = (gate.enter_owned(), Arc::new(Flag::default()));
                    match poll(&mut entering, &flag) {
                        Poll::Ready(Ok(pass)) => {
                            prop_assert!(out < max as usize && queue.is_empty());
                            passes.push(pass);
                        }
                        Poll::Ready(Err(_)) => {
                            prop_assert_eq!(out, max as usize);
                            prop_assert_eq!(queue.len(), queue_size as usize);
                        }
                        Poll::Pending => {
                            prop_assert!(out == max as usize && queue.len() < queue_size as usize);
                            queue.push_back(arrivals);
                            waiters.push((entering, flag, arrivals));
                        }
                    }
                }
                Event::Poll(index) if !waiters.is_empty() => {
                    let index = index.index(waiters.len());
                    let (entering, flag, number) = &mut waiters[index];
                    let expected = granted.contains(number);
                    match poll(entering, flag) {
                        Poll::Ready(pass) => {
                            prop_assert!(expected);
                            granted.retain(|other| other != number);
                            passes.push(pass.expect("it was in the queue"));
                            drop(waiters.swap_remove(index));
                        }
                        Poll::Pending => prop_assert!(!expected),
                    }
                }
                Event::Cancel(index) if !waiters.is_empty() => {
                    let (entering, _, number) = waiters.swap_remove(index.index(waiters.len()));
                    drop(entering);
                    if granted.contains(&number) {
                        granted.retain(|&other| other != number);
                        granted.extend(queue.pop_front());
                    }
                    queue.retain(|&other| other != number);
                }
                Event::Leave(index) if !passes.is_empty() => {
                    drop(passes.swap_remove(index.index(passes.len())));
                    granted.extend(queue.pop_front());
                }
                _ => {}
            }
            for (_, flag, number) in &waiters {
                prop_assert_eq!(flag.is_set(), granted.contains(number));
            }
            let seen = gate.snapshot();
            prop_assert_eq!(seen.current as usize, passes.len() + granted.len());
            prop_assert_eq!(seen.waiting as usize, queue.len());
            prop_assert!(seen.current <= max && seen.waiting <= queue_size);
        }
        drop(waiters);
        drop(passes);
        let seen = gate.snapshot();
        prop_assert_eq!((seen.current, seen.waiting), (0, 0));
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn threads_with_random_cancellation_never_exceed_it_or_leak() {
    let gate = limits(3, 4);
    let (inside, entered, full) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let (gate, inside, entered, full) = (&gate, &inside, &entered, &full);
            scope.spawn(move || {
                let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                let mut context = Context::from_waker(&waker);
                for round in 0..3_000_u32 {
                    let mut entering = gate.enter();
                    let gives_up = (round * 31 + thread * 17) % 7 == 0;
                    let pass = loop {
                        match Pin::new(&mut entering).poll(&mut context) {
                            Poll::Ready(result) => break result.ok(),
                            Poll::Pending if gives_up => break None,
                            Poll::Pending => std::thread::park(),
                        }
                    };
                    let Some(_pass) = pass else {
                        full.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                    if round % 3 == 0 {
                        std::thread::yield_now();
                    }
                    inside.fetch_sub(1, Ordering::SeqCst);
                    entered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let seen = gate.snapshot();
    assert_eq!((seen.current, seen.waiting), (0, 0));
    assert_eq!(u64::from(full.into_inner()), seen.rejected + seen.abandoned);
    assert!(entered.into_inner() > 0);
}
