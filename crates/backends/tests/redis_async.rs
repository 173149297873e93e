//! What only asynchronous callers meet: cancellation, several runtimes, lost listeners.

use std::time::{Duration, Instant};

use cachekit_backends::{AsyncBackend, Backend, ErrorKind, LockReply, RedisBackend, Released};
use cachekit_testkit::proxy::{Fault, Proxy};
use cachekit_testkit::raw::Answer;
use cachekit_testkit::servers::{RedisServer, wait_until};
use futures_util::future::{join, join_all};
use tokio::runtime::{Builder, Runtime};

const TIMEOUT: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a poller")
}

fn backend(url: &str) -> RedisBackend {
    RedisBackend::from_url(url).expect("a good URL")
}

fn aio(backend: &RedisBackend) -> &dyn AsyncBackend {
    backend.aio().expect("Redis is asynchronous too")
}

async fn take(aio: &dyn AsyncBackend, key: &str) {
    let reply = aio
        .try_lock(key, "holder", LEASE, TIMEOUT)
        .await
        .expect("try_lock");
    assert_eq!(reply, LockReply::Acquired(None));
}

#[test]
fn cancelled_calls_leave_no_trace() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let aio = aio(&backend);
    runtime().block_on(async {
        let big = vec![b'x'; 4 << 20];
        aio.set("big", &big, None, TIMEOUT).await.expect("set");
        for i in 0..200_u64 {
            let key = format!("small{}", i % 7);
            aio.set(&key, key.as_bytes(), None, TIMEOUT)
                .await
                .expect("set");
            let cut =
                tokio::time::timeout(Duration::from_micros(i * 20), aio.get("big", true, TIMEOUT));
            let (cut, found) = join(cut, aio.get(&key, false, TIMEOUT)).await;
            if let Ok(found) = cut {
                assert!(found.expect("get").expect("an entry").value == big);
            }
            assert_eq!(found.expect("get").expect("an entry").value, key);
        }
    });
}

#[test]
fn many_calls_share_one_connection() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let backend = backend(&format!("redis://127.0.0.1:{}", proxy.port()));
    let aio = aio(&backend);
    runtime().block_on(async {
        let calls = (0..500).map(|i| async move {
            let (key, value) = (format!("key{i}"), format!("value{i}"));
            aio.set(&key, value.as_bytes(), None, TIMEOUT)
                .await
                .expect("set");
            let found = aio.get(&key, true, TIMEOUT).await.expect("get");
            assert_eq!(found.expect("an entry").value, value);
        });
        join_all(calls).await;
    });
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn callers_that_connect_together_fail_together() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    proxy.always(Fault::NoReply);
    // A login makes connecting wait for an answer.
    let backend = backend(&format!("redis://:p@127.0.0.1:{}", proxy.port()));
    let aio = aio(&backend);
    let start = Instant::now();
    runtime().block_on(async {
        let calls = (0..100).map(|_| aio.get("key", false, TIMEOUT));
        for outcome in join_all(calls).await {
            assert_eq!(outcome.expect_err("no answer").kind(), ErrorKind::Timeout);
        }
    });
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "one connect timeout, not a hundred"
    );
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn every_runtime_has_its_own_connection() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let aio = aio(&backend);
    let first = runtime();
    first
        .block_on(async { aio.set("key", b"v", None, TIMEOUT).await })
        .expect("set");
    for _ in 0..3 {
        // `first` stands still meanwhile, and so does its connection's task.
        let other = runtime();
        let found = other.block_on(async { aio.get("key", false, TIMEOUT).await });
        assert_eq!(found.expect("get").expect("an entry").value, "v");
        let found = first.block_on(async { aio.get("key", false, TIMEOUT).await });
        assert_eq!(found.expect("get").expect("an entry").value, "v");
    }
}

#[test]
fn a_silently_dead_connection_is_replaced() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let backend = backend(&format!("redis://127.0.0.1:{}", proxy.port()));
    let aio = aio(&backend);
    runtime().block_on(async {
        aio.set("key", b"v", None, TIMEOUT).await.expect("set");
        proxy.once(Fault::BlackHole);
        let short = Duration::from_millis(100);
        let error = aio.get("key", false, short).await.expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let found = aio.get("key", false, TIMEOUT).await.expect("get");
        assert_eq!(found.expect("an entry").value, "v");
    });
    assert_eq!(proxy.accepted(), 2);
}

