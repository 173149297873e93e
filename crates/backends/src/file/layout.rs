//! The bytes of a store: an index file of fixed shape, a sparse data file, and a file per large value.
//!
//! All numbers are little-endian. The index is a header, a table of buckets and a table of slots;
//! a bucket is the head of a chain of slots whose keys' hashes agree in their lowest bits. Slot `i` owns
//! the [`SPAN`] bytes of the data file that begin at `i * SPAN`, of which it uses as many as its record
//! needs: what is not used is a hole and takes no room on the disk. A record that is longer has a file
//! of its own. The layout is private to this backend; its version is part of the store's directory name.

use twox_hash::{XxHash3_64, XxHash3_128};

/// The bytes of the data file that belong to one slot.
pub(super) const SPAN: u64 = 64 << 10;
/// The unit in which room on the disk is counted.
pub(super) const BLOCK: u64 = 4 << 10;
/// How many slots there can be: entries and locks together.
pub(super) const SLOTS: u32 = 1 << 20;
const BUCKETS: u32 = 1 << 16;

const HEADER_LEN: usize = 72;
const BUCKET_LEN: u64 = 8;
/// The length of a slot.
pub(super) const SLOT_LEN: usize = 64;
const BUCKETS_AT: u64 = 4 << 10;
const SLOTS_AT: u64 = BUCKETS_AT + BUCKETS as u64 * BUCKET_LEN;
/// The length of an index file, most of it a hole.
pub(super) const INDEX_LEN: u64 = SLOTS_AT + SLOTS as u64 * SLOT_LEN as u64;
/// Where the buckets begin, and the length of all of them.
pub(super) const BUCKETS_RANGE: (u64, usize) = (BUCKETS_AT, BUCKETS as usize * BUCKET_LEN as usize);

const MAGIC: [u8; 8] = *b"CKFILE\0\x01";

/// Where slot `index` is in the index file.
pub(super) fn slot_at(index: u32) -> u64 {
    SLOTS_AT + u64::from(index) * SLOT_LEN as u64
}

/// The slot that holds this byte of the index file.
#[cfg(target_os = "linux")]
pub(super) fn slot_before(at: u64) -> u32 {
    (at.saturating_sub(SLOTS_AT) / SLOT_LEN as u64) as u32
}

/// Where the mark of slot `index` is in the index file.
pub(super) fn visited_at(index: u32) -> u64 {
    slot_at(index) + VISITED as u64
}

/// Where slot `index`'s part of the data file begins.
pub(super) fn region_at(index: u32) -> u64 {
    u64::from(index) * SPAN
}

/// Where the bucket of a hash is in the index file.
pub(super) fn bucket_at(hash: u128) -> u64 {
    BUCKETS_AT + bucket_of(hash) as u64 * BUCKET_LEN
}

/// The number of the bucket of a hash.
pub(super) fn bucket_of(hash: u128) -> usize {
    (hash as u32 % BUCKETS) as usize
}

/// `bytes` in whole blocks.
pub(super) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK)
}

/// The hash under which a key is looked up. Keys are compared whole before a value is given out.
pub(super) fn key_hash(key: &str) -> u128 {
    XxHash3_128::oneshot(key.as_bytes())
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

/// What is known of the whole store. Slots are named by their number plus one, 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// A change of more than one part is under way, or its writer died.
    pub(super) dirty: bool,
    /// The boot of the machine in which the store was last put in order.
    pub(super) boot: u64,
    /// Slots from this number on were never used.
    pub(super) used: u32,
    /// The first of the free slots.
    pub(super) free: u32,
    /// Entries, without locks.
    pub(super) entries: u32,
    /// The slot that is next looked at for eviction.
    pub(super) hand: u32,
    /// The slot that is next looked at for the end of its life.
    pub(super) sweep: u32,
    /// The room that entries and locks take on the disk.
    pub(super) bytes: u64,
}

/// What the beginning of an index file tells.
pub(super) enum Beginning {
    /// A header.
    Header(Header),
    /// A header of this layout that does not verify.
    Damaged,
    /// Something that this backend did not write.
    Foreign,
}

