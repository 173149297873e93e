//! A running server: what it consists of, and how it ends.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::{self, App};
use crate::config::{Config, StoreKind};
use crate::http::{Certificate, Listener, Transport};
use crate::keys::{KeyError, Keys};
use crate::store::{EmbeddedOptions, EmbeddedStore, RedisStore, Store, StoreError};
use crate::watch::{Stamp, watch as watch_files};

/// Why a server could not start or end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The key file cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The store cannot be opened or closed.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// The certificate cannot be used.
    #[error("the certificate: {0}")]
    Certificate(String),
    /// The address cannot be listened on.
    #[error("listening on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

/// A server that accepts connections.
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    listeners: JoinSet<()>,
    /// Files that are looked at until the server is dropped.
    watchers: JoinSet<()>,
    drain: watch::Sender<bool>,
    admin_end: watch::Sender<bool>,
    reload: watch::Sender<()>,
}

impl Server {
    /// Opens the store, binds the addresses and starts to serve. Must be called within a tokio
    /// runtime with I/O and time.
    ///
    /// # Errors
    /// When the key file, the store, the certificate or an address cannot be used.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        let config = Arc::new(config);
        let path = config.key_path();
        let key_files = vec![path.clone()];
        let keys_seen = Stamp::of(&key_files);
        let keys = Keys::read(&path)?;
        if keys.usable() == 0 {
            tracing::warn!(
                file = %path.display(),
                "no API key can be used yet: make one with `cachekit keys create`"
            );
        }
        let transport = transport(&config)?;
        let app = App::new(config.clone(), keys, open_store(&config).await?);
        let bind = async |address, transport, router| {
            let bound = Listener::bind(
                address,
                transport,
                router,
                config.clone(),
                app.metrics.clone(),
            );
            let bound = bound
                .await
                .map_err(|error| ServerError::Listen(address, error))?;
            let address = bound
                .address()
                .map_err(|error| ServerError::Listen(address, error))?;
            Ok::<_, ServerError>((bound, address))
        };
        let (drain, draining) = watch::channel(false);
        let (admin_end, admin_ends) = watch::channel(false);
        let mut listeners = JoinSet::new();
        let mut admin_address = None;
        if let Some(address) = config.admin_listen {
            let router = api::admin_router(app.clone());
            let (listener, address) = bind(address, Transport::Plain, router).await?;
            admin_address = Some(address);
            listeners.spawn(listener.run(admin_ends));
        }
        let router = api::router(app.clone());
        let (listener, address) = bind(config.listen, transport.clone(), router).await?;
        listeners.spawn(listener.run(draining));
        let (reload, reloads) = watch::channel(());
        let mut watchers = JoinSet::new();
        let keyed = app.clone();
        watchers.spawn(watch_files(
            key_files,
            keys_seen,
            reloads.clone(),
            move || {
                read_keys(&keyed, &path);
            },
        ));
        if let Transport::Tls(certificate) = transport {
            let (files, seen) = (certificate.files(), certificate.seen());
            watchers.spawn(watch_files(
                files,
                seen,
                reloads,
                move || match certificate.reload() {
                    Ok(()) => tracing::info!("the certificate was read again"),
                    Err(error) => tracing::error!(error, "the certificate in use stays"),
                },
            ));
        }
        tracing::info!(
            %address,
            admin = admin_address.map(|address| address.to_string()),
            tls = !config.plain,
            store = app.store.name(),
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );
        Ok(Self {
            app,
            address,
            admin_address,
            listeners,
            watchers,
            drain,
            admin_end,
            reload,
        })
    }

    /// The address of the API, with the port that the system chose where it was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for operators, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Reads the keys and the certificate again now.
    pub fn reload(&self) {
        self.reload.send_replace(());
    }

    /// Turns unready, lets running requests end for at most `drain_timeout`, and closes the store.
    ///
    /// # Errors
    /// When the store could not be closed well.
    pub async fn stop(mut self) -> Result<(), ServerError> {
        let config = self.app.config.clone();
        tracing::info!("draining");
        self.app.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(config.drain_delay).await;
        self.drain.send_replace(true);
        // The operators' address stays until the API's connections have ended.
        let ended = tokio::time::timeout(config.drain_timeout, self.listeners.join_next()).await;
        if config.admin_listen.is_some() {
            self.admin_end.send_replace(true);
        }
        if ended.is_err() {
            tracing::warn!("requests still ran at the end of drain_timeout and were cut off");
        }
        self.listeners.shutdown().await;
        self.watchers.shutdown().await;
        self.app.store.close().await?;
        tracing::info!("ended");
        Ok(())
    }
}

/// What lies between TCP and HTTP.
fn transport(config: &Config) -> Result<Transport, ServerError> {
    match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) if !config.plain => Certificate::read(certificate, key)
            .map(|read| Transport::Tls(Arc::new(read)))
            .map_err(ServerError::Certificate),
        _ => Ok(Transport::Plain),
    }
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>, ServerError> {
    if config.store == StoreKind::Redis {
        let url = config.redis_url.as_ref().map_or("", |url| url.expose());
        return Ok(Arc::new(RedisStore::new(url, config.redis_timeout)?));
    }
    let options = EmbeddedOptions {
        max_bytes: config.max_bytes.0,
        max_entries: config.max_entries,
        durability: config.durability,
        sync_interval: config.sync_interval,
        min_free_disk: config.min_free_disk.0,
        block_cache: config.block_cache.0,
        max_locks: config.max_locks,
        ..EmbeddedOptions::new(config.data_dir.join("store"))
    };
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(options));
    let store = opened
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))??;
    Ok(Arc::new(store))
}

/// Reads the key file again.
fn read_keys(app: &App, path: &Path) {
    match Keys::reread(path) {
        Ok(keys) => {
            tracing::info!(usable = keys.usable(), "the keys were read again");
            app.keys.store(Arc::new(keys));
        }
        Err(error) => tracing::error!(%error, "the keys in use stay"),
    }
}
