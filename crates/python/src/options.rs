//! What the decorator decided about one function.

use std::{sync::Arc, time::Duration};

use crate::{codec::Parameters, encryption::NativeKeychain, interop::Interop, serializer::Codec};
use cachekit::{encryption::Encryption, payload::PayloadPolicy, store::GuardConfig};
use cachekit_backends::ErrorKind;
use cachekit_engine::{
    backpressure::BackpressureConfig, breaker::BreakerConfig, deadline::TimeoutConfig,
};
use cachekit_wire::envelope::Compression;
use pyo3::{
    exceptions::{PyConnectionError, PyKeyError, PyTimeoutError, PyValueError},
    prelude::*,
    types::{PyDict, PyTuple},
};

/// How long an entry lives.
pub(crate) enum Ttl {
    /// Until it is invalidated or evicted.
    Forever,
    /// This long.
    For(Duration),
    /// What the function says of the result.
    Computed(Py<PyAny>),
}

/// The options of one cached function, validated by the Python face.
pub(crate) struct Options {
    pub(crate) namespace: Option<String>,
    pub(crate) module: String,
    pub(crate) qualname: String,
    pub(crate) is_async: bool,
    pub(crate) method: bool,
    pub(crate) ttl: Ttl,
    pub(crate) key: Option<Py<PyAny>>,
    /// Tells the tenant of a call from its arguments, where calls have tenants.
    pub(crate) tenant: Option<Py<PyAny>>,
    /// Whether encrypting and decrypting is recorded.
    pub(crate) audit: bool,
    pub(crate) ignore: Vec<String>,
    pub(crate) parameters: Parameters,
    pub(crate) l1: bool,
    pub(crate) l1_max_bytes: u64,
    pub(crate) swr_ratio: Option<f64>,
    /// Interop mode, where it is on.
    pub(crate) interop: Option<Interop>,
    pub(crate) codec: Codec,
    /// How entries are wrapped, compression apart, which the settings say.
    pub(crate) payload: PayloadPolicy,
    pub(crate) lock: bool,
    pub(crate) lock_wait: Duration,
    pub(crate) guards: GuardConfig,
    /// Exceptions of a custom backend that its breaker does not count: a tuple of classes.
    pub(crate) excluded_exceptions: Py<PyAny>,
    /// Rewrites a call so that all its spellings share an entry.
    pub(crate) normalize: Option<Py<PyAny>>,
    /// Gives what depends on the process's settings, at first use.
    pub(crate) settings: Py<PyAny>,
    pub(crate) refresh_ttl: Option<f64>,
    pub(crate) copy: Copying,
    pub(crate) safe_mode: bool,
    pub(crate) local_reason: Option<String>,
    pub(crate) resolve_backend: Py<PyAny>,
}

/// How L1 hands out what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copying {
    /// Builtin containers are cloned, opaque objects shared.
    Auto,
    /// Opaque objects are deep-copied too.
    Always,
    /// Everything is shared.
    Never,
}

pub(crate) fn required<'py>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    dict.get_item(name)?
        .ok_or_else(|| PyKeyError::new_err(format!("option {name:?} is missing")))
}

pub(crate) fn get<'py, T>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
{
    required(dict, name)?.extract().map_err(Into::into)
}

fn seconds(value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|error| PyValueError::new_err(format!("{value} is not a span of time: {error}")))
}

fn group<'py>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
    let value = required(dict, name)?;
    if value.is_none() {
        Ok(None)
    } else {
        Ok(Some(value.cast_into()?))
    }
}