impl Header {
    pub(super) const LEN: usize = HEADER_LEN;

    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&u32::from(self.dirty).to_le_bytes());
        out[16..24].copy_from_slice(&self.boot.to_le_bytes());
        let numbers = [self.used, self.free, self.entries, self.hand, self.sweep];
        for (at, number) in (24..).step_by(4).zip(numbers) {
            out[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        out[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        let check = XxHash3_64::oneshot(&out[..64]);
        out[64..].copy_from_slice(&check.to_le_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Beginning {
        if bytes[..8] != MAGIC {
            return Beginning::Foreign;
        }
        let header = Self {
            dirty: u32_at(bytes, 8) != 0,
            boot: u64_at(bytes, 16),
            used: u32_at(bytes, 24),
            free: u32_at(bytes, 28),
            entries: u32_at(bytes, 32),
            hand: u32_at(bytes, 36),
            sweep: u32_at(bytes, 40),
            bytes: u64_at(bytes, 48),
        };
        let whole = u64_at(bytes, 64) == XxHash3_64::oneshot(&bytes[..64]);
        if whole && header.used <= SLOTS && header.free <= header.used {
            Beginning::Header(header)
        } else {
            Beginning::Damaged
        }
    }
}

/// The head of a chain, and a number that changes whenever a slot leaves the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) head: u32,
    pub(super) version: u32,
}

impl Bucket {
    pub(super) const LEN: usize = BUCKET_LEN as usize;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(&self.head.to_le_bytes());
        out[4..].copy_from_slice(&self.version.to_le_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            head: u32_at(bytes, 0),
            version: u32_at(bytes, 4),
        }
    }
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    #[default]
    Free,
    /// An entry.
    Value,
    /// A lock's holder.
    Lock,
}

/// What every lock's key begins with.
pub(super) const LOCK_PREFIX: &str = "\0lock\0";

impl Kind {
    /// What may be stored under a key.
    pub(super) fn of(key: &str) -> Self {
        if key.starts_with(LOCK_PREFIX) {
            Self::Lock
        } else {
            Self::Value
        }
    }
}

/// One entry's place, life and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) hash: u128,
    /// Of this very write: its record carries the same number.
    pub(super) id: u64,
    /// Microseconds since the epoch; 0 is never.
    pub(super) expiry: u64,
    /// The record's length.
    pub(super) size: u64,
    /// The boot of the machine in which it was written.
    pub(super) boot: u32,
    /// When it was written, in seconds since the epoch; 0 where that is not known.
    pub(super) written: u32,
    /// The chain's next slot, or the next free one.
    pub(super) next: u32,
    pub(super) kind: Kind,
    /// The record is in a file of its own.
    pub(super) in_file: bool,
    /// Blocks of the data file that the slot's part takes on the disk.
    pub(super) blocks: u8,
    /// Read since the eviction's hand passed. Not part of the check: readers set it without asking.
    pub(super) visited: bool,
}

const VISITED: usize = 51;

impl Slot {
    pub(super) fn to_bytes(self) -> [u8; SLOT_LEN] {
        let mut out = [0; SLOT_LEN];
        out[..16].copy_from_slice(&self.hash.to_le_bytes());
        out[16..24].copy_from_slice(&self.id.to_le_bytes());
        out[24..32].copy_from_slice(&self.expiry.to_le_bytes());
        out[32..40].copy_from_slice(&self.size.to_le_bytes());
        out[40..44].copy_from_slice(&self.boot.to_le_bytes());
        out[44..48].copy_from_slice(&self.next.to_le_bytes());
        out[48] = match self.kind {
            Kind::Free => 0,
            Kind::Value => 1,
            Kind::Lock => 2,
        };
        out[49] = u8::from(self.in_file);
        out[50] = self.blocks;
        out[52..56].copy_from_slice(&self.written.to_le_bytes());
        let check = XxHash3_64::oneshot(&out[..56]);
        out[56..].copy_from_slice(&check.to_le_bytes());
        out[VISITED] = u8::from(self.visited);
        out
    }

