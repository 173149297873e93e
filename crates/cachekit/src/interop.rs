//! Arguments of interop mode that serde has no kind of its own for.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// The name by which the encoder of arguments tells a set.
pub(crate) const SET: &str = "$cachekit::interop::Set";

/// Whether a UUID is written as every program writes it: 8-4-4-4-12 digits, lower-case.
pub(crate) fn is_usual_uuid(text: &str) -> bool {
    let digits = |part: &str| {
        part.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(digits)
}

/// An argument that is a set: its elements count, each once, and not their order.
///
/// ```
/// use std::collections::HashSet;
/// use cachekit::interop::Set;
///
/// let tags: HashSet<&str> = ["new", "hot"].into();
/// let args = (42, Set(tags)); // In Python: f(42, {"hot", "new"})
/// # let _ = args;
/// ```
///
/// Outside of interop mode it is the sequence that it wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<T>(pub T);

impl<T: Serialize> Serialize for Set<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(SET, &self.0)
    }
}

/// An argument that is a moment: Python's aware `datetime`. In seconds since the Unix epoch, with
/// microseconds, the rest cut off towards the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    micros: i64,
}

impl Timestamp {
    /// A moment by its microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self { micros }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_micros() as i128,
            Err(before) => -(before.duration().as_nanos().div_ceil(1000) as i128),
        };
        // Further than 290 000 years from the epoch there is no other moment to tell it from.
        let micros = micros.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        Self { micros }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.micros as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::args::{Args, ArgsError, Arguments, KeyBytes};

    fn flat(args: &(impl Args + ?Sized)) -> Result<String, ArgsError> {
        let mut out = KeyBytes::default();
        args.encode_flat(&mut out)?;
        Ok(out.iter().map(|b| format!("{b:02x}")).collect())
    }

    #[derive(Serialize)]
    struct Query {
        user: u64,
        half: f64,
        tags: Set<Vec<&'static str>>,
        further: (),
    }

    #[test]
    fn arguments_are_one_array() {
        assert_eq!(flat(&()).as_deref(), Ok("90"));
        assert_eq!(flat(&42).as_deref(), Ok("912a"));
        assert_eq!(flat(&(42,)).as_deref(), Ok("912a"));
        assert_eq!(flat(&(1, "a", [1, 2])).as_deref(), Ok("9301a161920102"));
        assert_eq!(flat(&vec![1, 2]).as_deref(), Ok("91920102"));
        assert_eq!(flat(&((),)).as_deref(), Ok("91c0"));
        let query = Query {
            user: 300,
            half: 0.5,
            tags: Set(vec!["new", "hot", "new"]),
            further: (),
        };
        let expected = "94cd012ccb3fe000000000000092a3686f74a36e6577c0";
        assert_eq!(flat(&query).as_deref(), Ok(expected));
    }

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(
            flat(&(1.0, -0.0, 1.5f32)).as_deref(),
            Ok("930100cb3ff8000000000000")
        );
        assert_eq!(flat(&u64::MAX).as_deref(), Ok("91cfffffffffffffffff"));
        assert_eq!(
            flat(&i128::from(i64::MIN)).as_deref(),
            Ok("91d38000000000000000")
        );
        assert!(flat(&u128::MAX).is_err());
        assert!(flat(&(i128::from(i64::MIN) - 1)).is_err());
        for v in [f64::NAN, f64::INFINITY] {
            assert!(flat(&v).is_err());
            assert!(flat(&(vec![v],)).is_err());
        }
    }

    #[test]
    fn maps_have_text_as_keys_in_order() {
        let map = BTreeMap::from([("b", 1), ("a", 2)]);
        assert_eq!(flat(&map).as_deref(), Ok("9182a16102a16201"));
        #[derive(Serialize)]
        struct Point {
            y: f64,
            x: u8,
        }
        let inner = (Point { y: 2.0, x: 1 },);
        assert_eq!(flat(&inner).as_deref(), Ok("9182a17801a17902"));
        assert!(flat(&BTreeMap::from([(1, 2)])).is_err());
        assert!(flat(&Arguments::new((1,), ())).is_err());
    }

    #[test]
    fn sets_within_sets() {
        let set = Set(vec![Set(vec![2, 1]), Set(vec![1, 2, 2]), Set(vec![])]);
        assert_eq!(flat(&(set,)).as_deref(), Ok("919290920102"));
    }

    #[test]
    fn moments_are_floored() {
        let at = |nanos: i64| {
            let time = match u64::try_from(nanos) {
                Ok(nanos) => UNIX_EPOCH + Duration::from_nanos(nanos),
                Err(_) => UNIX_EPOCH - Duration::from_nanos(nanos.unsigned_abs()),
            };
            Timestamp::from(time).micros
        };
        assert_eq!(
            [at(1999), at(0), at(-1), at(-1000), at(-1001)],
            [1, 0, -1, -1, -2]
        );
        assert_eq!(
            flat(&Timestamp::from_micros(1_577_836_800_000_000)).as_deref(),
            Ok("91ce5e0be100")
        );
        assert_eq!(
            flat(&Timestamp::from_micros(-1)).as_deref(),
            Ok("91cbbeb0c6f7a0b5ed8d")
        );
    }
}
