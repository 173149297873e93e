use super::*;
use proptest::prelude::*;

const RECOVERY: Duration = Duration::from_millis(100);

fn at(millis: u64) -> Tick {
    Tick(millis * 1_000_000)
}

fn breaker() -> Breaker {
    Breaker::new(BreakerConfig {
        recovery_timeout: RECOVERY,
        ..BreakerConfig::default()
    })
}

fn granted(breaker: &Breaker, now: Tick) -> Permit<&Breaker> {
    match breaker.try_acquire(now) {
        Permission::Granted(permit) => permit,
        Permission::Refused => panic!("refused in {}", breaker.state(now)),
    }
}

fn refused(breaker: &Breaker, now: Tick) -> bool {
    matches!(breaker.try_acquire(now), Permission::Refused)
}

fn open(breaker: &Breaker, now: Tick) {
    for _ in 0..4 {
        assert_eq!(
            granted(breaker, now).failure(now, FailureKind::Transient),
            None
        );
    }
    let last = granted(breaker, now).failure(now, FailureKind::Timeout);
    assert_eq!(last, Some(State::Open));
}

#[test]
fn opens_probes_and_closes() {
    let breaker = breaker();
    open(&breaker, at(0));
    assert!(refused(&breaker, at(99)));
    let seen = breaker.snapshot(at(99));
    assert_eq!(seen.state.name(), "OPEN");
    assert_eq!((seen.failure_count, seen.last_failure), (5, Some(at(0))));
    assert_eq!(seen.next_attempt, Some(at(100)));
    assert_eq!(seen.last_kind, Some(FailureKind::Timeout));

    assert_eq!(breaker.state(at(100)).name(), "HALF_OPEN");
    let permits = [(); 3].map(|()| granted(&breaker, at(100)));
    assert!(refused(&breaker, at(100)), "a fourth at once");
    let changes = permits.map(|permit| permit.success(at(101)));
    assert_eq!(changes, [None, None, Some(State::Closed)]);
    let seen = breaker.snapshot(at(101));
    assert_eq!((seen.state.name(), seen.failure_count), ("CLOSED", 0));
}

#[test]
fn a_success_between_forgets_the_failures() {
    let breaker = breaker();
    for _ in 0..20 {
        for _ in 0..4 {
            assert_eq!(
                granted(&breaker, at(0)).failure(at(0), FailureKind::Unknown),
                None
            );
        }
        assert_eq!(granted(&breaker, at(0)).success(at(0)), None);
    }
    assert_eq!(breaker.state(at(0)), State::Closed);
}

#[test]
fn permanent_errors_do_not_open_it_and_close_it() {
    let breaker = breaker();
    for _ in 0..50 {
        assert_eq!(
            granted(&breaker, at(0)).failure(at(0), FailureKind::Permanent),
            None
        );
    }
    assert_eq!(breaker.state(at(0)), State::Closed);
    open(&breaker, at(0));
    for expected in [None, None, Some(State::Closed)] {
        let change = granted(&breaker, at(100)).failure(at(100), FailureKind::Permanent);
        assert_eq!(change, expected);
    }
}

#[test]
fn permanent_errors_do_not_forget_failures() {
    let breaker = breaker();
    for _ in 0..4 {
        let _ = granted(&breaker, at(0)).failure(at(0), FailureKind::Transient);
        let _ = granted(&breaker, at(0)).failure(at(0), FailureKind::Permanent);
    }
    let last = granted(&breaker, at(0)).failure(at(0), FailureKind::Transient);
    assert_eq!(last, Some(State::Open));
}

#[test]
fn a_refused_credential_pauses_on_its_own() {
    let breaker = breaker();
    let change = granted(&breaker, at(7)).failure(at(7), FailureKind::Authentication);
    assert_eq!(change, Some(State::Open));
    assert!(refused(&breaker, at(106)));
    assert_eq!(granted(&breaker, at(107)).success(at(107)), None);
}

#[test]
fn a_failed_probe_reopens_for_a_full_timeout() {
    let breaker = breaker();
    open(&breaker, at(0));
    let (first, second) = (granted(&breaker, at(120)), granted(&breaker, at(121)));
    assert_eq!(
        first.failure(at(130), FailureKind::Timeout),
        Some(State::Open)
    );
    assert_eq!(
        second.success(at(131)),
        None,
        "it belongs to the period before"
    );
    assert!(refused(&breaker, at(229)));
    let _ = granted(&breaker, at(230)).success(at(230));
}

#[test]
fn verdicts_from_before_the_opening_do_not_count() {
    let breaker = breaker();
    let old = [(); 6].map(|()| granted(&breaker, at(0)));
    open(&breaker, at(0));
    let _probe = granted(&breaker, at(100));
    for (index, permit) in old.into_iter().enumerate() {
        let change = if index % 2 == 0 {
            permit.success(at(101))
        } else {
            permit.failure(at(101), FailureKind::Transient)
        };
        assert_eq!(change, None);
    }
    let seen = breaker.snapshot(at(101));
    assert_eq!((seen.state, seen.success_count), (State::HalfOpen, 0));
}