    /// None when the bytes are torn or damaged. A slot that was never written is free.
    pub(super) fn from_bytes(bytes: &[u8; SLOT_LEN]) -> Option<Self> {
        let mut plain = *bytes;
        plain[VISITED] = 0;
        if plain == [0; SLOT_LEN] {
            return Some(Self::default());
        }
        let slot = Self {
            hash: u128::from_le_bytes(take(bytes, 0)),
            id: u64_at(bytes, 16),
            expiry: u64_at(bytes, 24),
            size: u64_at(bytes, 32),
            boot: u32_at(bytes, 40),
            written: u32_at(bytes, 52),
            next: u32_at(bytes, 44),
            kind: match bytes[48] {
                0 => Kind::Free,
                1 => Kind::Value,
                2 => Kind::Lock,
                _ => return None,
            },
            in_file: bytes[49] != 0,
            blocks: bytes[50],
            visited: bytes[VISITED] != 0,
        };
        let whole = u64_at(bytes, 56) == XxHash3_64::oneshot(&plain[..56]);
        let sound = slot.next <= SLOTS
            && u64::from(slot.blocks) * BLOCK <= SPAN
            && (slot.in_file || slot.size <= SPAN);
        (whole && sound).then_some(slot)
    }

    /// The room that it takes on the disk.
    pub(super) fn held(&self) -> u64 {
        let file = if self.in_file { blocks(self.size) } else { 0 };
        (u64::from(self.blocks) + file) * BLOCK
    }

    /// Whether it is used and its life has not ended.
    pub(super) fn lives(&self, now: u64) -> bool {
        self.kind != Kind::Free && (self.expiry == 0 || now < self.expiry)
    }

    /// The name of the record's own file.
    pub(super) fn file_name(index: u32, id: u64) -> String {
        format!("{index:06x}-{id:016x}")
    }
}

/// What precedes a value and its key: `"CKR\x02"`, the key's length, the value's length, the write's
/// number, and the check over all of it. The value comes first, so that it begins at a round address
/// where the record does: what reads numbers in place needs that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: u32,
    pub(super) value: u64,
    pub(super) id: u64,
    pub(super) check: u64,
}

const RECORD_MAGIC: [u8; 4] = *b"CKR\x02";

impl Record {
    pub(super) const LEN: usize = 32;

    /// The check's hasher, to be fed the value and then the key.
    pub(super) fn hasher(id: u64) -> XxHash3_64 {
        XxHash3_64::with_seed(id)
    }

