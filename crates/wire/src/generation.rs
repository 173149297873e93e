//! The generation item: one short entry per function that makes clearing it O(1) in every process.
//!
//! Each entry names the generation under which it was stored (the frame's `x.g`). Clearing writes an
//! item with a new number, after which entries of any other number are misses. An item that the
//! store has lost is replaced by one with a new number as well, so that its loss never brings back
//! what was cleared. Entries of other implementations carry no number: whether they count after a loss
//! is known to processes that have seen the item say that it was cleared, and they put it right. The
//! item is text: `v` (never cleared) or `c` (cleared), a colon, the number.

/// Which of a function's entries count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// The number that counting entries carry: random, so that writers need not agree on an order.
    pub number: u64,
    /// Whether the function was ever cleared. Until then entries that carry no number, which are
    /// those of other implementations, count as well.
    pub cleared: bool,
}

impl Generation {
    /// The item's bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        format!("{}:{}", if self.cleared { 'c' } else { 'v' }, self.number).into_bytes()
    }

    /// Reads an item; `None` for bytes that are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, number) = std::str::from_utf8(bytes).ok()?.split_once(':')?;
        let cleared = match kind {
            "v" => false,
            "c" => true,
            _ => return None,
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self {
            number: number.parse().ok()?,
            cleared,
        })
    }

    /// Whether an entry that carries `entry` counts while `current` is the item.
    #[must_use]
    pub fn counts(current: Option<Self>, entry: Option<u64>) -> bool {
        match (current, entry) {
            (Some(current), Some(entry)) => current.number == entry,
            (Some(current), None) => !current.cleared,
            (None, Some(_)) => false,
            (None, None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back() {
        for cleared in [false, true] {
            for number in [0, 1, 42, u64::MAX] {
                let item = Generation { number, cleared };
                assert_eq!(Generation::from_bytes(&item.to_bytes()), Some(item));
            }
        }
    }

    #[test]
    fn other_bytes_are_no_item() {
        for bytes in [
            &b""[..],
            b"v",
            b"v:",
            b"x:1",
            b"c:-1",
            b"c:+1",
            b"v:1 ",
            b"\xff:1",
            b"v:18446744073709551616",
        ] {
            assert_eq!(Generation::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn cleared_entries_do_not_count_and_foreign_ones_do_until_the_first_clear() {
        let virgin = Some(Generation {
            number: 7,
            cleared: false,
        });
        let cleared = Some(Generation {
            number: 8,
            cleared: true,
        });
        assert!(Generation::counts(virgin, Some(7)));
        assert!(Generation::counts(virgin, None));
        assert!(!Generation::counts(cleared, Some(7)));
        assert!(!Generation::counts(cleared, None));
        assert!(Generation::counts(cleared, Some(8)));
        assert!(
            !Generation::counts(None, Some(8)),
            "a lost item must not resurrect"
        );
        assert!(Generation::counts(None, None));
    }
}
