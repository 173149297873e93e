//! The server's certificate, read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::watch::Stamp;

/// The certificate in use.
pub(crate) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    /// The files before they were first read.
    seen: Stamp,
    current: ArcSwap<ServerConfig>,
}

impl Certificate {
    /// Reads the certificate and its key.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            seen: Stamp::of(&[certificate.to_owned(), key.to_owned()]),
            current: ArcSwap::from_pointee(config(certificate, key)?),
        })
    }

    /// The files it was read from.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        vec![self.certificate.clone(), self.key.clone()]
    }

    /// What the files were before they were first read.
    pub(crate) fn seen(&self) -> Stamp {
        self.seen.clone()
    }

    /// Reads the files again. New connections get what was read; if it cannot be read, the
    /// certificate in use stays.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let new = config(&self.certificate, &self.key)?;
        self.current.store(Arc::new(new));
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

fn config(certificate: &Path, key: &Path) -> Result<ServerConfig, String> {
    let at = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .map_err(|error| at(certificate, &error))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| at(certificate, &error))?;
    if chain.is_empty() {
        return Err(at(certificate, &"there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| at(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| at(key, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