    /// The length of a whole record.
    pub(super) fn size(key: &str, value: u64) -> u64 {
        Self::LEN as u64 + key.len() as u64 + value
    }

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(&RECORD_MAGIC);
        out[4..8].copy_from_slice(&self.key.to_le_bytes());
        out[8..16].copy_from_slice(&self.value.to_le_bytes());
        out[16..24].copy_from_slice(&self.id.to_le_bytes());
        out[24..].copy_from_slice(&self.check.to_le_bytes());
        out
    }

    /// A whole record that fits a slot's part of the data file.
    pub(super) fn encode(key: &str, value: &[u8], id: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN + key.len() + value.len());
        out.extend_from_slice(&[0; Self::LEN]);
        out.extend_from_slice(value);
        out.extend_from_slice(key.as_bytes());
        let record = Self {
            key: key.len() as u32,
            value: value.len() as u64,
            id,
            check: XxHash3_64::oneshot_with_seed(id, &out[Self::LEN..]),
        };
        out[..Self::LEN].copy_from_slice(&record.to_bytes());
        out
    }

    /// The parts of the record of write `id`; None when `bytes` are anything else. The contents are
    /// only checked where `verify` says so.
    pub(super) fn decode(bytes: &[u8], id: u64, verify: bool) -> Option<(&str, &[u8])> {
        let (head, rest) = bytes.split_at_checked(Self::LEN)?;
        let key_at = rest.len().checked_sub(u32_at(head, 4) as usize)?;
        let whole =
            head[..4] == RECORD_MAGIC && u64_at(head, 16) == id && key_at as u64 == u64_at(head, 8);
        if !whole || verify && u64_at(head, 24) != XxHash3_64::oneshot_with_seed(id, rest) {
            return None;
        }
        let (value, key) = rest.split_at(key_at);
        Some((std::str::from_utf8(key).ok()?, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn slots()(
            hash: u128, id: u64, expiry: u64, size in 0..=SPAN, boot: u32, written: u32, next in 0..=SLOTS,
            kind in prop_oneof![Just(Kind::Value), Just(Kind::Lock)],
            in_file: bool, blocks in 0..=16u8, visited: bool,
        ) -> Slot {
            Slot { hash, id, expiry, size, boot, written, next, kind, in_file, blocks, visited }
        }
    }

    proptest! {
        #[test]
        fn a_slot_comes_back(slot in slots()) {
            prop_assert_eq!(Slot::from_bytes(&slot.to_bytes()), Some(slot));
        }

        #[test]
        fn a_changed_slot_is_none(slot in slots(), at in 0..SLOT_LEN, bit in 0..8) {
            prop_assume!(at != VISITED);
            let mut bytes = slot.to_bytes();
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(Slot::from_bytes(&bytes), None);
        }

        #[test]
        fn a_slot_written_halfway_is_none(old in slots(), new in slots(), until in 1..SLOT_LEN) {
            let mut bytes = old.to_bytes();
            bytes[..until].copy_from_slice(&new.to_bytes()[..until]);
            let read = Slot::from_bytes(&bytes);
            // The mark belongs to neither.
            let plain = |slot: Slot| Slot { visited: false, ..slot };
            prop_assert!(read.is_none_or(|read| plain(read) == plain(old) || plain(read) == plain(new)));
        }

        #[test]
        fn any_bytes_are_no_slot(bytes: [u8; SLOT_LEN]) {
            prop_assert_eq!(Slot::from_bytes(&bytes), None);
        }

        #[test]
        fn a_record_comes_back(key: String, value: Vec<u8>, id: u64) {
            let record = Record::encode(&key, &value, id);
            prop_assert_eq!(record.len() as u64, Record::size(&key, value.len() as u64));
            for verify in [true, false] {
                prop_assert_eq!(Record::decode(&record, id, verify), Some((&*key, &*value)));
            }
            prop_assert_eq!(Record::decode(&record, id ^ 1, false), None);
        }

        #[test]
        fn a_changed_or_shortened_record_is_none(
            key: String, value: Vec<u8>, id: u64, at: prop::sample::Index, bit in 0..8,
        ) {
            let record = Record::encode(&key, &value, id);
            let at = at.index(record.len());
            prop_assert_eq!(Record::decode(&record[..at], id, true), None);
            let mut changed = record;
            changed[at] ^= 1u8 << bit;
            prop_assert_eq!(Record::decode(&changed, id, true), None);
        }

        #[test]
        fn any_bytes_are_no_record(bytes: Vec<u8>, id: u64) {
            prop_assert_eq!(Record::decode(&bytes, id, true), None);
        }

        #[test]
        fn a_header_comes_back(used in 0..=SLOTS, entries: u32, bytes: u64, boot: u64, dirty: bool) {
            let header = Header { used, free: used, entries, bytes, boot, dirty, hand: 1, sweep: 2 };
            let Beginning::Header(read) = Header::from_bytes(&header.to_bytes()) else {
                panic!("it is whole");
            };
            prop_assert_eq!(read, header);
        }

        #[test]
        fn a_changed_header_is_none(used in 0..=SLOTS, at in 0..Header::LEN, bit in 0..8) {
            let mut bytes = Header { used, ..Header::default() }.to_bytes();
            bytes[at] ^= 1u8 << bit;
            prop_assert!(!matches!(Header::from_bytes(&bytes), Beginning::Header(_)));
        }
    }
}
