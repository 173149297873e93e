//! Single-flight as its callers see it: who leads, who waits, and that nobody waits for ever.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use cachekit_engine::{
    flight::{Flights, Join, Leader, Waiter},
    waits::{Caller, FlightId, ThreadKey},
};

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn thread_caller(leading: &[FlightId]) -> Caller<'_> {
    Caller {
        thread: Some(ThreadKey::current()),
        blocking: true,
        leading,
    }
}

fn task_on(thread: ThreadKey, leading: &[FlightId]) -> Caller<'_> {
    Caller {
        thread: Some(thread),
        blocking: false,
        leading,
    }
}

fn lead<T: std::fmt::Debug>(join: Join<T>) -> Leader<T> {
    match join {
        Join::Lead(leader) => leader,
        other => panic!("expected to lead, got {other:?}"),
    }
}

fn wait<T: std::fmt::Debug>(join: Join<T>) -> Waiter<T> {
    match join {
        Join::Wait(waiter) => waiter,
        other => panic!("expected to wait, got {other:?}"),
    }
}

fn other_thread() -> ThreadKey {
    thread::spawn(ThreadKey::current)
        .join()
        .expect("the thread only reads its key")
}

#[test]
fn two_hundred_threads_run_the_function_once() {
    let flights = Arc::new(Flights::<usize>::new());
    let runs = AtomicUsize::new(0);
    let filled = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                loop {
                    match flights.join(b"k", 0, thread_caller(&[])) {
                        Join::Lead(leader) => {
                            // As a driver does: look again before running.
                            if filled.load(Ordering::SeqCst) == 0 {
                                runs.fetch_add(1, Ordering::SeqCst);
                                thread::yield_now();
                                filled.store(42, Ordering::SeqCst);
                            }
                            leader.land(filled.load(Ordering::SeqCst));
                            break;
                        }
                        Join::Wait(waiter) => {
                            if let Some(value) = block_on(waiter) {
                                assert_eq!(*value, 42);
                                break;
                            }
                        }
                        Join::Alone => panic!("no circle here"),
                    }
                }
            });
        }
    });
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(flights.is_empty());
}

#[test]
fn an_abandoned_flight_lets_one_waiter_lead() {
    let flights = Arc::new(Flights::<()>::new());
    let leader = lead(flights.join(b"k", 0, task_on(other_thread(), &[])));
    let first = wait(flights.join(b"k", 0, thread_caller(&[])));
    let second = wait(flights.join(b"k", 0, task_on(other_thread(), &[])));
    drop(leader);
    assert!(block_on(first).is_none());
    assert!(block_on(second).is_none());
    let leader = lead(flights.join(b"k", 0, thread_caller(&[])));
    let waiter = wait(flights.join(b"k", 0, task_on(other_thread(), &[])));
    leader.land(());
    assert!(block_on(waiter).is_some());
}

#[test]
fn recursion_and_a_blocking_call_on_the_loops_thread_run_alone() {
    let flights = Arc::new(Flights::<()>::new());
    // A sync function that calls itself, and a sync caller on the thread of an async leader.
    let _leader = lead(flights.join(b"k", 0, thread_caller(&[])));
    assert!(matches!(
        flights.join(b"k", 0, thread_caller(&[])),
        Join::Alone
    ));
    // An async function that awaits itself, directly or in a child task of its own context.
    let looped = other_thread();
    let leader = lead(flights.join(b"a", 0, task_on(looped, &[])));
    let inside = [leader.id()];
    assert!(matches!(
        flights.join(b"a", 0, task_on(looped, &inside)),
        Join::Alone
    ));
    // Another task of the same loop waits: its loop stays free.
    assert!(matches!(
        flights.join(b"a", 0, task_on(looped, &[])),
        Join::Wait(_)
    ));
}

#[test]
fn tasks_that_wait_for_each_other_do_not() {
    let flights = Arc::new(Flights::<()>::new());
    let looped = other_thread();
    let a = lead(flights.join(b"a", 0, task_on(looped, &[])));
    let b = lead(flights.join(b"b", 0, task_on(looped, &[])));
    let (in_a, in_b) = ([a.id()], [b.id()]);
    let a_waits_for_b = wait(flights.join(b"b", 0, task_on(looped, &in_a)));
    assert!(matches!(
        flights.join(b"a", 0, task_on(looped, &in_b)),
        Join::Alone
    ));
    drop(a_waits_for_b);
    assert!(matches!(
        flights.join(b"a", 0, task_on(looped, &in_b)),
        Join::Wait(_)
    ));
}