fn clients(server: &RedisServer) -> usize {
    match server.command(&["CLIENT", "LIST"]) {
        Answer::Text(list) => list.lines().count() - 1,
        other => panic!("{other:?} is no list"),
    }
}

#[test]
fn a_dropped_backend_closes_what_it_had_open() {
    let server = RedisServer::start();
    let runtime = runtime();
    {
        let backend = backend(&server.url());
        runtime.block_on(async {
            let aio = aio(&backend);
            take(aio, "key").await;
            let waited = aio.released("key", Duration::from_millis(20)).await;
            assert_eq!(waited.expect("released"), Released::Elapsed);
        });
        assert_eq!(clients(&server), 2, "calls and listening");
    }
    runtime.block_on(async {
        let deadline = Instant::now() + TIMEOUT;
        while clients(&server) > 0 {
            assert!(Instant::now() < deadline, "connections stay open");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// Waits on a held lock, does `disturb` meanwhile, releases, and returns how long after the
/// release the waiter woke.
fn wakes_after(
    server: &RedisServer,
    backend: &RedisBackend,
    key: &str,
    disturb: impl Fn(),
) -> Duration {
    let aio = aio(backend);
    let helper = RedisBackend::from_url(&server.url()).expect("a good URL");
    runtime().block_on(async {
        take(aio, key).await;
        let release = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            disturb();
            tokio::time::sleep(Duration::from_millis(150)).await;
            let locking = helper.lock().expect("Redis has a lock");
            assert!(locking.unlock(key, "holder", TIMEOUT).expect("unlock"));
            Instant::now()
        };
        let waiter = async {
            let released = aio.released(key, LEASE).await.expect("released");
            assert_eq!(released, Released::Notified);
            Instant::now()
        };
        let (woken, released) = join(waiter, release).await;
        woken.saturating_duration_since(released)
    })
}

/// Fails if a waiter takes about as long, each of a few times, as one that nobody wakes.
fn wakes_soon(server: &RedisServer, backend: &RedisBackend, key: &str, disturb: impl Fn()) {
    let delays = (0..4).map(|_| wakes_after(server, backend, key, &disturb));
    let late: Vec<Duration> = delays
        .take_while(|delay| *delay >= Duration::from_millis(700))
        .collect();
    assert!(late.len() < 4, "{late:?}");
}

#[test]
fn a_lost_listener_does_not_lose_the_waiters() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    wakes_soon(&server, &backend, "key", || {
        let killed = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert_eq!(killed, Answer::Int(1), "one connection listens");
    });
    // The next waiter listens again.
    wakes_soon(&server, &backend, "key", || {
        wait_until(
            "somebody listens",
            || matches!(server.command(&["PUBSUB", "CHANNELS"]), Answer::List(channels) if channels.len() == 1),
        );
    });
}

#[test]
fn a_user_without_channels_waits_by_looking() {
    let server = RedisServer::start();
    server.command(&[
        "ACL",
        "SETUSER",
        "quiet",
        "on",
        ">p",
        "~*",
        "+@all",
        "resetchannels",
    ]);
    let backend = backend(&format!("redis://quiet:p@127.0.0.1:{}", server.port()));
    wakes_soon(&server, &backend, "key", || {});
    runtime().block_on(async {
        let aio = aio(&backend);
        take(aio, "key").await;
        // Publishing is not allowed either; the release is what matters.
        assert!(aio.unlock("key", "holder", TIMEOUT).await.expect("unlock"));
        take(aio, "key").await;
        aio.set_and_unlock("key", b"v", None, "holder", TIMEOUT)
            .await
            .expect("set_and_unlock");
        let reply = aio
            .try_lock("key", "next", LEASE, TIMEOUT)
            .await
            .expect("try_lock");
        assert!(matches!(reply, LockReply::Acquired(Some(_))), "{reply:?}");
    });
}

#[test]
fn waiting_without_a_server_is_an_error() {
    let mut server = RedisServer::start();
    let backend = backend(&server.url());
    runtime().block_on(async {
        let aio = aio(&backend);
        take(aio, "key").await;
        server.kill();
        let error = aio
            .released("key", LEASE)
            .await
            .expect_err("nobody can be asked");
        assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    });
}
