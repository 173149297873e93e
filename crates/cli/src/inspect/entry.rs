//! One entry, explained by its key and by the header of its value.

use std::collections::HashMap;
use std::time::Duration;

use cachekit::backends::Remaining;
use cachekit::backends::file::{Listed, ListedKind};
use cachekit_wire::frame::{self, FrameError, Header};
use cachekit_wire::generation::Generation;
use cachekit_wire::keys::{KeyKind, KeyParts};

/// What entries are.
pub(super) const KINDS: [&str; 7] = [
    "value",
    "cleared",
    "generation",
    "lock",
    "free-lock",
    "expired",
    "damaged",
];

/// What can be said of an entry without decoding its value.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) kind: &'static str,
    pub(super) tenant: Option<String>,
    pub(super) namespace: Option<String>,
    /// `module.qualname`, or the name of an interop operation.
    pub(super) function: Option<String>,
    pub(super) size: u64,
    pub(super) on_disk: u64,
    pub(super) age: Option<Duration>,
    /// None is for ever.
    pub(super) left: Option<Duration>,
    pub(super) content: Content,
    /// The key of the item that says whether it counts.
    generation_key: Option<String>,
    pub(super) file: Option<String>,
}

/// What the bytes of a value say of themselves.
pub(super) enum Content {
    /// There is nothing to say: a lock, or what does not verify.
    None,
    /// A frame's header.
    Frame(Box<Header>),
    /// Which of a function's entries count.
    Generation(Generation),
    /// A value of an interop operation, which has no header.
    Interop,
    /// No frame, and why; what other programs store through the backend itself is none.
    Other(FrameError),
}

impl Entry {
    pub(super) fn new(listed: Listed, value: &[u8]) -> Self {
        let parts = KeyParts::of(&listed.key);
        let (namespace, function) = match parts.kind {
            KeyKind::Call {
                namespace,
                function,
                ..
            } => (namespace, Some(function)),
            KeyKind::Interop {
                namespace,
                operation,
            } => (Some(namespace), Some(operation)),
            _ => (None, None),
        };
        let has_value = matches!(listed.kind, ListedKind::Value | ListedKind::Expired);
        let content = match (&parts.kind, Generation::from_bytes(value)) {
            _ if !has_value => Content::None,
            (KeyKind::Generation, Some(item)) => Content::Generation(item),
            (KeyKind::Interop { .. }, _) => Content::Interop,
            _ => match frame::parse(value) {
                Ok(frame) => Content::Frame(Box::new(frame.header)),
                Err(error) => Content::Other(error),
            },
        };
        Self {
            kind: match listed.kind {
                ListedKind::Value if matches!(content, Content::Generation(_)) => "generation",
                ListedKind::Value => "value",
                ListedKind::Lock => "lock",
                ListedKind::AbandonedLock => "free-lock",
                ListedKind::Expired => "expired",
                _ => "damaged",
            },
            namespace: namespace.map(str::to_owned),
            function: function.map(str::to_owned),
            generation_key: parts.generation_key(),
            tenant: parts.tenant,
            size: listed.size,
            on_disk: listed.on_disk,
            age: listed.age,
            left: match listed.remaining {
                Remaining::For(left) => Some(left),
                _ => None,
            },
            content,
            file: listed.file,
            key: listed.key,
        }
    }

    pub(super) fn header(&self) -> Option<&Header> {
        match &self.content {
            Content::Frame(header) => Some(header),
            _ => None,
        }
    }
}

impl Content {
    /// In a few words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Frame(header) => {
                let mut words = header.serializer.name().to_owned();
                let kind = header.original_type.as_ref().unwrap_or(&header.format);
                if kind != "msgpack" && **kind != words {
                    words = format!("{words} {kind}");
                }
                if header.encrypted {
                    words.push_str(", encrypted");
                }
                if header.compressed {
                    words.push_str(", compressed");
                }
                words
            }
            Self::Generation(item) if item.cleared => "generation, was cleared".to_owned(),
            Self::Generation(_) => "generation".to_owned(),
            Self::Interop => "interop".to_owned(),
            Self::Other(FrameError::Newer { version }) => {
                format!("frame version {version}, newer than this program")
            }
            Self::Other(FrameError::NotAFrame) => "not a cachekit value".to_owned(),
            Self::Other(_) => "a frame that cannot be read".to_owned(),
        }
    }
}

/// Tells the values apart that do not count any more, because their function was cleared after they were
/// stored.
pub(super) fn mark_cleared(entries: &mut [Entry]) {
    let item = |entry: &Entry| match entry.content {
        Content::Generation(item) => Some((entry.key.clone(), item)),
        _ => None,
    };
    let items: HashMap<String, Generation> = entries.iter().filter_map(item).collect();
    for entry in entries.iter_mut().filter(|entry| entry.kind == "value") {
        if let (Some(header), Some(key)) = (entry.header(), &entry.generation_key)
            && !Generation::counts(items.get(key).copied(), header.x.generation)
        {
            entry.kind = "cleared";
        }
    }
}

/// Orders entries by one of the words of `--sort`: by key from the first on, else from the most.
pub(super) fn sort(entries: &mut [Entry], by: &str) {
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    match by {
        "size" => entries.sort_by_key(|entry| std::cmp::Reverse(entry.size)),
        "age" => entries.sort_by_key(|entry| std::cmp::Reverse(entry.age)),
        "left" => {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.left.unwrap_or(Duration::MAX)))
        }
        _ => {}
    }
}
