//! The documented rights are enough, and each of them is needed.

use std::time::Duration;

use cachekit_backends::{
    AsyncBackend, Backend, ErrorKind, LockReply, RedisBackend, Released, Result,
};
use cachekit_testkit::servers::RedisServer;
use tokio::runtime::Builder;

const TIMEOUT: Duration = Duration::from_secs(5);
const KEY: &str = "ns:test:func:module.name:args:0123:1s";

/// The words of the command in the documentation.
fn documented() -> Vec<&'static str> {
    const PAGE: &str = include_str!("../../../docs/locks.md");
    let line = PAGE.lines().find(|line| line.starts_with("ACL SETUSER"));
    line.expect("the page has the command").split(' ').collect()
}

fn backend(server: &RedisServer) -> RedisBackend {
    let url = format!("redis://cachekit:PASSWORD@127.0.0.1:{}", server.port());
    RedisBackend::from_url(&url).expect("a good URL")
}

/// Every operation once.
async fn everything(backend: &RedisBackend, key: &str) -> Result<()> {
    let aio: &dyn AsyncBackend = backend.aio().expect("Redis is asynchronous too");
    let locking = backend.lock().expect("Redis has a lock");
    assert!(
        aio.health(TIMEOUT).await?.details.len() > 2,
        "INFO is answered"
    );
    aio.set(key, b"v", None, TIMEOUT).await?;
    assert!(aio.expire(key, TIMEOUT, TIMEOUT).await?);
    assert!(aio.ttl(key, TIMEOUT).await?.is_some());
    assert!(aio.exists(key, TIMEOUT).await?);
    assert!(aio.delete(key, TIMEOUT).await?);
    assert_eq!(aio.add(key, b"v", TIMEOUT).await?, "v");
    assert!(aio.get_with(key, key, true, TIMEOUT).await?.0.is_some());
    assert!(aio.delete(key, TIMEOUT).await?);
    assert_eq!(
        locking.try_lock(key, "a", TIMEOUT, TIMEOUT)?,
        LockReply::Acquired(None)
    );
    assert!(locking.renew(key, "a", TIMEOUT, TIMEOUT)?);
    let waiter = aio.released(key, TIMEOUT);
    let release = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        aio.set_and_unlock(key, b"v", None, "a", TIMEOUT).await
    };
    let (released, stored) = futures_util::future::join(waiter, release).await;
    stored?;
    assert_eq!(released?, Released::Notified);
    // The next subscription comes after the end of the last one.
    assert_eq!(aio.released(key, TIMEOUT).await?, Released::Notified);
    assert_eq!(
        backend.get(key, true, TIMEOUT)?.expect("an entry").value,
        "v"
    );
    Ok(())
}

fn run(backend: &RedisBackend, key: &str) -> Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a poller");
    runtime.block_on(everything(backend, key))
}

#[test]
fn the_documented_rights_are_enough() {
    let server = RedisServer::start();
    server.command(&documented());
    let backend = backend(&server);
    for key in [KEY, "t:default:ns:test:x"] {
        run(&backend, key).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    let log = format!("{:?}", server.command(&["ACL", "LOG"]));
    assert_eq!(log, "List([])", "nothing was refused, not even quietly");
    let error = run(&backend, "other:key").expect_err("another program's key");
    assert_eq!(error.kind(), ErrorKind::Authentication);
}

#[test]
fn each_documented_right_is_needed() {
    let commands: Vec<&str> = documented()
        .into_iter()
        .filter(|word| word.starts_with('+'))
        .collect();
    assert!(commands.len() > 10);
    for missing in commands {
        let server = RedisServer::start();
        let without: Vec<&str> = documented()
            .into_iter()
            .filter(|word| *word != missing)
            .collect();
        server.command(&without);
        // What is done without, such as publishing, is still in the server's log of refusals.
        let _ = std::panic::catch_unwind(|| run(&backend(&server), KEY));
        let log = format!("{:?}", server.command(&["ACL", "LOG"]));
        assert!(log.contains(&missing[1..]), "{missing} is not needed");
    }
}
