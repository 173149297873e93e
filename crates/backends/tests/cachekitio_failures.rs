//! What a hostile or failing service does to its clients, seen through both faces.

use std::time::{Duration, Instant};

use cachekit_backends::{
    Backend, BackendError, CachekitIOBackend, CachekitIOConfig, ErrorKind, LockReply, Released,
    Remaining,
};
use cachekit_testkit::contract::{Face, each_face};
use cachekit_testkit::proxy::{Fault, Proxy};
use cachekit_testkit::scripted::{ScriptedApi, Seen, Step};

const TIMEOUT: Duration = Duration::from_secs(10);
const KEY: &str = "ck_test_verysecret";

/// A backend of the server. Each test runs in a process of its own, whose trust this changes.
fn backend(api: &ScriptedApi) -> CachekitIOBackend {
    trust(api);
    CachekitIOBackend::new(config(api))
}

fn config(api: &ScriptedApi) -> CachekitIOConfig {
    CachekitIOConfig::with_custom_host(&api.url(), KEY).expect("a good URL")
}

fn trust(api: &ScriptedApi) {
    // SAFETY: no other thread of this process reads or writes the environment: a test's own thread
    // has started the server, whose thread does neither.
    unsafe { std::env::set_var("SSL_CERT_FILE", api.ca()) };
}

fn status(code: u16) -> Step {
    Step::Answer(code, Vec::new(), Vec::new())
}

fn json(code: u16, text: &str) -> Step {
    Step::Answer(code, Vec::new(), text.as_bytes().to_vec())
}

fn value(bytes: &[u8]) -> Step {
    Step::Answer(200, Vec::new(), bytes.to_vec())
}

fn get(face: &dyn Face) -> Result<Option<Vec<u8>>, BackendError> {
    let found = face.get("k", false, TIMEOUT)?;
    Ok(found.map(|found| found.value.to_vec()))
}

#[test]
fn transient_failures_are_tried_again() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    each_face(&backend, |face| {
        for trouble in [
            status(500),
            status(502),
            status(503),
            status(429),
            Step::Reset,
            Step::Cut,
            Step::HalfBody,
        ] {
            let _ = api.seen();
            api.script([trouble.clone(), trouble.clone(), value(b"v")]);
            assert_eq!(
                get(face).expect("the third attempt").as_deref(),
                Some(&b"v"[..]),
                "{trouble:?}"
            );
            assert_eq!(api.seen().len(), 3, "{trouble:?}");
        }
    });
}

#[test]
fn attempts_end() {
    let api = ScriptedApi::start();
    trust(&api);
    for (retries, attempts) in [(0, 1), (2, 3)] {
        let backend = CachekitIOBackend::new(config(&api).max_retries(retries));
        each_face(&backend, |face| {
            let _ = api.seen();
            api.otherwise(status(500));
            assert_eq!(
                get(face).expect_err("it fails").kind(),
                ErrorKind::Transient
            );
            assert_eq!(api.seen().len(), attempts);
        });
    }
}

#[test]
fn refusals_are_not_tried_again() {
    use ErrorKind::{Authentication, Permanent, Timeout};
    let api = ScriptedApi::start();
    let backend = backend(&api);
    each_face(&backend, |face| {
        for (code, kind) in [
            (400, Permanent),
            (401, Authentication),
            (403, Authentication),
            (408, Timeout),
            (413, Permanent),
            (301, Permanent),
            (307, Permanent),
        ] {
            let _ = api.seen();
            let elsewhere = vec![("location", "https://example.com/".to_owned())];
            let reason = format!("no {KEY}\r\nhere").into_bytes();
            api.otherwise(Step::Answer(code, elsewhere, reason));
            let error = face.set("k", b"v", None, TIMEOUT).expect_err("refused");
            assert_eq!(error.kind(), kind, "{code}");
            assert_eq!(api.seen().len(), 1, "{code}");
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("verysecret") && shown.contains("no ***  here"),
                "{shown}"
            );
        }
    });
}

