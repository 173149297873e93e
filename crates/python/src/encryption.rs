//! Encryption for Python: keys as an object, hits of ciphertext in L1, what is recorded and counted.

use std::sync::Arc;

use bytes::Bytes;
use cachekit::{
    encryption::{KeyError, Keychain, MasterKey, Refusal, Sealed, Sealer, Tier, fresh},
    payload::{self, Unusable},
};
use cachekit_wire::{
    encryption::{Binding, NONCE_LEN, TAG_LEN, TenantKeys, payload_len},
    keys::content_hash,
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict},
};

use crate::{
    answer::slow,
    core::{Core, Once},
    filling::redact,
    log::{log, report},
    scratch,
    serializer::Origin,
};

/// A master key and those that it replaced. It cannot be looked into.
#[pyclass(frozen, name = "Keychain", module = "cachekit._native")]
pub(crate) struct NativeKeychain(pub(crate) Arc<Keychain>);

/// What a payload of its own, without an entry, is bound to.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct BoundTo {
    tenant: String,
    key: String,
    format: String,
    compressed: bool,
    original_type: Option<String>,
}

impl BoundTo {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let binding = Binding {
            tenant: &self.tenant,
            key: &self.key,
            format: &self.format,
            compressed: self.compressed,
            original_type: self.original_type.as_deref(),
        };
        binding.write(&mut bytes);
        bytes
    }
}

#[pymethods]
impl NativeKeychain {
    /// A `ValueError` has two arguments: whether it is about the previous keys, and what is wrong.
    #[new]
    fn new(current: &Bound<'_, PyAny>, previous: Vec<Bound<'_, PyAny>>) -> PyResult<Self> {
        let current = master_key(current)?;
        let current = current.map_err(|error| PyValueError::new_err((false, error.to_string())))?;
        match Keychain::new(current, previous_keys(&previous)?) {
            Ok(keychain) => Ok(Self(Arc::new(keychain))),
            Err(error) => Err(PyValueError::new_err((true, error.to_string()))),
        }
    }

    /// Checks keys that no master key has replaced yet; errors are those of the constructor.
    #[staticmethod]
    fn check_previous(previous: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        previous_keys(&previous).map(drop)
    }

    /// What names the tenant's key in the headers of its entries.
    fn fingerprint(&self, tenant: &str) -> PyResult<String> {
        Ok(self.tenant(tenant)?.fingerprint().as_str().to_owned())
    }

    /// Encrypts a payload that is bound to `binding`: tenant, key, format, compressed, original_type.
    fn seal<'py>(
        &self,
        py: Python<'py>,
        binding: BoundTo,
        payload: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let keys = self.tenant(&binding.tenant)?;
        let bound = binding.bytes();
        PyBytes::new_with(py, payload.len() + NONCE_LEN + TAG_LEN, |out| {
            keys.seal_into(fresh(), &bound, payload, out);
            Ok(())
        })
    }

    /// Decrypts what `seal` made; None where it does not decrypt, or names another key and `strict`.
    fn open<'py>(
        &self,
        py: Python<'py>,
        binding: BoundTo,
        sealed: &[u8],
        fingerprint: Option<&str>,
        strict: bool,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let keys = self.tenant(&binding.tenant)?;
        let Some(len) = payload_len(sealed) else {
            return Ok(None);
        };
        let mut opened = None;
        let payload = PyBytes::new_with(py, len, |out| {
            let bound = binding.bytes();
            opened = keys.open_into(sealed, fingerprint, &bound, out).ok();
            Ok(())
        })?;
        let taken = opened.is_some_and(|opened| opened.named || !strict || fingerprint.is_none());
        Ok(taken.then_some(payload))
    }

    #[expect(clippy::unused_self, reason = "a method of Python's")]
    fn __repr__(&self) -> &'static str {
        "Keychain([REDACTED])"
    }
}

/// Whether the processor has instructions for AES.
#[pyfunction]
pub(crate) fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

