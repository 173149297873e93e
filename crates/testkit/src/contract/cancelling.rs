//! A call that is dropped half-way disturbs nobody: no later call gets its answer.

use std::{future::Future, time::Duration};

use super::{Face, TIMEOUT, face::Awaited};

/// After how long calls are dropped: before the first poll's end, while the request is being sent,
/// while its reply is awaited or read.
const MOMENTS: [u64; 8] = [0, 5, 20, 50, 100, 200, 500, 2_000];

pub(super) fn check(face: &Awaited<'_>, prefix: &str) {
    let key = |name: &str| format!("{prefix}{name}");
    let small = b"a small value".to_vec();
    let big: Vec<u8> = (0..300_000).map(|i| (i % 251) as u8).collect();
    let (backend, lease) = (face.backend, Duration::from_millis(500));
    face.runtime.block_on(async {
        for (name, value) in [("small", &small), ("big", &big)] {
            let key = key(name);
            let storing = backend.set(&key, value, None, TIMEOUT);
            storing.await.expect("set");
        }
    });
    let locks = face.capabilities().lock;
    for round in 0..6 {
        for micros in MOMENTS {
            let after = Duration::from_micros(micros);
            face.runtime.block_on(async {
                let (small_key, big_key, other) = (key("small"), key("big"), key("other"));
                dropped(after, backend.get(&big_key, true, TIMEOUT)).await;
                dropped(after, backend.set(&other, &big, None, TIMEOUT)).await;
                dropped(after, backend.delete(&other, TIMEOUT)).await;
                dropped(after, backend.exists(&small_key, TIMEOUT)).await;
                let absent = [key("absent"), key("absent too")];
                let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
                dropped(after, backend.delete_many(&absent, TIMEOUT)).await;
                if locks {
                    let locked = key(&format!("lock{round}.{micros}"));
                    dropped(after, backend.try_lock(&locked, "gone", lease, TIMEOUT)).await;
                }
                for (key, value) in [(&small_key, &small), (&big_key, &big), (&small_key, &small)] {
                    let found = backend.get(key, false, TIMEOUT).await;
                    let found = found.expect("get after a dropped call").expect("an entry");
                    assert!(
                        found.value == value[..],
                        "after a call was dropped at {after:?}, {} bytes were read for {}",
                        found.value.len(),
                        value.len()
                    );
                }
                if let Some(found) = backend.get(&other, false, TIMEOUT).await.expect("get") {
                    assert!(found.value == big[..], "half a value was stored");
                }
            });
        }
    }
    face.runtime.block_on(async {
        // Many at once, of which every second one is dropped.
        let calls = (0..40).map(|call| {
            let (small_key, small) = (key("small"), &small);
            async move {
                if call % 2 == 0 {
                    let after = Duration::from_micros(call * 10);
                    dropped(after, backend.get(&small_key, true, TIMEOUT)).await;
                } else {
                    let found = backend.get(&small_key, false, TIMEOUT).await.expect("get");
                    assert!(found.expect("an entry").value == small[..]);
                }
            }
        });
        futures_util::future::join_all(calls).await;
    });
}

/// Polls a call until it ends or `after` has passed, and drops it. What came of it is not asked.
async fn dropped<T>(after: Duration, call: impl Future<Output = T>) {
    let _ = tokio::time::timeout(after, call).await;
}