#[test]
fn a_circle_through_a_blocked_loop_is_seen() {
    let flights = Arc::new(Flights::<()>::new());
    let looped = ThreadKey::current();
    let worker = other_thread();
    // A task of this thread's loop leads `task`; a worker leads `work` and waits for `task`.
    let _task = lead(flights.join(b"task", 0, task_on(looped, &[])));
    let work = lead(flights.join(
        b"work",
        0,
        Caller {
            thread: Some(worker),
            blocking: true,
            leading: &[],
        },
    ));
    let in_work = [work.id()];
    let _waits = wait(flights.join(
        b"task",
        0,
        Caller {
            thread: Some(worker),
            blocking: true,
            leading: &in_work,
        },
    ));
    // Blocking this loop on `work` would never end.
    assert!(matches!(
        flights.join(b"work", 0, thread_caller(&[])),
        Join::Alone
    ));
    // A task of the loop may wait for it.
    assert!(matches!(
        flights.join(b"work", 0, task_on(looped, &[])),
        Join::Wait(_)
    ));
}

#[test]
fn a_circle_through_two_functions_is_seen() {
    let (ones, twos) = (
        Arc::new(Flights::<()>::new()),
        Arc::new(Flights::<()>::new()),
    );
    let (here, there) = (ThreadKey::current(), other_thread());
    let one = lead(ones.join(b"k", 0, task_on(here, &[])));
    let two = lead(twos.join(b"k", 0, task_on(there, &[])));
    let (in_one, in_two) = ([one.id()], [two.id()]);
    let _one_waits_for_two = wait(twos.join(b"k", 0, task_on(here, &in_one)));
    assert!(matches!(
        ones.join(b"k", 0, task_on(there, &in_two)),
        Join::Alone
    ));
}

#[test]
fn an_invalidation_dooms_the_flight_and_later_callers_start_anew() {
    let flights = Arc::new(Flights::<u8>::new());
    let old = lead(flights.join(b"k", 0, task_on(other_thread(), &[])));
    let waiter = wait(flights.join(b"k", 0, thread_caller(&[])));
    flights.doom(b"k");
    assert!(old.is_doomed());
    let new = lead(flights.join(b"k", 0, task_on(other_thread(), &[])));
    assert!(!new.is_doomed());
    old.land(1);
    assert_eq!(block_on(waiter).as_deref(), Some(&1));
    assert_eq!(
        flights.len(),
        1,
        "the old flight's landing must not end the new one"
    );
    new.land(2);
    assert!(flights.is_empty());
}

#[test]
fn every_flight_can_be_doomed_at_once() {
    let flights = Arc::new(Flights::<u8>::new());
    let thread = other_thread();
    let leaders: Vec<_> = (0..40_u8)
        .map(|key| lead(flights.join(&[key], 0, task_on(thread, &[]))))
        .collect();
    let mut keys = flights.doom_all();
    keys.sort();
    assert_eq!(
        keys,
        (0..40_u8).map(|key| Box::from([key])).collect::<Vec<_>>()
    );
    assert!(leaders.iter().all(Leader::is_doomed));
    assert!(flights.is_empty());
}

#[test]
fn a_newer_generation_supersedes_a_flight() {
    let flights = Arc::new(Flights::<u8>::new());
    let old = lead(flights.join(b"k", 0, task_on(other_thread(), &[])));
    let new = lead(flights.join(b"k", 1, task_on(other_thread(), &[])));
    old.land(1);
    assert_eq!(flights.len(), 1);
    new.land(2);
    assert!(flights.is_empty());
}

#[test]
fn who_begins_beside_an_outdated_flight_knows_it() {
    let flights = Arc::new(Flights::<u8>::new());
    let begin = |generation| lead(flights.join(b"k", generation, task_on(other_thread(), &[])));
    let first = begin(0);
    assert!(!first.is_behind_outdated());
    flights.doom(b"k");
    let second = begin(0);
    assert!(second.is_behind_outdated());
    let third = begin(1); // The second is superseded.
    assert!(third.is_behind_outdated());
    first.land(1);
    third.land(3);
    let fourth = begin(1);
    assert!(
        fourth.is_behind_outdated(),
        "the second is in the air still"
    );
    drop(second);
    drop(fourth);
    assert!(!begin(1).is_behind_outdated());
}

#[test]
fn a_dropped_waiter_is_not_woken() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let flights = Arc::new(Flights::<()>::new());
    let leader = lead(flights.join(b"k", 0, task_on(other_thread(), &[])));
    let (gone, kept) = (Arc::new(Count(0.into())), Arc::new(Count(0.into())));
    let mut first = wait(flights.join(b"k", 0, thread_caller(&[])));
    let mut second = wait(flights.join(b"k", 0, thread_caller(&[])));
    for (waiter, count) in [(&mut first, &gone), (&mut second, &kept)] {
        let waker = Waker::from(Arc::clone(count));
        for _ in 0..3 {
            assert!(
                Pin::new(&mut *waiter)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
    }
    drop(first);
    leader.land(());
    assert_eq!(gone.0.load(Ordering::SeqCst), 0);
    assert_eq!(kept.0.load(Ordering::SeqCst), 1);
}
