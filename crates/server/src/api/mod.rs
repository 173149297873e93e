//! The HTTP API: what is asked, by whom, and whether they may.

mod admin;
mod body;
mod entries;
mod error;
mod locks;
mod params;
mod route;
mod tenants;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures_util::FutureExt;

use self::error::ApiError;
use self::route::{NoRoute, Route};
use self::tenants::{Tenant, Tenants};
use crate::config::Config;
use crate::http::{Exchange, Peer};
use crate::keys::{Keys, Permission};
use crate::limits::Budget;
use crate::metrics::{Metrics, Operation};
use crate::store::{Place, Store};

/// The longest TTL, in seconds: 30 days.
pub(crate) const MAX_TTL: u64 = 2_592_000;
/// Where the API lies.
const BASE: &str = "/v1/cache/";

/// What all requests share.
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) keys: ArcSwap<Keys>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) budget: Budget,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) draining: AtomicBool,
    tenants: Tenants,
}

impl App {
    pub(crate) fn new(config: Arc<Config>, keys: Keys, store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(config.max_in_flight.as_usize()),
            keys: ArcSwap::from_pointee(keys),
            store,
            metrics: Arc::default(),
            draining: AtomicBool::new(false),
            tenants: Tenants::default(),
            config,
        })
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// The API and, beside it, the paths for operators.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/cache/{*rest}", any(cache))
        .route("/v1/cache/", any(cache))
        .route("/healthz", get(admin::healthz))
        .route("/readyz", get(admin::readyz))
        .route("/metrics", get(admin::guarded_metrics))
        .fallback(async || ApiError::no_path())
        .layer(middleware::from_fn(seen))
        .with_state(app)
}

/// The paths for operators alone.
pub(crate) fn admin_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(admin::healthz))
        .route("/readyz", get(admin::readyz))
        .route("/metrics", get(admin::metrics))
        .fallback(async || ApiError::no_path())
        .layer(middleware::from_fn(seen))
        .with_state(app)
}

/// Has the connection know that it was asked something, whatever the path.
async fn seen(request: Request, next: Next) -> Response {
    let _exchange = request.extensions().get::<Arc<Peer>>().map(Peer::begin);
    next.run(request).await
}

/// A request that has been let in.
struct Asked<'a> {
    app: &'a App,
    tenant: &'a Tenant,
    headers: HeaderMap,
    query: Option<String>,
    body: &'a mut Body,
}

impl Asked<'_> {
    fn place(&self, key: &str) -> Place {
        Place::new(&self.tenant.scope, key)
    }
}

/// Answers a request below `/v1/cache/`, whatever happens inside.
async fn cache(State(app): State<Arc<App>>, request: Request) -> Response {
    let started = Instant::now();
    let exchange = request.extensions().get::<Arc<Peer>>().map(Peer::begin);
    let exchange = exchange.expect("connections say whose requests they carry");
    let (parts, mut body) = request.into_parts();
    let head = parts.method == Method::HEAD;
    let awaits_leave = parts.headers.contains_key(header::EXPECT);
    let (mut operation, mut scope) = (Operation::Other, None);
    let answered = answer(&app, parts, &mut body, exchange, &mut operation, &mut scope);
    let response = match AssertUnwindSafe(answered).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if head => error.status.into_response(),
        Ok(Err(error)) => error.into_response(),
        Err(_) => {
            add(&app.metrics.panics, 1);
            tracing::error!(operation = operation.as_str(), "a request ended in a panic");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    let took = started.elapsed();
    let status = response.status().as_u16();
    if !awaits_leave && response.status() != StatusCode::REQUEST_TIMEOUT {
        body::discard(&app, body).await;
    }
    app.metrics.count(operation, status, took);
    tracing::debug!(
        operation = operation.as_str(),
        status,
        scope,
        microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    response
}

async fn answer(
    app: &App,
    parts: Parts,
    body: &mut Body,
    exchange: Exchange,
    operation: &mut Operation,
    scope: &mut Option<String>,
) -> Result<Response, ApiError> {
    let keys = app.keys.load_full();
    let record = bearer(&parts.headers)
        .and_then(|key| keys.verify(key))
        .ok_or_else(|| {
            ApiError::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the API key is missing or unknown; send Authorization: Bearer ck_live_…",
            )
        })?;
    let tenant = app.tenants.of(record, &app.config);
    *scope = Some(tenant.scope.as_str().to_owned());
    let path = parts.uri.path().strip_prefix(BASE).unwrap_or_default();
    let route = route::parse(path).map_err(|error| match error {
        NoRoute::Unknown => ApiError::no_path(),
        NoRoute::BadKey(reason) => ApiError::bad("bad_key", reason),
    })?;
    *operation = operation_of(&route, &parts.method)?;
    tenant.admit(Instant::now())?;
    let reads = matches!(
        operation,
        Operation::Get | Operation::Head | Operation::Ttl | Operation::Watch | Operation::Health
    );
    if !reads && record.permission == Permission::ReadOnly {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "read_only",
            "this API key may only read",
        ));
    }
    let asked = Asked {
        app,
        tenant: &tenant,
        headers: parts.headers,
        query: parts.uri.query().map(str::to_owned),
        body,
    };
    match (route, *operation) {
        (Route::Entry(key), Operation::Get) => entries::get(asked, &key, exchange).await,
        (Route::Entry(key), Operation::Head) => entries::head(asked, &key).await,
        (Route::Entry(key), Operation::Put) => entries::put(asked, &key).await,
        (Route::Entry(key), _) => entries::delete(asked, &key).await,
        (Route::Ttl(key), Operation::Ttl) => entries::ttl(asked, &key).await,
        (Route::Ttl(key), _) => entries::refresh(asked, &key).await,
        (Route::Lock(key), Operation::Lock) => locks::lock(asked, &key).await,
        (Route::Lock(key), Operation::Watch) => locks::watch(asked, &key).await,
        (Route::Lock(key), _) => locks::unlock(asked, &key).await,
        (Route::Health, _) => Ok(admin::health(app).await),
    }
}

/// What the method asks of the route.
fn operation_of(route: &Route, method: &Method) -> Result<Operation, ApiError> {
    match (route, method) {
        (Route::Entry(_), &Method::GET) => Ok(Operation::Get),
        (Route::Entry(_), &Method::HEAD) => Ok(Operation::Head),
        (Route::Entry(_), &Method::PUT) => Ok(Operation::Put),
        (Route::Entry(_), &Method::DELETE) => Ok(Operation::Delete),
        (Route::Entry(_), _) => Err(ApiError::method("GET, HEAD, PUT, DELETE")),
        (Route::Ttl(_), &Method::GET) => Ok(Operation::Ttl),
        (Route::Ttl(_), &Method::PATCH) => Ok(Operation::Refresh),
        (Route::Ttl(_), _) => Err(ApiError::method("GET, PATCH")),
        (Route::Lock(_), &Method::GET) => Ok(Operation::Watch),
        (Route::Lock(_), &Method::POST) => Ok(Operation::Lock),
        (Route::Lock(_), &Method::DELETE) => Ok(Operation::Unlock),
        (Route::Lock(_), _) => Err(ApiError::method("GET, POST, DELETE")),
        (Route::Health, &Method::GET | &Method::HEAD) => Ok(Operation::Health),
        (Route::Health, _) => Err(ApiError::method("GET, HEAD")),
    }
}

/// The key in the Authorization header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
