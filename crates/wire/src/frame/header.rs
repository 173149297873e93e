use std::borrow::Cow;

use serde::Deserialize;

use super::{Extension, FrameError};

/// Which serializer made a payload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Serializer {
    /// `default`; read besides: `std`, `standard`, `StandardSerializer`.
    Default,
    /// `auto`; read besides: `pythonic`, `AutoSerializer`.
    Auto,
    /// `orjson`; read besides: `OrjsonSerializer`.
    Orjson,
    /// `arrow`; read besides: `ArrowSerializer`.
    Arrow,
    /// Any other name, as it stands.
    Other(String),
}

impl Serializer {
    /// The name that is written.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Default => "default",
            Self::Auto => "auto",
            Self::Orjson => "orjson",
            Self::Arrow => "arrow",
            Self::Other(name) => name,
        }
    }

    /// The serializer of a name, an alias, or a class name as published writers put it for instances.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "default" | "std" | "standard" | "StandardSerializer" => Self::Default,
            "auto" | "pythonic" | "AutoSerializer" => Self::Auto,
            "orjson" | "OrjsonSerializer" => Self::Orjson,
            "arrow" | "ArrowSerializer" => Self::Arrow,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// How to read a payload. Not authenticated: whoever can write to the store can change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `s`.
    pub serializer: Serializer,
    /// `format`, the kind of payload; `msgpack` if the header does not say.
    pub format: Cow<'static, str>,
    /// `encoding`; `utf-8` if the header does not say.
    pub encoding: Cow<'static, str>,
    /// `compressed`; false if the header does not say. Whether a std or auto payload is in an envelope
    /// is said by the integrity flag of its key, and published readers go by that alone.
    pub compressed: bool,
    /// `original_type`.
    pub original_type: Option<Cow<'static, str>>,
    /// `encrypted`: the payload is ciphertext. The next three are written only then.
    pub encrypted: bool,
    /// `tenant_id`.
    pub tenant_id: Option<String>,
    /// `encryption_algorithm`.
    pub encryption_algorithm: Option<String>,
    /// `key_fingerprint`, lower-case hexadecimal.
    pub key_fingerprint: Option<String>,
    /// Our member `x`.
    pub x: Extension,
}

impl Header {
    /// The header of a plain MessagePack value: what std and auto write with integrity checking
    /// (`compressed`, in an envelope) and without (bare).
    #[must_use]
    pub const fn msgpack(serializer: Serializer, compressed: bool) -> Self {
        Self {
            serializer,
            format: Cow::Borrowed("msgpack"),
            encoding: Cow::Borrowed("utf-8"),
            compressed,
            original_type: Some(Cow::Borrowed("msgpack")),
            encrypted: false,
            tenant_id: None,
            encryption_algorithm: None,
            key_fingerprint: None,
            x: Extension {
                created_ms: None,
                fresh_until_ms: None,
                compute_ms: None,
                generation: None,
            },
        }
    }

    /// Reads the JSON text of a header.
    pub(super) fn from_json(json: &[u8]) -> Result<Self, FrameError> {
        let raw: Raw<'_> = serde_json::from_slice(json)?;
        Ok(raw.m.into_header(&raw.s, raw.x))
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    s: Cow<'a, str>,
    #[serde(borrow)]
    m: Metadata<'a>,
    #[serde(default, deserialize_with = "Extension::lenient")]
    x: Extension,
}

/// The member `m`, and `metadata` of the form before frames. Any member may be absent or null.
#[derive(Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(borrow, default)]
    format: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    encoding: Option<Cow<'a, str>>,
    compressed: Option<bool>,
    #[serde(borrow, default)]
    original_type: Option<Cow<'a, str>>,
    encrypted: Option<bool>,
    tenant_id: Option<String>,
    encryption_algorithm: Option<String>,
    key_fingerprint: Option<String>,
}

impl Metadata<'_> {
    pub(super) fn into_header(self, serializer: &str, x: Extension) -> Header {
        Header {
            serializer: Serializer::from_name(serializer),
            format: self.format.map_or(Cow::Borrowed("msgpack"), interned),
            encoding: self.encoding.map_or(Cow::Borrowed("utf-8"), interned),
            compressed: self.compressed.unwrap_or(false),
            original_type: self.original_type.map(interned),
            encrypted: self.encrypted.unwrap_or(false),
            tenant_id: self.tenant_id,
            encryption_algorithm: self.encryption_algorithm,
            key_fingerprint: self.key_fingerprint,
            x,
        }
    }
}

/// The words that published writers use take no allocation.
fn interned(text: Cow<'_, str>) -> Cow<'static, str> {
    const WORDS: [&str; 9] = [
        "msgpack",
        "utf-8",
        "arrow",
        "orjson",
        "json",
        "numpy",
        "series",
        "dataframe",
        "binary",
    ];
    match WORDS.iter().find(|word| **word == text) {
        Some(word) => Cow::Borrowed(word),
        None => Cow::Owned(text.into_owned()),
    }
}