impl Options {
    pub(crate) fn from_dict(dict: &Bound<'_, PyDict>) -> PyResult<Self> {
        let callable = |name| -> PyResult<Option<Py<PyAny>>> {
            Ok(Some(required(dict, name)?)
                .filter(|value| !value.is_none())
                .map(Bound::unbind))
        };
        let ttl = match (callable("ttl_func")?, get::<Option<f64>>(dict, "ttl")?) {
            (Some(function), _) => Ttl::Computed(function),
            (None, Some(value)) => Ttl::For(seconds(value)?),
            (None, None) => Ttl::Forever,
        };
        let interop = group(dict, "interop")?.as_ref().map(Interop::from_dict);
        let interop = interop.transpose()?;
        let codec = match &interop {
            Some(_) => Codec::Interop,
            None => Codec::new(&required(dict, "serializer")?)?,
        };
        let payload = match &interop {
            Some(_) => PayloadPolicy::INTEROP,
            None => PayloadPolicy {
                serializer: codec.serializer(),
                integrity: get(dict, "integrity")?,
                compression: Compression::Fast,
                bare: false,
            },
        };
        let copy = required(dict, "copy")?;
        let copy = match copy.extract::<bool>() {
            Ok(true) => Copying::Always,
            Ok(false) => Copying::Never,
            Err(_) => Copying::Auto,
        };
        Ok(Self {
            namespace: get(dict, "namespace")?,
            module: get(dict, "module")?,
            qualname: get(dict, "qualname")?,
            is_async: get(dict, "is_async")?,
            method: get(dict, "method")?,
            ttl,
            key: callable("key")?,
            tenant: callable("tenant")?,
            audit: get(dict, "audit")?,
            ignore: get(dict, "ignore")?,
            parameters: parameters(&required(dict, "parameters")?)?,
            l1: get(dict, "l1")?,
            l1_max_bytes: get(dict, "l1_max_bytes")?,
            swr_ratio: get(dict, "swr_ratio")?,
            payload,
            codec,
            interop,
            lock: get(dict, "lock")?,
            lock_wait: seconds(get(dict, "lock_wait")?)?,
            guards: guards(dict)?,
            excluded_exceptions: required(dict, "excluded_exceptions")?.unbind(),
            normalize: callable("normalize")?,
            settings: required(dict, "settings")?.unbind(),
            refresh_ttl: get(dict, "refresh_ttl")?,
            copy,
            safe_mode: get(dict, "safe_mode")?,
            local_reason: get(dict, "local_reason")?,
            resolve_backend: required(dict, "resolve_backend")?.unbind(),
        })
    }
}

/// The names of the parameters by the way they are passed, as `calls.CallShape` gives them.
fn parameters(shape: &Bound<'_, PyAny>) -> PyResult<Parameters> {
    let (positional, positional_only, keyword_only, var_positional, var_keyword) =
        shape.extract()?;
    Ok(Parameters {
        positional,
        positional_only,
        keyword_only,
        var_positional,
        var_keyword,
    })
}

fn guards(dict: &Bound<'_, PyDict>) -> PyResult<GuardConfig> {
    let mut config = GuardConfig::default();
    if let Some(breaker) = group(dict, "breaker")? {
        config.breaker = Some(BreakerConfig {
            failure_threshold: get(&breaker, "failure_threshold")?,
            success_threshold: get(&breaker, "success_threshold")?,
            recovery_timeout: seconds(get(&breaker, "recovery_timeout")?)?,
            half_open_requests: get(&breaker, "half_open_requests")?,
        });
    }
    if let Some(limit) = group(dict, "backpressure")? {
        config.backpressure = Some(BackpressureConfig {
            max_concurrent: get(&limit, "max_concurrent_requests")?,
            queue_size: get(&limit, "queue_size")?,
            timeout: seconds(get(&limit, "timeout")?)?,
        });
    }
    if let Some(timeout) = group(dict, "timeout")? {
        config.timeout = Some(TimeoutConfig {
            initial: seconds(get(&timeout, "initial")?)?,
            min: seconds(get(&timeout, "min")?)?,
            max: seconds(get(&timeout, "max")?)?,
            window_size: get(&timeout, "window_size")?,
            percentile: get(&timeout, "percentile")?,
        });
    }
    config.uncounted = uncounted(&required(dict, "excluded_exceptions")?)?;
    Ok(config)
}