#[test]
fn a_pause_that_is_asked_for_is_kept_or_the_call_given_up() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    let later =
        |seconds: &str| Step::Answer(429, vec![("retry-after", seconds.to_owned())], Vec::new());
    each_face(&backend, |face| {
        api.script([later("1"), value(b"v")]);
        let started = Instant::now();
        assert!(get(face).expect("after the pause").is_some());
        assert!(started.elapsed() >= Duration::from_secs(1));
        api.script([later("3600")]);
        let started = Instant::now();
        let error = get(face).expect_err("the pause is longer than the call");
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(started.elapsed() < TIMEOUT / 2);
    });
}

#[test]
fn no_call_outlives_its_time() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    let short = Duration::from_millis(200);
    each_face(&backend, |face| {
        // What the first connection takes is not measured.
        assert_eq!(get(face).expect("an answer"), None);
        for trouble in [
            Step::Hang,
            Step::Drip(vec![1; 1000], Duration::from_millis(20)),
        ] {
            api.script([trouble]);
            let started = Instant::now();
            let error = face.get("k", false, short).expect_err("too late");
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert!(started.elapsed() < short + Duration::from_secs(2));
        }
        api.script([value(b"v")]);
        assert_eq!(get(face).expect("all is well").as_deref(), Some(&b"v"[..]));
    });
}

#[test]
fn what_is_too_long_is_not_read() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    each_face(&backend, |face| {
        api.script([Step::Zeros((256 << 20) + 1)]);
        let error = face.get("k", false, TIMEOUT * 6).expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::Permanent);
        api.script([Step::Zeros(1 << 20)]);
        let error = face.ttl("k", TIMEOUT).expect_err("too long for JSON");
        assert_eq!(error.kind(), ErrorKind::Transient);
        api.script([value(b"v")]);
        assert_eq!(get(face).expect("all is well").as_deref(), Some(&b"v"[..]));
    });
}

