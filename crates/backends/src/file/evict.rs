//! Keeping a store within its limits: what was not read since the hand last passed goes first.

use std::io;
use std::os::unix::fs::FileExt;

use super::error::damaged;
use super::layout::{Kind, Slot, visited_at};
use super::turn::Turn;

/// What one process lets the store hold. Of several processes with different limits, each keeps to its
/// own when it stores, so that the smallest ones count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entries: u32,
}

/// How many entries that were read get a second chance before one of them goes all the same.
const CHANCES: u32 = 32;
/// How many slots are looked at for the end of their life with each new entry.
const SWEPT: u32 = 3;

/// Evicts until `grown` more bytes and, with `is_new`, one more entry are within the limits; slot `keep`
/// stays. True if anything was removed.
pub(super) fn make_room(
    turn: &mut Turn<'_>,
    grown: u64,
    is_new: bool,
    keep: Option<u32>,
) -> io::Result<bool> {
    let mut removed = false;
    if is_new {
        removed = sweep(turn)?;
    }
    loop {
        let Limits { bytes, entries } = turn.limits;
        let header = &turn.header;
        if header.bytes + grown <= bytes && header.entries + u32::from(is_new) <= entries {
            return Ok(removed);
        }
        if !evict_one(turn, keep)? {
            // Locks and the entry itself are all there is.
            return Ok(removed);
        }
        removed = true;
    }
}

/// Removes what has come to the end of its life, a few slots at a time, so that entries that nobody asks
/// for again do not stay until the store is full.
fn sweep(turn: &mut Turn<'_>) -> io::Result<bool> {
    let mut removed = false;
    for _ in 0..SWEPT.min(turn.header.used) {
        let index = turn.header.sweep % turn.header.used;
        turn.header.sweep = index + 1;
        let slot = turn.live.slot(index)?;
        if let Some(slot) = slot.filter(|slot| slot.kind != Kind::Free && !slot.lives(turn.now)) {
            turn.remove_index(index, &slot)?;
            removed = true;
        }
    }
    Ok(removed)
}

fn evict_one(turn: &mut Turn<'_>, keep: Option<u32>) -> io::Result<bool> {
    let used = turn.header.used;
    let mut chances = CHANCES;
    for _ in 0..u64::from(used) * 2 {
        let index = turn.header.hand % used;
        turn.header.hand = index + 1;
        let Some(slot) = turn.live.slot(index)? else {
            turn.begin()?; // The next turn puts the store in order.
            return Err(damaged());
        };
        if !may_go(&slot, turn.now) || keep == Some(index) {
            continue;
        }
        if slot.visited && slot.lives(turn.now) && chances > 0 {
            chances -= 1;
            turn.live.index.write_all_at(&[0], visited_at(index))?;
            continue;
        }
        turn.remove_index(index, &slot)?;
        return Ok(true);
    }
    Ok(false)
}

/// A lock that is held stays, or two callers would hold it.
fn may_go(slot: &Slot, now: u64) -> bool {
    match slot.kind {
        Kind::Free => false,
        Kind::Value => true,
        Kind::Lock => !slot.lives(now),
    }
}
