use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use super::*;
use crate::cachekitio::error::Again;

/// The port of a listener of this machine that nobody is to reach.
static PORT: AtomicU16 = AtomicU16::new(0);
static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

fn local(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), PORT.load(Ordering::SeqCst))
}

fn dial(custom_host: bool, resolver: Resolver) -> std::result::Result<TcpStream, Failure> {
    let config = if custom_host {
        CachekitIOConfig::with_custom_host("https://cache.example", "ck_test_k")
    } else {
        CachekitIOConfig::new("https://api.cachekit.io", "ck_test_k")
    };
    let mut connector = Connector::new(config.expect("a good configuration"));
    connector.resolver = Some(resolver);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a poller");
    runtime.block_on(connector.dial(Instant::now() + Duration::from_secs(2)))
}

/// Nothing was dialled: the error names the address and says what would help.
fn assert_refused(resolver: Resolver, custom_host: bool) {
    let failure = dial(custom_host, resolver).expect_err("it is not dialled");
    assert_eq!(
        failure.error.kind(),
        ErrorKind::Permanent,
        "{}",
        failure.error
    );
    assert_eq!(failure.again, Again::Never);
    assert!(
        failure.error.message().contains("not dialled"),
        "{}",
        failure.error
    );
}

#[test]
fn a_name_is_judged_by_the_address_that_is_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket can be");
    let port = listener.local_addr().expect("bound").port();
    PORT.store(port, Ordering::SeqCst);
    assert_refused(|_, _| Ok(vec![local("127.0.0.1")]), false);
    assert_refused(
        |_, _| Ok(vec![local("::ffff:127.0.0.1"), local("10.0.0.1")]),
        false,
    );
    assert_refused(|_, _| Ok(vec![local("169.254.169.254")]), true);
    assert_refused(|_, _| Ok(vec![local("64:ff9b::a9fe:a9fe")]), true);

    // Beside one that may be dialled, one that may not is left out.
    let mixed = dial(false, |_, _| {
        Ok(vec![local("127.0.0.1"), local("240.0.0.1")])
    });
    assert_eq!(mixed.expect_err("both are refused").again, Again::Never);

    // A name that means something else at each look-up: it is looked up once per connection, and
    // what that gave is what is judged and dialled.
    fn rebinding(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let first = LOOKUPS.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        Ok(vec![local(if first { "192.0.2.1" } else { "127.0.0.1" })])
    }
    for lookups in 1..5 {
        assert_refused(rebinding, false);
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), lookups);
    }
    assert!(listener.accept().is_err(), "somebody was let through");

    // The host that somebody named on purpose.
    dial(true, |_, _| {
        Ok(vec![local("192.0.2.1"), local("127.0.0.1")])
    })
    .expect("it is dialled");
    assert!(listener.accept().is_ok());
    let nowhere = dial(true, |_, _| Ok(Vec::new())).expect_err("no address");
    assert_eq!(nowhere.again, Again::Undone);
}