#[test]
fn a_cancelled_probe_gives_its_place_back() {
    let breaker = breaker();
    open(&breaker, at(0));
    for _ in 0..10 {
        let permits = [(); 3].map(|()| granted(&breaker, at(100)));
        assert!(refused(&breaker, at(100)));
        drop(permits);
    }
    assert_eq!(breaker.snapshot(at(100)).half_open_permits, 0);
}

#[test]
fn lost_probes_do_not_keep_it_half_open() {
    let breaker = breaker();
    open(&breaker, at(0));
    for _ in 0..3 {
        std::mem::forget(granted(&breaker, at(100)));
    }
    assert!(refused(&breaker, at(199)));
    for _ in 0..3 {
        let _ = granted(&breaker, at(200)).success(at(200));
    }
    assert_eq!(breaker.state(at(200)), State::Closed);
}

#[test]
fn reset_closes_and_disowns_what_is_under_way() {
    let breaker = breaker();
    open(&breaker, at(0));
    let probe = granted(&breaker, at(100));
    breaker.reset();
    assert_eq!(probe.failure(at(101), FailureKind::Timeout), None);
    let seen = breaker.snapshot(at(101));
    assert_eq!((seen.state, seen.failure_count), (State::Closed, 0));
}

#[test]
fn zeros_count_as_ones() {
    let breaker = Breaker::new(BreakerConfig {
        failure_threshold: 0,
        success_threshold: 0,
        recovery_timeout: Duration::ZERO,
        half_open_requests: 0,
    });
    assert_eq!(
        granted(&breaker, at(0)).failure(at(0), FailureKind::Timeout),
        Some(State::Open)
    );
    assert_eq!(granted(&breaker, at(0)).success(at(0)), Some(State::Closed));
}

/// The breaker as its documentation tells it, without any cleverness.
struct Model {
    config: BreakerConfig,
    period: u64,
    phase: Phase,
}

enum Phase {
    Closed {
        failures: u32,
    },
    Open {
        until: Tick,
    },
    HalfOpen {
        successes: u32,
        holders: Vec<u64>,
        last_grant: Tick,
    },
}

impl Model {
    fn acquire(&mut self, now: Tick, id: u64) -> bool {
        if matches!(self.phase, Phase::Open { until } if now >= until) {
            self.period += 1;
            self.phase = Phase::HalfOpen {
                successes: 0,
                holders: vec![],
                last_grant: now,
            };
        }
        match &mut self.phase {
            Phase::Closed { .. } => true,
            Phase::Open { .. } => false,
            Phase::HalfOpen {
                holders,
                last_grant,
                ..
            } => {
                if holders.len() == self.config.half_open_requests as usize {
                    if now < last_grant.plus(self.config.recovery_timeout) {
                        return false;
                    }
                    holders.clear();
                }
                holders.push(id);
                *last_grant = now;
                true
            }
        }
    }

    fn verdict(&mut self, id: u64, period: u64, now: Tick, failure: Option<FailureKind>) {
        if period != self.period {
            return;
        }
        let answered = matches!(failure, None | Some(FailureKind::Permanent));
        let phase = match &mut self.phase {
            Phase::Closed { failures } => match failure {
                None => {
                    *failures = 0;
                    return;
                }
                Some(FailureKind::Permanent) => return,
                Some(kind) => {
                    *failures += 1;
                    let auth = kind == FailureKind::Authentication;
                    if !auth && *failures < self.config.failure_threshold {
                        return;
                    }
                    Phase::Open {
                        until: now.plus(self.config.recovery_timeout),
                    }
                }
            },
            Phase::HalfOpen {
                successes, holders, ..
            } if answered => {
                holders.retain(|&holder| holder != id);
                *successes += 1;
                if *successes < self.config.success_threshold {
                    return;
                }
                Phase::Closed { failures: 0 }
            }
            Phase::HalfOpen { .. } => Phase::Open {
                until: now.plus(self.config.recovery_timeout),
            },
            Phase::Open { .. } => unreachable!("no permit is of a period of OPEN"),
        };
        self.period += 1;
        self.phase = phase;
    }

    fn cancel(&mut self, id: u64, period: u64) {
        if let Phase::HalfOpen { holders, .. } = &mut self.phase
            && period == self.period
        {
            holders.retain(|&holder| holder != id);
        }
    }

