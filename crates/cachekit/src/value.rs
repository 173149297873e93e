//! Values as they are cached: typed in the process, MessagePack in the shared layer.

use std::{any::Any, sync::Arc};

use cachekit_wire::msgpack::{self, Reader};
use serde::{Serialize, de::DeserializeOwned};

use crate::weigh;

/// What can be cached: anything that serde writes and reads, and that can be cloned.
///
/// In the shared layer it is MessagePack as Python and the other CacheKit SDKs read it: a struct is
/// a map of its fields' names, an enum's variant with content a map of one entry, an `Option` nil or
/// its content, and what has a form for people (a UUID, an address) is text. Byte strings are lists
/// of numbers unless `serde_bytes` or `bytes::Bytes` says otherwise, and maps whose keys are neither
/// text nor bytes are read by Rust only.
///
/// Each hit in the process costs a clone. Large values clone at once as an `Arc<T>` with serde's
/// feature `rc`.
pub trait Value: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Value for T {}

/// A value of any type in L1, or the ciphertext of one.
pub(crate) trait Cached: Send + Sync {
    /// The value's MessagePack.
    fn encode(&self) -> Result<Vec<u8>, String>;
    /// The bytes that it holds, itself included.
    fn weight(&self) -> u64;
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<T: Value> Cached for T {
    fn encode(&self) -> Result<Vec<u8>, String> {
        let mut body = Vec::with_capacity(128);
        let mut serializer = rmp_serde::Serializer::new(&mut body)
            .with_struct_map()
            .with_human_readable();
        self.serialize(&mut serializer)
            .map_err(|error| error.to_string())?;
        Ok(body)
    }

    fn weight(&self) -> u64 {
        weigh::of(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A value as L1 holds it and flights deliver it.
pub(crate) type Held = Arc<dyn Cached>;

/// Reads a body as a value of the caller's type.
pub(crate) type Decode = fn(&[u8]) -> Result<Held, String>;

/// An error of the user's function, on its way to everybody who waits for it.
pub(crate) type Failure = Arc<dyn Any + Send + Sync>;

/// What a landed flight hands to those who waited.
pub(crate) enum Delivered {
    /// The value.
    Value(Held),
    /// The function's own error.
    Failed(Failure),
}

fn parse<T: Value>(body: &[u8]) -> Result<T, String> {
    // Exactly one document, not nested too deep: what follows need not look out for either.
    let mut reader = Reader::new(body);
    msgpack::skip(&mut reader)
        .and_then(|()| reader.finish())
        .map_err(|error| error.to_string())?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body).with_human_readable();
    T::deserialize(&mut deserializer).map_err(|error| error.to_string())
}

/// [`Decode`] for values of type `T`.
pub(crate) fn decode<T: Value>(body: &[u8]) -> Result<Held, String> {
    parse::<T>(body).map(|value| Arc::new(value) as Held)
}

/// The value as a caller's type. A value of another type is read through its MessagePack, as it
/// would be from the shared layer; `None` if that is no `T`.
pub(crate) fn hand_out<T: Value>(held: &Held) -> Option<T> {
    match held.as_any().downcast_ref::<T>() {
        Some(value) => Some(value.clone()),
        None => parse(&held.encode().ok()?).ok(),
    }
}

/// The value of a caller who may be its last holder.
pub(crate) fn take<T: Value>(held: Held) -> Option<T> {
    let value = held.into_any().downcast::<T>().ok()?;
    Some(Arc::unwrap_or_clone(value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct User {
        id: u64,
        name: String,
        tags: Option<Vec<String>>,
    }

    fn user() -> User {
        User {
            id: 300,
            name: "Ada".into(),
            tags: None,
        }
    }

    #[test]
    fn a_struct_is_a_map_of_its_fields() {
        let body = user().encode().expect("encodable");
        assert_eq!(body, b"\x83\xa2id\xcd\x01\x2c\xa4name\xa3Ada\xa4tags\xc0");
        assert_eq!(parse::<User>(&body), Ok(user()));
    }

    #[test]
    fn an_address_is_text() {
        let address: std::net::IpAddr = "127.0.0.1".parse().expect("an address");
        assert_eq!(address.encode().expect("encodable"), b"\xa9127.0.0.1");
        assert_eq!(parse(b"\xa9127.0.0.1"), Ok(address));
    }

    #[test]
    fn python_bytes_are_read_as_bytes() {
        assert_eq!(parse::<Vec<u8>>(b"\xc4\x02\x01\xff"), Ok(vec![1, 255]));
    }

    #[test]
    fn another_type_is_read_through_the_bytes() {
        let held: Held = Arc::new(user());
        assert_eq!(hand_out::<User>(&held), Some(user()));
        let json: serde_json::Value = hand_out(&held).expect("any JSON");
        assert_eq!(json["name"], "Ada");
        assert_eq!(hand_out::<BTreeMap<String, u32>>(&held), None);
    }

    #[test]
    fn truncated_trailing_and_deep_bytes_are_refused() {
        let body = user().encode().expect("encodable");
        for end in 0..body.len() {
            assert!(parse::<User>(&body[..end]).is_err(), "{end} bytes");
        }
        let mut longer = body;
        longer.push(0xc0);
        assert!(parse::<User>(&longer).is_err());
        let deep = [vec![0x91; 600], vec![0xc0]].concat();
        assert!(parse::<serde_json::Value>(&deep).is_err());
    }
}