#[test]
fn answers_that_are_no_json() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    each_face(&backend, |face| {
        for nonsense in [
            "",
            "{",
            "[]",
            "null",
            r#"{"ttl":"x"}"#,
            r#"{"ttl":1e999}"#,
            "\u{0}",
        ] {
            api.script([json(200, nonsense)]);
            let error = face.ttl("k", TIMEOUT).expect_err(nonsense);
            assert_eq!(error.kind(), ErrorKind::Transient, "{nonsense}");
        }
        for (text, left) in [
            (r#"{"ttl":7}"#, Some(Remaining::For(Duration::from_secs(7)))),
            (r#"{"ttl":null}"#, Some(Remaining::Forever)),
            (r#"{"ttl":0}"#, None),
            (r#"{"ttl":-2}"#, None),
        ] {
            api.script([json(200, text)]);
            assert_eq!(face.ttl("k", TIMEOUT).expect(text), left);
        }
        // Whoever cannot show a lock's id does not have the lock.
        let lease = Duration::from_secs(5);
        for refusal in [
            json(200, r#"{"lock_id":null}"#),
            json(200, r#"{"lock_id":7}"#),
            json(200, r#"{"lock_id":""}"#),
            json(200, "nonsense"),
            json(409, r#"{"lock_id":"x"}"#),
        ] {
            api.script([refusal]);
            let reply = face
                .try_lock("k", "token", lease, TIMEOUT)
                .expect("an answer");
            assert!(matches!(reply, LockReply::Held { .. }), "{reply:?}");
        }
    });
}

#[test]
fn a_lock_is_not_asked_for_twice() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    each_face(&backend, |face| {
        let _ = api.seen();
        for trouble in [Step::Reset, Step::Cut, status(502)] {
            api.script([trouble.clone()]);
            let asked = face.try_lock("k", "token", Duration::from_secs(5), TIMEOUT);
            assert_eq!(asked.expect_err("lost").kind(), ErrorKind::Transient);
            assert_eq!(api.seen().len(), 1, "{trouble:?}");
        }
        // A server that has not done it is asked again.
        api.script([status(429), json(200, r#"{"lock_id":"id"}"#), status(404)]);
        let reply = face.try_lock("k", "token", Duration::from_secs(5), TIMEOUT);
        assert_eq!(
            reply.expect("the second attempt"),
            LockReply::Acquired(None)
        );
        let seen = api.seen();
        assert_eq!(seen.iter().filter(|seen| seen.method == "POST").count(), 2);
        assert_eq!(seen[0].body, br#"{"timeout_ms":5000}"#);
        api.script([status(200), status(200)]);
        face.set_and_unlock("k", b"v", None, "token", TIMEOUT)
            .expect("stored");
        let seen = api.seen();
        assert_eq!((&*seen[0].method, &*seen[0].path), ("PUT", "/v1/cache/k"));
        assert_eq!(
            (&*seen[1].method, &*seen[1].path),
            ("DELETE", "/v1/cache/k/lock")
        );
        assert_eq!(seen[1].header("x-cachekit-lock-id"), Some("id"));
        // The lock is given back: nothing is stored under it any more.
        face.set_and_unlock("k", b"v", None, "token", TIMEOUT)
            .expect("nothing");
        assert!(api.seen().is_empty());
    });
}

#[test]
fn what_a_service_answers_to_a_value_under_a_lock() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    let lock = |face: &dyn Face| {
        api.script([json(200, r#"{"lock_id":"id"}"#), status(404)]);
        let reply = face.try_lock("k", "token", Duration::from_secs(5), TIMEOUT);
        assert_eq!(reply.expect("the lock"), LockReply::Acquired(None));
        let _ = api.seen();
    };
    let echo = |id: &str| Step::Answer(200, vec![("x-cachekit-lock-id", id.to_owned())], vec![]);
    each_face(&backend, |face| {
        // One that repeats the id has released the lock; 409 says that it was ours no more.
        for (answer, requests) in [
            (echo("id"), 1),
            (status(409), 1),
            (echo("other"), 2),
            (status(204), 2),
        ] {
            lock(face);
            api.script([answer.clone(), status(200)].into_iter().take(requests));
            face.set_and_unlock("k", b"v", None, "token", TIMEOUT)
                .expect("settled");
            let seen = api.seen();
            assert_eq!(seen.len(), requests, "{answer:?}");
            assert_eq!(seen[0].header("x-cachekit-lock-id"), Some("id"));
            assert!(seen[1..].iter().all(|seen| seen.path == "/v1/cache/k/lock"));
        }
        // Refused, the lock is given back all the same.
        lock(face);
        api.script([status(413), status(200)]);
        let error = face.set_and_unlock("k", b"v", None, "token", TIMEOUT);
        assert_eq!(error.expect_err("too large").kind(), ErrorKind::Permanent);
        assert_eq!(api.seen()[1].path, "/v1/cache/k/lock");
    });
}

/// What is added is stored under a lock's id, so that a service that knows locks refuses it once somebody
/// has stored over it; one that does not is as good as can be.
#[test]
fn what_is_added_needs_its_lock() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    let held = json(200, r#"{"lock_id":"id"}"#);
    let asked = |seen: &[Seen]| -> Vec<String> {
        seen.iter()
            .map(|seen| {
                let id = seen.header("x-cachekit-lock-id").unwrap_or("-");
                format!("{} {} {id}", seen.method, &seen.path["/v1/cache/".len()..])
            })
            .collect()
    };
    let add = ["GET k -", "POST k/lock -", "GET k -", "PUT k id"];
    each_face(&backend, |face| {
        api.otherwise(status(404));
        // The lock was taken away: what is there counts, whoever stored it.
        api.script([status(404), held.clone(), status(404), status(409)]);
        api.script([value(b"over")]);
        assert_eq!(face.add("k", b"mine", TIMEOUT).expect("add"), "over");
        let seen = api.seen();
        assert_eq!(asked(&seen), [&add[..], &["GET k -"]].concat());
        assert_eq!(seen[3].header("x-cachekit-ttl"), Some("2592000"));
        // A service that says nothing of the lock still has it.
        api.script([status(404), held.clone(), status(404), status(200)]);
        assert_eq!(face.add("k", b"mine", TIMEOUT).expect("add"), "mine");
        assert_eq!(
            asked(&api.seen()),
            [&add[..], &["DELETE k/lock id"]].concat()
        );
        // Somebody was faster.
        api.script([status(404), held.clone(), value(b"theirs")]);
        assert_eq!(face.add("k", b"mine", TIMEOUT).expect("add"), "theirs");
        assert_eq!(
            asked(&api.seen()),
            [&add[..3], &["DELETE k/lock id"]].concat()
        );
        api.script([status(200)]);
        face.set_over_add("k", b"v", TIMEOUT).expect("set");
        assert_eq!(asked(&api.seen()), ["PUT k *"]);
    });
}

#[test]
fn a_lock_goes_with_its_entry_in_one_request() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    let asked = || -> Vec<_> {
        let asked = api.seen().into_iter().map(|seen| {
            assert_eq!(seen.method, "DELETE");
            let lock = seen.header("x-cachekit-lock-id").map(str::to_owned);
            (seen.path, lock)
        });
        asked.collect()
    };
    let any = Some("*".to_owned());
    each_face(&backend, |face| {
        api.otherwise(status(404));
        let name = face.lock_name("k");
        face.delete_many(&[&name, "k"], TIMEOUT).expect("deleted");
        assert_eq!(asked(), [("/v1/cache/k".to_owned(), any.clone())]);
        for alone in [
            face.delete_many(&[&name], TIMEOUT).map(drop),
            face.delete(&name, TIMEOUT).map(drop),
        ] {
            alone.expect("deleted");
        }
        let lock = ("/v1/cache/k/lock".to_owned(), any.clone());
        assert_eq!(asked(), [lock.clone(), lock]);
        face.delete_many(&["k"], TIMEOUT).expect("deleted");
        assert_eq!(asked(), [("/v1/cache/k".to_owned(), None)]);
    });
}

#[test]
fn a_service_that_does_not_tell_of_locks_is_asked_for_the_value() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    let aio = backend.aio().expect("it has");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let wait = async |at_most| aio.released("k", at_most).await.expect("an answer");
    runtime.expect("a poller").block_on(async {
        api.script([
            json(200, r#"{"held":true}"#),
            json(200, r#"{"held":false}"#),
        ]);
        assert_eq!(wait(TIMEOUT).await, Released::Notified);
        assert!(api.seen()[0].path.starts_with("/v1/cache/k/lock?wait_ms="));
        api.otherwise(status(404));
        assert_eq!(wait(Duration::from_secs(1)).await, Released::Elapsed);
        let seen = api.seen();
        assert_eq!(seen[0].method, "GET", "it is asked once more");
        assert!(seen.len() > 1 && seen[1..].iter().all(|seen| seen.method == "HEAD"));
        // Not as a step of a script: the last request of the wait before may come as late as now.
        api.otherwise(status(200));
        assert_eq!(wait(TIMEOUT).await, Released::Notified);
        assert!(api.seen().iter().all(|seen| seen.method == "HEAD"));
        // The last look is not answered before the wait is over.
        api.otherwise(Step::Hang);
        assert_eq!(wait(Duration::from_secs(1)).await, Released::Elapsed);
        assert_eq!(api.seen().len(), 1);
    });
}

#[test]
fn what_requests_say() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    each_face(&backend, |face| {
        api.otherwise(status(200));
        face.set("a:b", b"v", Some(Duration::from_millis(1500)), TIMEOUT)
            .expect("stored");
        face.set("k", b"v", None, TIMEOUT).expect("stored");
        let seen = api.seen();
        assert_eq!((&*seen[0].method, &*seen[0].path), ("PUT", "/v1/cache/a:b"));
        for (name, value) in [
            ("authorization", "Bearer ck_test_verysecret"),
            ("content-type", "application/octet-stream"),
            ("x-cachekit-ttl", "2"),
            ("x-ttl", "2"),
            ("x-cachekit-l1-status", "disabled"),
        ] {
            assert_eq!(seen[0].header(name), Some(value), "{name}");
        }
        assert_eq!(seen[1].header("x-cachekit-ttl"), None);
        face.expire("k", Duration::from_secs(9), TIMEOUT)
            .expect("refreshed");
        let seen = api.seen();
        assert_eq!(
            (&*seen[0].method, &*seen[0].path),
            ("PATCH", "/v1/cache/k/ttl")
        );
        assert_eq!(seen[0].body, br#"{"ttl":9}"#);
        assert_eq!(seen[0].header("content-type"), Some("application/json"));
    });
}

#[test]
fn a_service_that_does_not_tell_lives_is_asked_for_them() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    each_face(&backend, |face| {
        for _ in 0..2 {
            let ttl = || json(200, r#"{"ttl":7}"#);
            api.script([ttl(), ttl()]);
            let found = face
                .get("k", true, TIMEOUT)
                .expect("found")
                .expect("an entry");
            assert_eq!(found.remaining, Remaining::For(Duration::from_secs(7)));
        }
        // What is not fresh is nothing, unless one asks for it.
        let stale = |word: &str| {
            Step::Answer(
                200,
                vec![("x-cachekit-freshness", word.to_owned())],
                b"v".to_vec(),
            )
        };
        for word in ["stale", "", "Fresh", "old"] {
            api.script([stale(word)]);
            assert_eq!(get(face).expect("an answer"), None, "{word}");
        }
        api.script([stale("fresh")]);
        assert!(get(face).expect("an answer").is_some());
    });
    api.script([Step::Answer(
        200,
        vec![("x-cachekit-freshness", "stale".to_owned())],
        b"v".to_vec(),
    )]);
    let entry = backend.get_with_freshness("k", TIMEOUT).expect("an answer");
    assert!(entry.is_some_and(|entry| entry.is_stale));
}

#[test]
fn connections_are_kept_and_replaced() {
    let api = ScriptedApi::start();
    trust(&api);
    let backend = CachekitIOBackend::new(config(&api).max_retries(0));
    each_face(&backend, |face| {
        let before = api.accepted();
        for _ in 0..20 {
            assert_eq!(get(face).expect("an answer"), None);
        }
        assert_eq!(api.accepted(), before + 1);
        // A connection that was lost says nothing about the server, even without retries.
        api.script([Step::Cut]);
        assert_eq!(get(face).expect("an answer"), None);
        assert_eq!(api.accepted(), before + 2);
    });
}

#[test]
fn who_gives_up_does_not_wait_for_those_who_connect() {
    let api = ScriptedApi::start();
    trust(&api);
    let proxy = Proxy::start(api.port());
    let url = format!("https://127.0.0.1:{}", proxy.port());
    let config = CachekitIOConfig::with_custom_host(&url, KEY).expect("a good URL");
    let backend = CachekitIOBackend::new(config);
    let aio = backend.aio().expect("there are futures");
    let late = async |delay, limit| {
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let error = aio.get("k", false, Duration::from_millis(limit)).await;
        assert_eq!(
            error.expect_err("nobody answers").kind(),
            ErrorKind::Timeout
        );
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a poller").block_on(async {
        aio.get("k", false, TIMEOUT).await.expect("an answer");
        proxy.always(Fault::BlackHole);
        // The first gives the connection up, the third makes a new one while the second waits.
        let first_two = async { tokio::join!(late(0, 300), late(200, 300)) };
        tokio::select! {
            ended = tokio::time::timeout(TIMEOUT, first_two) => {
                ended.expect("the second ends long before the third");
            }
            () = late(350, 30_000) => unreachable!("it waits for half a minute"),
        }
    });
}

#[test]
fn blocking_calls_work_inside_a_runtime() {
    let api = ScriptedApi::start();
    let backend = backend(&api);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a poller").block_on(async {
        assert_eq!(backend.get("k", false, TIMEOUT).expect("an answer"), None);
    });
}

#[test]
fn a_server_without_http_2() {
    let api = ScriptedApi::speaking("http/1.1");
    let backend = backend(&api);
    each_face(&backend, |face| {
        let error = get(face).expect_err("it speaks something else");
        assert!(
            matches!(error.kind(), ErrorKind::Transient | ErrorKind::Permanent),
            "{error}"
        );
    });
}

#[test]
fn the_managed_service_s_name_is_never_dialled_at_a_private_address() {
    let api = ScriptedApi::start();
    trust(&api);
    for (host, rest) in [("127.0.0.1", ""), ("2130706433", ""), ("localhost", "")] {
        let url = format!("https://{host}:{}{rest}", api.port());
        let error = CachekitIOConfig::new(&url, KEY).expect_err("not the service's name");
        assert_eq!(error.kind(), ErrorKind::Permanent);
    }
    assert_eq!(api.accepted(), 0);
}