    fn state(&self, now: Tick) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            _ => State::HalfOpen,
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Acquire,
    Succeed(prop::sample::Index),
    Fail(prop::sample::Index, FailureKind),
    Cancel(prop::sample::Index),
    Lose(prop::sample::Index),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let kind = prop_oneof![
        4 => Just(FailureKind::Transient),
        2 => Just(FailureKind::Timeout),
        1 => Just(FailureKind::Authentication),
        1 => Just(FailureKind::Permanent),
        1 => Just(FailureKind::Unknown),
    ];
    let index = any::<prop::sample::Index>;
    let event = prop_oneof![
        2 => (0_u64..60).prop_map(Event::Wait),
        6 => Just(Event::Acquire),
        4 => index().prop_map(Event::Succeed),
        4 => (index(), kind).prop_map(|(index, kind)| Event::Fail(index, kind)),
        1 => index().prop_map(Event::Cancel),
        1 => index().prop_map(Event::Lose),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    #[test]
    fn behaves_as_documented_and_always_recovers(
        events in events(),
        failure_threshold in 1_u32..5,
        success_threshold in 1_u32..5,
        half_open_requests in 1_u32..4,
    ) {
        let config = BreakerConfig {
            failure_threshold,
            success_threshold,
            recovery_timeout: RECOVERY,
            half_open_requests,
        };
        let breaker = Breaker::new(config);
        let mut model = Model { config, period: 0, phase: Phase::Closed { failures: 0 } };
        let mut permits = Vec::new();
        let (mut now, mut next) = (at(0), 0);
        for event in events {
            match event {
                Event::Wait(millis) => now = now.plus(Duration::from_millis(millis)),
                Event::Acquire => {
                    next += 1;
                    let expected = model.acquire(now, next);
                    match breaker.try_acquire(now) {
                        Permission::Granted(permit) => {
                            prop_assert!(expected);
                            permits.push((permit, next, model.period));
                        }
                        Permission::Refused => prop_assert!(!expected),
                    }
                }
                _ if permits.is_empty() => {}
                Event::Succeed(index) => {
                    let (permit, id, period) = permits.swap_remove(index.index(permits.len()));
                    let before = model.period;
                    model.verdict(id, period, now, None);
                    let changed = (model.period != before).then(|| model.state(now));
                    prop_assert_eq!(permit.success(now), changed);
                }
                Event::Fail(index, kind) => {
                    let (permit, id, period) = permits.swap_remove(index.index(permits.len()));
                    let before = model.period;
                    model.verdict(id, period, now, Some(kind));
                    let changed = (model.period != before).then(|| model.state(now));
                    prop_assert_eq!(permit.failure(now, kind), changed);
                }
                Event::Cancel(index) => {
                    let (permit, id, period) = permits.swap_remove(index.index(permits.len()));
                    model.cancel(id, period);
                    drop(permit);
                }
                Event::Lose(index) => {
                    std::mem::forget(permits.swap_remove(index.index(permits.len())).0);
                }
            }
            let seen = breaker.snapshot(now);
            prop_assert_eq!(seen.state, model.state(now));
            match &model.phase {
                Phase::Closed { failures } => prop_assert_eq!(seen.failure_count, *failures),
                Phase::Open { until } if now < *until => {
                    prop_assert_eq!(seen.next_attempt, Some(*until));
                }
                Phase::Open { .. } => {}
                Phase::HalfOpen { successes, holders, .. } => {
                    prop_assert_eq!(seen.success_count, *successes);
                    prop_assert_eq!(seen.half_open_permits as usize, holders.len());
                    prop_assert!(seen.half_open_permits <= half_open_requests);
                }
            }
        }
        // Whatever happened, and with every other permit still out: a backend that works is used.
        now = now.plus(RECOVERY);
        for _ in 0..success_threshold {
            let Permission::Granted(permit) = breaker.try_acquire(now) else {
                return Err(TestCaseError::fail("a backend that works is refused"));
            };
            let _ = permit.success(now);
        }
        prop_assert_eq!(breaker.state(now), State::Closed);
    }
}

#[test]
fn threads_agree() {
    let breaker = Arc::new(Breaker::new(BreakerConfig {
        failure_threshold: 3,
        recovery_timeout: Duration::from_nanos(500),
        ..BreakerConfig::default()
    }));
    let ticks = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (breaker, ticks) = (&breaker, &ticks);
            scope.spawn(move || {
                for round in 0..20_000_u64 {
                    let now = Tick(ticks.fetch_add(1, Ordering::Relaxed));
                    let Permission::Granted(permit) = breaker.try_acquire_owned(now) else {
                        continue;
                    };
                    assert!(breaker.snapshot(now).half_open_permits <= 3);
                    let _ = match (round * 7 + thread) % 5 {
                        0 | 1 => permit.failure(now, FailureKind::Timeout),
                        2 => None,
                        _ => permit.success(now),
                    };
                }
            });
        }
    });
    let now = Tick(1_000_000);
    assert_eq!(
        breaker.snapshot(now).half_open_permits,
        0,
        "every place was given back"
    );
    for _ in 0..3 {
        let _ = granted(&breaker, now).success(now);
    }
    assert_eq!(breaker.state(now), State::Closed);
}
