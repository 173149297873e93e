//! The key of an L1 entry: bytes, held in place when they are few.

use std::hash::{Hash, Hasher};

use quick_cache::Equivalent;

/// The longest key that needs no allocation of its own.
const INLINE: usize = 22;

/// The bytes that index an L1 entry; up to 22 of them are held in place, without an allocation.
///
/// Two keys are equal when their bytes are.
#[derive(Clone)]
pub struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
    Ballast { bytes: u64 },
}

impl Key {
    /// A key that equals those of its kind only and weighs `bytes`; see `Shard::limit`.
    pub(super) const fn ballast(bytes: u64) -> Self {
        Self(Repr::Ballast { bytes })
    }

    /// The weight of a ballast key; `None` for a key that a caller made.
    #[inline]
    pub(super) const fn ballast_bytes(&self) -> Option<u64> {
        match self.0 {
            Repr::Ballast { bytes } => Some(bytes),
            _ => None,
        }
    }

    /// The key's bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(bytes) => bytes,
            Repr::Ballast { .. } => &[],
        }
    }

    /// The bytes that this key holds outside of itself.
    #[inline]
    pub(super) fn heap_len(&self) -> usize {
        match &self.0 {
            Repr::Heap(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

impl From<&[u8]> for Key {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self(Repr::Heap(bytes.into())))
    }
}

impl From<Box<[u8]>> for Key {
    #[inline]
    fn from(bytes: Box<[u8]>) -> Self {
        Self::inline(&bytes).unwrap_or(Self(Repr::Heap(bytes)))
    }
}

impl Key {
    #[inline]
    fn inline(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        let len = u8::try_from(from.len()).ok()?;
        Some(Self(Repr::Inline { len, bytes }))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (self.ballast_bytes(), other.ballast_bytes());
        one.is_some() == two.is_some() && self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:02x?})", self.as_bytes())
    }
}

/// Borrowed bytes to look a [`Key`] up with; hashes as the key does.
///
/// It leaves out the length prefix that `[u8]` hashes, as nothing follows the bytes and foldhash
/// mixes the length in by itself. There is a type of it for hits alone: with one caller only, the
/// whole search is compiled into it, which saves a third of the time.
pub(super) struct Probe<'a, const HIT: bool = false>(pub(super) &'a [u8]);

impl<const HIT: bool> Hash for Probe<'_, HIT> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

impl<const HIT: bool> Equivalent<Key> for Probe<'_, HIT> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        match &key.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)] == self.0,
            Repr::Heap(bytes) => &**bytes == self.0,
            Repr::Ballast { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn twenty_four_bytes() {
        assert_eq!(size_of::<Key>(), 24);
        assert_eq!(size_of::<Option<Key>>(), 24);
    }

    #[test]
    fn equal_and_hashed_alike_however_made() {
        let state = foldhash::fast::RandomState::default();
        for len in 0..100 {
            let bytes: Vec<u8> = (0..len).collect();
            let borrowed = Key::from(&bytes[..]);
            let owned = Key::from(bytes.clone().into_boxed_slice());
            assert_eq!(borrowed, owned);
            assert_eq!(borrowed.as_bytes(), &bytes[..]);
            assert!(Probe::<true>(&bytes).equivalent(&owned));
            assert_eq!(
                state.hash_one(&owned),
                state.hash_one(Probe::<true>(&bytes))
            );
            assert_eq!(owned.heap_len() == 0, bytes.len() <= INLINE);
        }
    }

    #[test]
    fn trailing_zeros_count() {
        let state = foldhash::fast::RandomState::default();
        let (short, long) = (Key::from(&[7, 0][..]), Key::from(&[7, 0, 0][..]));
        assert_ne!(short, long);
        assert_ne!(state.hash_one(&short), state.hash_one(&long));
        assert!(!Probe::<true>(&[7]).equivalent(&short));
    }

    #[test]
    fn ballast_equals_nothing_else() {
        assert_ne!(Key::ballast(1), Key::from(&[][..]));
        assert_eq!(Key::ballast(1), Key::ballast(2));
        assert!(!Probe::<true>(&[]).equivalent(&Key::ballast(1)));
    }
}
