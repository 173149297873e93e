//! A family of keys that is cleared and counted together: one function's, or those of text.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use cachekit_engine::function::{Function, KEY_PREFIX};
use cachekit_engine::l1::L1;
use cachekit_wire::{
    interop::Operation,
    keys::{self, KeyPrefix},
    msgpack::Sink,
};

use crate::{
    args::{Args, ArgsError, KeyBytes},
    clearing::{Clearing, KnownKeys},
    payload::PayloadPolicy,
    telling::Told,
    value::{Delivered, Held},
};

/// How the keys of a scope are named in the shared layer.
enum Naming {
    /// By a text of the caller's.
    Text { namespace: Option<Box<str>> },
    /// By a function's name and its arguments.
    Function(KeyPrefix),
    /// By the names of interop mode and all arguments in their order.
    Interop(Operation),
}

/// What a scope warns about once.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Once {
    Unkeyable = 1,
    Unstorable = 2,
    Unusable = 4,
    Newer = 8,
}

/// One scope of a cache.
pub(crate) struct Scope {
    pub(crate) function: Function<Held, Delivered>,
    naming: Naming,
    tenant: Option<Box<str>>,
    /// How its entries are cleared in the shared layer.
    pub(crate) clearing: Clearing,
    /// How its values are wrapped.
    pub(crate) payload: PayloadPolicy,
    /// For logs.
    name: String,
    warned: AtomicU32,
    pub(crate) told: Told,
}

/// What all scopes of a cache are made with.
pub(crate) struct Common<'a> {
    pub(crate) namespace: Option<&'a str>,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) l1: Option<&'a Arc<L1<Held>>>,
    pub(crate) payload: &'a PayloadPolicy,
}

impl Scope {
    /// The entries that are named by text, which are those of Python's `key=` functions.
    pub(crate) fn of_text(common: &Common<'_>) -> Self {
        let naming = Naming::Text {
            namespace: common.namespace.map(Box::from),
        };
        let generation = KeyPrefix::new(common.namespace, "", "").generation_key();
        let name = format!("cache {}", common.namespace.unwrap_or("default"));
        Self::new(common, naming, item(common, generation), name)
    }

    /// The entries of the function `module`.`name`.
    pub(crate) fn of_function(common: &Common<'_>, module: &str, name: &str) -> Self {
        let prefix = KeyPrefix::new(common.namespace, module, name);
        let generation = prefix.generation_key();
        let name = format!("{module}.{name}");
        let naming = Naming::Function(prefix);
        Self::new(common, naming, item(common, generation), name)
    }

    /// The entries of an operation that programs in other languages share.
    pub(crate) fn of_operation(common: &Common<'_>, operation: Operation) -> Self {
        let name = operation.prefix().trim_end_matches(':').to_owned();
        let clearing = Clearing::Keys(Arc::new(KnownKeys::new(operation.clone())));
        Self {
            payload: PayloadPolicy::INTEROP,
            ..Self::new(common, Naming::Interop(operation), clearing, name)
        }
    }

    fn new(common: &Common<'_>, naming: Naming, clearing: Clearing, name: String) -> Self {
        Self {
            function: Function::new(common.l1.map(Arc::clone)),
            naming,
            tenant: common.tenant.map(Box::from),
            clearing,
            payload: common.payload.clone(),
            name,
            warned: AtomicU32::new(0),
            told: Told::default(),
        }
    }

    /// The L1 key of an entry that is named by text.
    pub(crate) fn text_key(&self, text: &str) -> KeyBytes {
        let mut key = KeyBytes::default();
        key.extend(&self.function.prefix());
        key.extend(text.as_bytes());
        key
    }

    /// The L1 key of a call.
    pub(crate) fn call_key(&self, args: &(impl Args + ?Sized)) -> Result<KeyBytes, ArgsError> {
        let mut key = KeyBytes::default();
        key.extend(&self.function.prefix());
        match self.naming {
            Naming::Interop(_) => args.encode_flat(&mut key)?,
            Naming::Text { .. } | Naming::Function(_) => args.encode_key(&mut key)?,
        }
        Ok(key)
    }

    /// The key in the shared layer for an L1 key.
    pub(crate) fn stored_key(&self, l1_key: &[u8]) -> String {
        for_tenant(self.tenant.as_deref(), self.protocol_key(l1_key))
    }

    /// The protocol's key for an L1 key: without a tenant.
    pub(crate) fn protocol_key(&self, l1_key: &[u8]) -> String {
        let own = &l1_key[KEY_PREFIX..];
        match &self.naming {
            Naming::Text { namespace } => {
                let text = std::str::from_utf8(own).expect("it was made of a text");
                keys::custom_key(namespace.as_deref(), text)
            }
            Naming::Function(prefix) => {
                prefix.key(own, self.payload.integrity, self.payload.code())
            }
            Naming::Interop(operation) => operation.key(own),
        }
    }

    /// Its name for logs.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Logs a warning about this scope, the first time for each kind.
    pub(crate) fn warn_once(&self, kind: Once, message: impl FnOnce() -> String) {
        if self.warned.fetch_or(kind as u32, Ordering::Relaxed) & kind as u32 == 0 {
            tracing::warn!(target: "cachekit", "{}: {}", self.name, message());
        }
    }
}

fn for_tenant(tenant: Option<&str>, key: String) -> String {
    match tenant {
        Some(tenant) => keys::tenant_key(tenant, &key),
        None => key,
    }
}

fn item(common: &Common<'_>, generation_key: String) -> Clearing {
    Clearing::Item(for_tenant(common.tenant, generation_key).into())
}
