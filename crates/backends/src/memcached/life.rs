//! Lives of items, as memcached counts them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::backend::Remaining;
use crate::error::{BackendError, ErrorKind, Result};

/// Longer lives are sent as the moment of their end, in seconds since 1970.
const LONGEST_RELATIVE: i64 = 30 * 24 * 3600;
/// The last moment that memcached knows: it counts in 32 bits with a sign, until January 2038.
const LAST_MOMENT: i64 = i32::MAX as i64;

/// A life as it is sent: 0 for no end.
///
/// The server's clock ticks once per second, so that an item with a life of n seconds is gone after
/// n - 1 to n. One second more makes it live for at least as long as it should.
///
/// # Errors
/// [`ErrorKind::Permanent`] for a life of zero.
pub(super) fn life(operation: &'static str, ttl: Option<Duration>) -> Result<i64> {
    match ttl {
        None => Ok(0),
        Some(ttl) if ttl.is_zero() => Err(BackendError::new(
            ErrorKind::Permanent,
            operation,
            "a life of zero was asked for; delete the entry instead",
        )),
        Some(ttl) => Ok(life_at(ttl, SystemTime::now())),
    }
}

fn life_at(ttl: Duration, now: SystemTime) -> i64 {
    let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0).min(u64::MAX - ttl.as_secs());
    let seconds = i64::try_from(whole).unwrap_or(i64::MAX).saturating_add(1);
    if seconds <= LONGEST_RELATIVE {
        return seconds;
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    if LAST_MOMENT.saturating_sub(now) <= LONGEST_RELATIVE {
        return LONGEST_RELATIVE;
    }
    now.saturating_add(seconds).min(LAST_MOMENT)
}

/// The shorter of two lives as they are sent.
pub(super) fn at_most(life: i64, limit: i64) -> i64 {
    if life == 0 { limit } else { life.min(limit) }
}

/// What a reply says about an item's life. As the server's clock lags by up to a second, this is
/// the least that is left.
pub(super) fn remaining(ttl: Option<i64>) -> Remaining {
    match ttl {
        None => Remaining::Unknown,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) => Remaining::For(Duration::from_secs(seconds.saturating_sub(1))),
            Err(_) => Remaining::Forever,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_rounded_up_and_long_ones_are_moments() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let day = 24 * 3600;
        for (ttl, expected) in [
            (Duration::from_nanos(1), 2),
            (Duration::from_secs(1), 2),
            (Duration::from_millis(1001), 3),
            (Duration::from_secs(30 * day - 1), 30 * 24 * 3600),
            (
                Duration::from_secs(30 * day),
                1_800_000_000 + 30 * 24 * 3600 + 1,
            ),
            (Duration::from_secs(100 * 365 * day), LAST_MOMENT),
            (Duration::MAX, LAST_MOMENT),
        ] {
            assert_eq!(life_at(ttl, now), expected, "{ttl:?}");
        }
        let late = UNIX_EPOCH + Duration::from_secs(2_147_483_000);
        assert_eq!(
            life_at(Duration::from_secs(60 * day), late),
            LONGEST_RELATIVE
        );
        assert_eq!(life("set", None).expect("no end"), 0);
        assert!(life("set", Some(Duration::ZERO)).is_err());
    }

    #[test]
    fn what_is_left_is_never_too_much() {
        assert_eq!(remaining(None), Remaining::Unknown);
        assert_eq!(remaining(Some(-1)), Remaining::Forever);
        for (told, least) in [(0, 0), (1, 0), (61, 60)] {
            let least = Duration::from_secs(least);
            assert_eq!(remaining(Some(told)), Remaining::For(least));
        }
    }
}
