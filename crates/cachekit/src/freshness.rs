//! How long an entry may be used, where its store cannot tell.
//!
//! Stores that know the life of their entries are always asked. For the others each entry says
//! itself until when it counts: the member `f` of the frame's `x`, by the writer's clock. That clock
//! may differ from the reader's. An entry that seems to have ended by then is still a hit, since its
//! store served it, and is kept in no L1. One that seems to live longer than it does is kept at most
//! for the reader's own TTL: so much longer than its original, and no more, a wrong clock can make it
//! live. `f` can shorten a life that is known, never lengthen it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cachekit_backends::Remaining;
use cachekit_wire::frame::Extension;

/// The `f` of an entry that is stored at `wall` for `life`; `None` where it has no end.
pub(crate) fn until(life: Option<Duration>, wall: SystemTime) -> Option<u64> {
    let end = wall.checked_add(life?)?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(end.as_millis()).ok()
}

/// The rest of an entry's life: as its store has told, else as the entry says at `wall`.
#[must_use]
pub fn remaining(told: Remaining, x: &Extension, wall: SystemTime) -> Remaining {
    match (told, x.fresh_until_ms) {
        (Remaining::Unknown, Some(end)) => {
            let now = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
            Remaining::For(Duration::from_millis(end).saturating_sub(now))
        }
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn saying(end: Option<u64>) -> Extension {
        Extension {
            fresh_until_ms: end,
            ..Extension::default()
        }
    }

    #[test]
    fn an_entry_says_what_its_store_cannot() {
        let x = saying(until(Some(MINUTE), at(1000)));
        for (later, left) in [(0, 60), (20, 40), (60, 0), (90, 0)] {
            let left = Remaining::For(Duration::from_secs(left));
            assert_eq!(remaining(Remaining::Unknown, &x, at(1000 + later)), left);
        }
    }

    #[test]
    fn what_a_store_tells_counts_alone() {
        let x = saying(Some(u64::MAX));
        for told in [Remaining::Forever, Remaining::For(MINUTE)] {
            assert_eq!(remaining(told, &x, at(0)), told);
        }
    }

    #[test]
    fn without_a_word_it_stays_unknown() {
        assert_eq!(until(None, at(1000)), None);
        let told = remaining(Remaining::Unknown, &saying(None), at(1000));
        assert_eq!(told, Remaining::Unknown);
    }

    #[test]
    fn absurd_ends_are_no_end() {
        assert_eq!(until(Some(Duration::MAX), at(1000)), None);
        let told = remaining(Remaining::Unknown, &saying(Some(u64::MAX)), at(1000));
        assert!(matches!(told, Remaining::For(left) if left > MINUTE));
    }
}
