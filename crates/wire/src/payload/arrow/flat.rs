//! FlatBuffers, as far as the metadata of Arrow IPC files need them. Format source: FlatBuffers, "Internals".

/// A FlatBuffers table: an offset back to the places of its fields.
#[derive(Clone, Copy)]
pub(super) struct Table<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Table<'b> {
    pub(super) fn root(bytes: &'b [u8]) -> Option<Self> {
        let at = follow(bytes, 0)?;
        Some(Self { bytes, at })
    }

    /// Where a field is, if it is there.
    #[expect(clippy::option_option, reason = "unreadable, absent, or there")]
    pub(super) fn place(&self, field: usize) -> Option<Option<usize>> {
        let back = i64::from(int32(self.bytes, self.at)?);
        let places = usize::try_from(i64::try_from(self.at).ok()? - back).ok()?;
        let slot = 4 + 2 * field;
        if slot + 2 > usize::from(uint16(self.bytes, places)?) {
            return Some(None);
        }
        Some(match uint16(self.bytes, places.checked_add(slot)?)? {
            0 => None,
            offset => Some(self.at.checked_add(usize::from(offset))?),
        })
    }

    pub(super) fn byte(&self, field: usize) -> Option<u8> {
        match self.place(field)? {
            Some(place) => self.bytes.get(place).copied(),
            None => Some(0),
        }
    }

    pub(super) fn int16(&self, field: usize) -> Option<u16> {
        match self.place(field)? {
            Some(place) => uint16(self.bytes, place),
            None => Some(0),
        }
    }

    pub(super) fn int64(&self, field: usize) -> Option<i64> {
        match self.place(field)? {
            Some(place) => int64(self.bytes, place),
            None => Some(0),
        }
    }

    #[expect(clippy::option_option, reason = "unreadable, absent, or there")]
    pub(super) fn table(&self, field: usize) -> Option<Option<Self>> {
        let Some(place) = self.place(field)? else {
            return Some(None);
        };
        let at = follow(self.bytes, place)?;
        Some(Some(Self { at, ..*self }))
    }

    /// The structs of a vector, of `size` bytes each; none where it is absent.
    pub(super) fn structs(
        &self,
        field: usize,
        size: usize,
    ) -> Option<std::slice::ChunksExact<'b, u8>> {
        let Some(place) = self.place(field)? else {
            return Some([].chunks_exact(size));
        };
        let at = follow(self.bytes, place)?;
        let count = usize::try_from(int32(self.bytes, at)?).ok()?;
        let first = at.checked_add(4)?;
        let end = first.checked_add(count.checked_mul(size)?)?;
        Some(self.bytes.get(first..end)?.chunks_exact(size))
    }
}

/// Where the offset at `place` leads.
fn follow(bytes: &[u8], place: usize) -> Option<usize> {
    place.checked_add(usize::try_from(u32::from_le_bytes(array(bytes, place)?)).ok()?)
}

fn array<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..)?.first_chunk::<N>().copied()
}

fn uint16(bytes: &[u8], place: usize) -> Option<u16> {
    array(bytes, place).map(u16::from_le_bytes)
}

pub(super) fn int32(bytes: &[u8], place: usize) -> Option<i32> {
    array(bytes, place).map(i32::from_le_bytes)
}

pub(super) fn int64(bytes: &[u8], place: usize) -> Option<i64> {
    array(bytes, place).map(i64::from_le_bytes)
}
