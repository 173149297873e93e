//! TLS: which certificates are trusted, and the settings shared by all
//! connections of a backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{BackendError, ErrorKind, Result};

/// What a URL says about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// PEM file of the certificates to trust, instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// PEM file of the client's certificate chain.
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file of the client's key.
    pub(crate) key: Option<PathBuf>,
    /// Accept whatever certificate the server shows.
    pub(crate) insecure: bool,
}

/// Where Linux distributions and BSDs keep the system's roots.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// Builds the client settings: the named certificates, or else the system's roots with those that
/// `SSL_CERT_FILE`, `SSL_CERT_DIR` and `REQUESTS_CA_BUNDLE` name.
///
/// # Errors
/// [`ErrorKind::Permanent`] when a named file cannot be read or there is no root at all.
pub(crate) fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| misconfigured(&format!("TLS cannot be set up: {error}")))?;
    let builder = if options.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(options.ca.as_deref())?)
    };
    let config = match (&options.certificate, &options.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = read_certificates("ssl_cert", certificate)?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                misconfigured(&format!(
                    "ssl_key {} holds no readable PEM key: {error}",
                    key.display()
                ))
            })?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|error| {
                    misconfigured(&format!(
                        "the client certificate {} and key {} do not work together: {error}",
                        certificate.display(),
                        key.display()
                    ))
                })?
        }
        _ => {
            return Err(misconfigured(
                "ssl_cert and ssl_key go together; name both files or neither",
            ));
        }
    };
    Ok(Arc::new(config))
}

/// TLS settings that trust what backends trust whose URLs say nothing of it: the system's roots, with
/// those that `SSL_CERT_FILE`, `SSL_CERT_DIR` and `REQUESTS_CA_BUNDLE` name.
///
/// # Errors
/// [`ErrorKind::Permanent`] when a named file cannot be read or there is no root at all.
pub fn tls_client_config() -> Result<Arc<ClientConfig>> {
    client_config(&TlsOptions::default())
}

/// What to do about a server's certificate that was refused; `None` for other errors. `authorities` is
/// where the authorities are named that are trusted.
#[must_use]
pub fn certificate_remedy(error: &std::io::Error, authorities: &str) -> Option<String> {
    use rustls::CertificateError as Certificate;

    let Some(rustls::Error::InvalidCertificate(why)) = error.get_ref()?.downcast_ref() else {
        return None;
    };
    Some(match why {
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            "name the server by a name that its certificate is for, or give it one for this name"
                .to_owned()
        }
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "renew the server's certificate, or set this machine's clock right".to_owned()
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            "set this machine's clock right, or the server's certificate".to_owned()
        }
        _ => format!("name the PEM file of its authority in {authorities}"),
    })
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    if let Some(ca) = ca {
        store.add_parsable_certificates(read_certificates("ssl_ca", ca)?);
    } else {
        // Names of SSL_CERT_FILE and SSL_CERT_DIR are followed by the loader, in place of the
        // system's own roots, which are therefore added here.
        let native = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(native.certs);
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(error) = native.errors.first() {
            tracing::warn!(
                target: "cachekit",
                "certificates to trust could not be read, so that servers may not be trusted: {error} \
                 (SSL_CERT_FILE and SSL_CERT_DIR say where they are)"
            );
        }
        if let Some(file) = set("SSL_CERT_FILE")
            && native.errors.is_empty()
            && let Err(error) = read_certificates("SSL_CERT_FILE", Path::new(&file))
        {
            tracing::warn!(target: "cachekit", "{}, so that servers may not be trusted", error.message());
        }
        if (set("SSL_CERT_FILE").is_some() || set("SSL_CERT_DIR").is_some())
            && let Some(bundle) = SYSTEM_BUNDLES
                .iter()
                .map(Path::new)
                .find(|path| path.exists())
        {
            let loaded = rustls_native_certs::load_certs_from_paths(Some(bundle), None);
            store.add_parsable_certificates(loaded.certs);
        }
        if let Some(bundle) = set("REQUESTS_CA_BUNDLE") {
            let bundle = PathBuf::from(bundle);
            let loaded = if bundle.is_dir() {
                rustls_native_certs::load_certs_from_paths(None, Some(&bundle)).certs
            } else {
                read_certificates("REQUESTS_CA_BUNDLE", &bundle)?
            };
            store.add_parsable_certificates(loaded);
        }
    }
    if store.is_empty() {
        return Err(misconfigured(
            "no root certificate was found; install the system's CA certificates, or name a PEM file in SSL_CERT_FILE or ?ssl_ca=",
        ));
    }
    Ok(store)
}

fn read_certificates(source: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |why: String| {
        misconfigured(&format!(
            "{source} names {}, which holds no readable PEM certificate: {why}",
            path.display()
        ))
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| unreadable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unreadable("it has none".to_owned()));
    }
    Ok(certificates)
}

fn misconfigured(what: &str) -> BackendError {
    BackendError::new(ErrorKind::Permanent, "configure", what)
}

/// Accepts every certificate, but still checks that the server holds its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::CertificateError;

    use super::*;

    #[test]
    fn the_remedy_is_the_certificates() {
        let remedy = |why| {
            let error = io::Error::other(rustls::Error::InvalidCertificate(why));
            certificate_remedy(&error, "SSL_CERT_FILE").expect("it is about a certificate")
        };
        let unknown = remedy(CertificateError::UnknownIssuer);
        assert!(unknown.ends_with("authority in SSL_CERT_FILE"), "{unknown}");
        let name = ServerName::try_from("localhost").expect("a name");
        for (why, said) in [
            (CertificateError::NotValidForName, "name the server"),
            (
                CertificateError::NotValidForNameContext {
                    expected: name.to_owned(),
                    presented: vec![],
                },
                "name the server",
            ),
            (CertificateError::Expired, "renew"),
            (
                CertificateError::ExpiredContext {
                    time: UnixTime::now(),
                    not_after: UnixTime::now(),
                },
                "renew",
            ),
            (CertificateError::NotValidYet, "clock"),
        ] {
            let said_of = remedy(why);
            assert!(said_of.contains(said), "{said_of}");
            assert!(!said_of.contains("SSL_CERT_FILE"), "{said_of}");
        }
        assert_eq!(certificate_remedy(&io::Error::other("else"), "x"), None);
    }
}
