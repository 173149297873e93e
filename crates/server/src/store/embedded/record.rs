//! What the embedded store writes about an entry, beside its value.
//!
//! The keyspace `entries` maps a place's text to this record, the keyspace `values` maps the
//! record's number (8 bytes, big-endian) to the value. Every write has a number of its own, so a
//! value never changes under a number and a reader never sees half of one write and half of
//! another.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 | 1, the version |
//! | 1..9 | number |
//! | 9..17 | the value's length |
//! | 17..25 | when it turns stale, in milliseconds since 1970 |
//! | 25..33 | when it ends, likewise |
//!
//! All numbers are big-endian.

use super::index::Slot;

const VERSION: u8 = 1;
const LENGTH: usize = 33;

pub(super) fn encode(slot: &Slot) -> [u8; LENGTH] {
    let mut record = [VERSION; LENGTH];
    let fields = [slot.number, slot.size, slot.fresh_until, slot.ends];
    for (place, field) in record[1..].chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_be_bytes());
    }
    record
}

pub(super) fn decode(record: &[u8]) -> Option<Slot> {
    let (&[VERSION], fields) = record.split_first_chunk::<1>()? else {
        return None;
    };
    if record.len() != LENGTH {
        return None;
    }
    let mut fields = fields
        .chunks_exact(8)
        .map(|field| u64::from_be_bytes(field.try_into().expect("eight bytes")));
    Some(Slot {
        number: fields.next()?,
        size: fields.next()?,
        fresh_until: fields.next()?,
        ends: fields.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let slot = Slot {
            number: 1,
            size: 2,
            fresh_until: 3,
            ends: u64::MAX,
        };
        let mut record = encode(&slot).to_vec();
        assert_eq!(decode(&record), Some(slot));
        assert_eq!(decode(&record[1..]), None);
        record.push(0);
        assert_eq!(decode(&record), None);
        record.pop();
        record[0] = 2;
        assert_eq!(decode(&record), None);
        assert_eq!(decode(&[]), None);
    }
}