impl NativeKeychain {
    fn tenant(&self, name: &str) -> PyResult<Arc<TenantKeys>> {
        self.0
            .tenant(name)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

/// A key of hexadecimal text, or of bytes.
///
/// # Errors
/// When it is neither of them.
fn master_key(given: &Bound<'_, PyAny>) -> PyResult<Result<MasterKey, KeyError>> {
    if let Ok(bytes) = given.cast::<PyBytes>() {
        return Ok(MasterKey::from_bytes(bytes.as_bytes()));
    }
    match given.extract::<std::borrow::Cow<'_, str>>() {
        Ok(text) => Ok(MasterKey::from_hex(&text)),
        Err(_) => Err(PyTypeError::new_err(
            "hexadecimal text or bytes are expected",
        )),
    }
}

fn previous_keys(given: &[Bound<'_, PyAny>]) -> PyResult<Vec<MasterKey>> {
    let keys = given.iter().zip(1..).map(|(key, number)| {
        master_key(key)?
            .map_err(|error| PyValueError::new_err((true, format!("(key {number}) {error}"))))
    });
    keys.collect()
}

/// What a caller gets of ciphertext in L1.
///
/// # Errors
/// When it does not decrypt or decode: memory has changed.
#[inline(never)]
pub(crate) fn hand_out(_py: Python<'_>, core: &Core, sealed: &Sealed) -> PyResult<Py<PyAny>> {
    slow(|py| {
        let options = &core.options;
        let elsewhere = Bytes::new(); // The body lies in no stored bytes.
        let opened = scratch::with(|buffer| {
            payload::open_sealed(sealed, &options.payload, buffer, |body, header| {
                options
                    .codec
                    .decode(py, body, header, &elsewhere, Origin::Ours)
            })
        });
        match opened {
            Ok(object) => {
                if options.audit {
                    audit(py, "decrypt", sealed.tenant(), sealed.key(), Tier::L1);
                }
                Ok(object.unbind())
            }
            Err(unusable) => {
                let why = reason(&unusable).unwrap_or(Refusal::Corruption);
                core.security.refused(why, Tier::L1);
                Err(PyValueError::new_err(unusable.to_string()))
            }
        }
    })
}

/// Records that an entry of the shared layer was decrypted.
pub(crate) fn opened(py: Python<'_>, core: &Core, sealer: &Sealer) {
    if !sealer.encryption().encrypts {
        core.security.drifted();
        core.warn_once(py, Once::Drift, || {
            "reads entries that are encrypted, and does not encrypt what it writes: processes or \
             settings differ; give it encryption=True, or clear it"
                .to_owned()
        });
    }
    if core.options.audit {
        audit(py, "decrypt", sealer.tenant(), sealer.key(), Tier::L2);
    }
}

/// Records that a value was encrypted.
pub(crate) fn sealed(py: Python<'_>, core: &Core, sealer: &Sealer, tier: Tier) {
    if core.options.audit {
        audit(py, "encrypt", sealer.tenant(), sealer.key(), tier);
    }
}

/// Records an entry of the shared layer that is not to be trusted, unless it was met `again`; the error
/// that the callers get, where they get one.
pub(crate) fn refused(
    py: Python<'_>,
    core: &Core,
    sealer: &Sealer,
    unusable: &Unusable,
    again: bool,
) -> Option<PyErr> {
    let why = match reason(unusable) {
        Some(why) => why,
        None if matches!(unusable, Unusable::Corrupt(_)) && sealer.encryption().encrypts => {
            Refusal::Corruption
        }
        None => return None,
    };
    if !again {
        core.security.refused(why, Tier::L2);
        let message = format!(
            "{}: an entry was refused ({}): tenant={:?} key={} tier=l2",
            core.name(),
            why.name(),
            sealer.tenant(),
            redact(sealer.key()),
        );
        log(py, "warning", "security", &message);
        if core.options.audit {
            audit(py, "refuse", sealer.tenant(), sealer.key(), Tier::L2);
        }
    }
    let closed = sealer.encryption().fail_closed
        && matches!(unusable, Unusable::Refused(_))
        && why != Refusal::SuspiciousEnvelope;
    closed.then(|| {
        // One text for every cause, since what the caller does with it may be seen from outside.
        authentication_error(
            py,
            &format!(
                "the cached entry {} is not what was encrypted there, or its key is not configured; \
                 it was left in the store: delete it, or recompute such entries with fail_closed=False",
                redact(sealer.key())
            ),
        )
    })
}

fn reason(unusable: &Unusable) -> Option<Refusal> {
    match unusable {
        Unusable::Refused(refused) => Some(refused.why),
        _ => None,
    }
}

fn authentication_error(py: Python<'_>, message: &str) -> PyErr {
    let made = py
        .import(intern!(py, "cachekit.serializers.errors"))
        .and_then(|module| module.getattr(intern!(py, "DecryptionAuthenticationError")))
        .and_then(|class| class.call1((message,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// Records who did what to which entry on the logger `cachekit.audit`, at INFO, if that logger itself was
/// given a level that lets it pass. What it inherits was meant for others: a root at INFO, or the whole
/// package at DEBUG because some function is `@cache.dev`, would cost every hit a record.
fn audit(py: Python<'_>, action: &str, tenant: &str, key: &str, tier: Tier) {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    const INFO: u32 = 20;
    let recorded = (|| -> PyResult<()> {
        let logger = LOGGER.get_or_try_init(py, || {
            py.import(intern!(py, "logging"))?
                .call_method1(intern!(py, "getLogger"), ("cachekit.audit",))
                .map(Bound::unbind)
        })?;
        let logger = logger.bind(py);
        let own: u32 = logger.getattr(intern!(py, "level"))?.extract()?;
        if own == 0 || own > INFO {
            return Ok(());
        }
        if !logger
            .call_method1(intern!(py, "isEnabledFor"), (INFO,))?
            .is_truthy()?
        {
            return Ok(());
        }
        let hash: String = content_hash(key.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (extra, kwargs) = (PyDict::new(py), PyDict::new(py));
        extra.set_item("action", action)?;
        extra.set_item("tenant", tenant)?;
        extra.set_item("key_hash", &hash)?;
        extra.set_item("tier", tier.name())?;
        kwargs.set_item("extra", extra)?;
        let format = "%s tenant=%r key=%s tier=%s";
        let args = (format, action, tenant, hash, tier.name());
        logger.call_method(intern!(py, "info"), args, Some(&kwargs))?;
        Ok(())
    })();
    if let Err(error) = recorded {
        report(py, error);
    }
}
