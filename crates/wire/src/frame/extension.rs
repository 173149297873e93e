use serde::{Deserialize, Deserializer};

/// What our frames say beyond the protocol: the member `x` of the header.
///
/// Every field is optional and absent when there is nothing to say. Like the rest of the header it is
/// not authenticated: it may shorten how long a value is used, never lengthen it past the store's TTL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Extension {
    /// `c`: when the value was computed, in milliseconds since the Unix epoch.
    pub created_ms: Option<u64>,
    /// `f`: until when the value is fresh, in milliseconds since the Unix epoch; stale after.
    pub fresh_until_ms: Option<u64>,
    /// `d`: how long the function ran, in milliseconds.
    pub compute_ms: Option<u64>,
    /// `g`: the generation of the function's entries under which the value was stored.
    pub generation: Option<u64>,
}

impl Extension {
    /// Whether there is nothing to say, so that the member is absent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The fields with their short names, in the order in which they are written.
    pub(super) fn fields(&self) -> [(u8, Option<u64>); 4] {
        [
            (b'c', self.created_ms),
            (b'f', self.fresh_until_ms),
            (b'd', self.compute_ms),
            (b'g', self.generation),
        ]
    }

    fn field_mut(&mut self, name: u8) -> Option<&mut Option<u64>> {
        match name {
            b'c' => Some(&mut self.created_ms),
            b'f' => Some(&mut self.fresh_until_ms),
            b'd' => Some(&mut self.compute_ms),
            b'g' => Some(&mut self.generation),
            _ => None,
        }
    }

    /// Reads exactly what [`write`](super::write) writes between the braces of `x`.
    ///
    /// Anything else, a member from the future included, is `None`: JSON parsing decides then.
    pub(super) fn from_written(mut text: &[u8]) -> Option<Self> {
        let mut x = Self::default();
        loop {
            let [b'"', name, b'"', b':', b' ', rest @ ..] = text else {
                return None;
            };
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let (number, rest) = rest.split_at(digits);
            if digits == 0 || (digits > 1 && number[0] == b'0') {
                return None;
            }
            let mut value = 0_u64;
            for b in number {
                value = value.checked_mul(10)?.checked_add(u64::from(b - b'0'))?;
            }
            let field = x.field_mut(*name)?;
            if field.replace(value).is_some() {
                return None;
            }
            match rest {
                [] => return Some(x),
                [b',', b' ', rest @ ..] => text = rest,
                _ => return None,
            }
        }
    }

    /// Reads any JSON value: what is not understood counts as absent, as somebody else's `x` must not
    /// make an entry unreadable.
    pub(super) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let number = |name: &str| value.get(name).and_then(serde_json::Value::as_u64);
        Ok(Self {
            created_ms: number("c"),
            fresh_until_ms: number("f"),
            compute_ms: number("d"),
            generation: number("g"),
        })
    }
}
