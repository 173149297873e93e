use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Condvar;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A name service that is silent until it is told to answer, and counts.
#[derive(Default)]
struct Service {
    answers: Mutex<bool>,
    told: Condvar,
    asked: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Service {
    fn lookups() -> (Arc<Self>, &'static Lookups) {
        let service = Arc::<Self>::default();
        let asked = Arc::clone(&service);
        let lookups = Lookups::new(move |host, port| asked.answer(host, port));
        (service, Box::leak(Box::new(lookups)))
    }

    fn answer(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        if host != "quick" {
            let mut answers = self.answers.lock();
            while !*answers {
                self.told.wait(&mut answers);
            }
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
        match host {
            "nobody" => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(vec![SocketAddr::new([127, 0, 0, 1].into(), port)]),
        }
    }

    fn speak(&self) {
        *self.answers.lock() = true;
        self.told.notify_all();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a poller").block_on(future)
}

fn blocking(all: &'static Lookups, host: &str, within: Duration) -> io::Result<Vec<SocketAddr>> {
    all.resolve(host, 1, Instant::now() + within)
}

fn awaited(all: &'static Lookups, host: &str, within: Duration) -> io::Result<Vec<SocketAddr>> {
    block_on(all.resolve_async(host, 1, Instant::now() + within))
}

/// A way of asking.
type Way = fn(&'static Lookups, &str, Duration) -> io::Result<Vec<SocketAddr>>;

const WAYS: [Way; 2] = [blocking, awaited];

#[test]
fn names_are_looked_up_and_addresses_are_not() {
    let deadline = Instant::now() + SOON;
    for (host, is_known) in [("localhost", true), ("no-such-host.invalid", false)] {
        let found = resolve(host, 1, deadline);
        assert_eq!(
            found.is_ok_and(|found| !found.is_empty()),
            is_known,
            "{host}"
        );
        let found = block_on(resolve_async(host, 1, deadline));
        assert_eq!(
            found.is_ok_and(|found| !found.is_empty()),
            is_known,
            "{host}"
        );
    }
    let (service, lookups) = Service::lookups();
    for way in WAYS {
        for ip in ["127.0.0.1", "::1"] {
            let found = way(lookups, ip, SOON).expect("an address");
            assert_eq!(found[0].ip().to_string(), ip);
        }
        let error = way(lookups, "nobody", Duration::from_millis(20)).expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("'nobody'"), "{error}");
    }
    service.speak();
    for way in WAYS {
        let error = way(lookups, "nobody", SOON).expect_err("there is none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(
            error.to_string().contains("'nobody' was not found"),
            "{error}"
        );
    }
}

#[test]
fn callers_of_a_name_share_its_look_up() {
    let (service, lookups) = Service::lookups();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..40)
            .map(|caller| scope.spawn(move || WAYS[caller % 2](lookups, "silent", SOON)))
            .collect();
        let all_wait = || {
            let state = lookups.state.lock();
            state.waiting.values().map(Vec::len).sum::<usize>() == 40
        };
        while !all_wait() {
            std::thread::yield_now();
        }
        // One that hangs keeps nobody from finding another.
        for way in WAYS {
            assert!(way(lookups, "quick", SOON).is_ok());
        }
        service.speak();
        for caller in callers {
            let found = caller.join().expect("no panic").expect("it is found");
            assert_eq!(found.len(), 1);
        }
    });
    assert_eq!(service.asked.load(Ordering::SeqCst), 1 + WAYS.len());
}

#[test]
fn few_run_at_a_time_and_none_for_who_has_gone() {
    let (service, lookups) = Service::lookups();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..40)
            .map(|caller| {
                scope.spawn(move || {
                    let within = if caller < 20 { SOON } else { SOON / 1000 };
                    WAYS[caller % 2](lookups, &format!("name{caller}"), within)
                })
            })
            .collect();
        for (caller, waiting) in callers.into_iter().enumerate().rev() {
            if caller == 19 {
                // The impatient have gone; the others are all there.
                service.speak();
            }
            let found = waiting.join().expect("no panic");
            assert_eq!(found.is_ok(), caller < 20, "{caller}: {found:?}");
        }
    });
    assert!(service.most.load(Ordering::SeqCst) <= AT_ONCE);
    // Of those who had gone, only those whose look-up had begun were looked up.
    assert!(service.asked.load(Ordering::SeqCst) <= 20 + AT_ONCE);
    // Threads end when there is nothing to do, and begin again.
    while lookups.state.lock().threads > 0 {
        std::thread::yield_now();
    }
    assert!(lookups.state.lock().waiting.is_empty());
    assert!(blocking(lookups, "quick", SOON).is_ok());
}