/// The kinds of failure whose Python exceptions `excluded_exceptions` names.
fn uncounted(excluded: &Bound<'_, PyAny>) -> PyResult<Vec<ErrorKind>> {
    let py = excluded.py();
    let classes: Bound<'_, PyTuple> = excluded.cast()?.clone();
    let kinds = [
        (ErrorKind::Timeout, py.get_type::<PyTimeoutError>()),
        (ErrorKind::Transient, py.get_type::<PyConnectionError>()),
    ];
    let mut found = Vec::new();
    for (kind, class) in kinds {
        for excluded in classes.iter() {
            if class.is_subclass(&excluded)? {
                found.push(kind);
            }
        }
    }
    Ok(found)
}

impl Options {
    /// Shows the collector what is held.
    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.codec.traverse(visit)?;
        if let Ttl::Computed(function) = &self.ttl {
            visit.call(function)?;
        }
        if let Some(interop) = &self.interop {
            interop.traverse(visit)?;
        }
        for held in [&self.key, &self.tenant, &self.normalize]
            .into_iter()
            .flatten()
        {
            visit.call(held)?;
        }
        [
            &self.resolve_backend,
            &self.settings,
            &self.excluded_exceptions,
        ]
        .into_iter()
        .try_for_each(|h| visit.call(h))
    }
}

/// What depends on the process's settings.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Whether L1 keeps anything.
    pub(crate) l1: bool,
    /// The longest stored value.
    pub(crate) max_value_bytes: u64,
    /// How entries are wrapped.
    pub(crate) payload: PayloadPolicy,
    /// The life of entries, where the function names none of its own.
    pub(crate) default_ttl: Option<Duration>,
    /// Room in the namespace's L1.
    pub(crate) l1_max_bytes: u64,
    /// What is done about encryption; `None` where there is no key.
    pub(crate) secure: Option<Secure>,
}

/// What a function does about encryption.
#[derive(Clone)]
pub(crate) struct Secure {
    pub(crate) encryption: Encryption,
    /// The one tenant; `None` where calls have tenants.
    pub(crate) tenant: Option<Arc<str>>,
}

impl Secure {
    fn from_dict(dict: &Bound<'_, PyDict>) -> PyResult<Self> {
        let keychain: PyRef<'_, NativeKeychain> = get(dict, "keychain")?;
        let tenant: Option<String> = get(dict, "tenant")?;
        if let Some(tenant) = &tenant {
            let found = keychain.0.tenant(tenant);
            found.map_err(|error| crate::configuration_error(dict.py(), &error.to_string()))?;
        }
        Ok(Self {
            encryption: Encryption {
                keychain: Arc::clone(&keychain.0),
                encrypts: get(dict, "encrypts")?,
                fail_closed: get(dict, "fail_closed")?,
                tenants: tenant.is_none(),
            },
            tenant: tenant.map(Arc::from),
        })
    }
}

impl Settings {
    /// Whether values are kept as ciphertext only.
    pub(crate) fn encrypts(&self) -> bool {
        self.secure
            .as_ref()
            .is_some_and(|secure| secure.encryption.encrypts)
    }
}

impl Options {
    /// Asks the Python face for what depends on the process's settings.
    ///
    /// # Errors
    /// `ConfigurationError` for a variable with a wrong value.
    pub(crate) fn settings(&self, py: Python<'_>) -> PyResult<Settings> {
        let found: Bound<'_, PyDict> = self.settings.call0(py)?.into_bound(py).cast_into()?;
        let level: Option<u8> = get(&found, "compression_level")?;
        let compression = match (get(&found, "compression")?, level) {
            (false, _) => Compression::Off,
            (true, None) => Compression::Fast,
            (true, Some(level)) => Compression::High(level),
        };
        let default_ttl = match found.get_item("ttl")? {
            Some(ttl) => Some(seconds(ttl.extract()?)?),
            None => None,
        };
        Ok(Settings {
            l1: get(&found, "l1")?,
            max_value_bytes: get(&found, "max_value_bytes")?,
            payload: PayloadPolicy {
                compression,
                ..self.payload.clone()
            },
            default_ttl,
            l1_max_bytes: get(&found, "l1_max_bytes")?,
            secure: group(&found, "encryption")?
                .map(|group| Secure::from_dict(&group))
                .transpose()?,
        })
    }
}
