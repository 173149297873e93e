//! One call of the API: sent, repeated where that helps, and its answer read.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use tokio::time::timeout_at;

use super::error::{Again, Failure, refused};
use super::link::{Line, Link};
use super::{Live, MAX_VALUE};
use crate::error::{BackendError, ErrorKind, Result};

/// What is read of an answer that is no value: JSON, or a reason.
const MAX_NOTE: usize = 64 << 10;
/// How long a body is taken to be on the server's word alone.
const TRUSTED: usize = 16 << 20;
/// The first pause before a call is repeated, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What to ask.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) operation: &'static str,
    method: Method,
    /// What follows `/v1/cache/`.
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// Whether it may be done twice.
    repeatable: bool,
    /// Whether the body of a 200 is a stored value.
    reads_value: bool,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn new(operation: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self {
            operation,
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            repeatable: true,
            reads_value: false,
        }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn json(self, value: &serde_json::Value) -> Self {
        self.header(header::CONTENT_TYPE, JSON)
            .body(value.to_string())
    }

    /// Answered by a stored value.
    pub(super) fn for_value(mut self) -> Self {
        self.reads_value = true;
        self
    }

    /// Not to be sent again when its answer is lost.
    pub(super) fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

impl Answer {
    /// The answer's JSON; None where it is none.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// A connection to talk on, and until when.
pub(super) struct Talk<'a> {
    pub(super) live: &'a Live,
    pub(super) link: Arc<Link>,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
}

impl Talk<'_> {
    /// The API's answer, whatever its status is among `expected`; other ones are failures.
    pub(super) async fn ask(&self, call: &Call, expected: &[u16]) -> Result<Answer> {
        let mut attempt = 0;
        let mut replaced = false;
        let mut before = None;
        loop {
            let (failure, was_open) = match self.attempt(call, expected).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let error = failure.error.with_operation(call.operation);
            let repeatable = match failure.again {
                Again::Never => false,
                Again::Undone => true,
                Again::Harmless => call.repeatable,
            };
            if !repeatable {
                // What went wrong tells more than that the time for another attempt was too short.
                return Err(match before {
                    Some(before) if error.kind() == ErrorKind::Timeout => before,
                    _ => error,
                });
            }
            // A connection that was open before and is lost says nothing about the server.
            if was_open && !replaced {
                replaced = true;
                continue;
            }
            if attempt == self.live.config.max_retries {
                return Err(error);
            }
            let pause = failure.pause.unwrap_or_else(|| pause(attempt));
            if pause >= self.deadline.saturating_duration_since(Instant::now()) {
                return Err(error);
            }
            attempt += 1;
            tracing::debug!(%error, attempt, ?pause, "a call of the CachekitIO API is repeated");
            before = Some(error);
            tokio::time::sleep(pause).await;
        }
    }

    /// One attempt. A failure comes with whether it is that of a connection used before.
    async fn attempt(
        &self,
        call: &Call,
        expected: &[u16],
    ) -> std::result::Result<Answer, (Failure, bool)> {
        let connecting = self.link.line(&self.live.connector, self.deadline);
        let (line, is_new) = match timeout_at(self.deadline.into(), connecting).await {
            Ok(Ok(line)) => line,
            Ok(Err(failure)) => return Err((failure, false)),
            Err(_) => return Err((self.late(call), false)),
        };
        let sent = line.now();
        let answer = match timeout_at(self.deadline.into(), self.exchange(&line, call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => {
                let lost = failure.again != Again::Never;
                if lost {
                    line.give_up();
                }
                return Err((failure, lost && !is_new));
            }
            Err(_) => {
                // Others' answers arrive: the server is slow with this one. Otherwise the
                // connection may be dead without a sign, and the next call gets a new one.
                if !line.is_alive_since(sent) {
                    line.give_up();
                }
                return Err((self.late(call), false));
            }
        };
        if expected.contains(&answer.status.as_u16()) {
            return Ok(answer);
        }
        let reason = self.live.reason(&answer);
        let failure = refused(call.operation, answer.status, &answer.headers, &reason);
        Err((failure, false))
    }

    async fn exchange(
        &self,
        line: &Arc<Line>,
        call: &Call,
    ) -> std::result::Result<Answer, Failure> {
        let mut sender = line.sender.clone();
        let request = self.request(call)?;
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut failed) => {
                let unsent = failed.take_message().is_some();
                let error = self.lost(call, failed.error());
                return Err(if unsent {
                    Failure::unsent(error)
                } else {
                    Failure::unanswered(error)
                });
            }
        };
        line.answered();
        let (head, body) = response.into_parts();
        let is_value = head.status == StatusCode::OK && call.reads_value;
        let body = if call.method == Method::HEAD {
            Bytes::new()
        } else if is_value {
            self.read(line, call, body, MAX_VALUE)
                .await?
                .ok_or_else(|| self.too_large(call))?
        } else {
            // A note that is too long to be one is none.
            self.read(line, call, body, MAX_NOTE)
                .await?
                .unwrap_or_default()
        };
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    fn request(&self, call: &Call) -> std::result::Result<Request<Full<Bytes>>, Failure> {
        let base = &self.live.config.endpoint.base;
        let request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{base}/v1/cache/{}", call.path))
            .header(header::AUTHORIZATION, self.live.authorization.clone());
        let mut request = request
            .body(Full::new(call.body.clone()))
            .map_err(|error| {
                let message = format!("the request cannot be made: {error}");
                Failure::permanent(BackendError::new(
                    ErrorKind::Permanent,
                    call.operation,
                    message,
                ))
            })?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, BYTES);
        self.live.session.write(headers);
        for (name, value) in &call.headers {
            headers.insert(name, value.clone());
        }
        Ok(request)
    }

    /// The body, or None if it is longer than `limit`.
    async fn read(
        &self,
        line: &Line,
        call: &Call,
        mut body: Incoming,
        limit: usize,
    ) -> std::result::Result<Option<Bytes>, Failure> {
        let announced = body.size_hint().lower();
        if announced > limit as u64 {
            return Ok(None);
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::unanswered(self.lost(call, &error)))?;
            line.answered();
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if first.len() + rest.len() + data.len() > limit {
                return Ok(None);
            }
            if first.is_empty() && rest.is_empty() {
                first = data; // Most values are one piece, which is not copied.
                continue;
            }
            if rest.is_empty() {
                // A server that announces more than it sends gets no memory for it.
                rest.reserve(usize::try_from(announced).map_or(TRUSTED, |size| size.min(TRUSTED)));
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
        Ok(Some(if rest.is_empty() {
            first
        } else {
            rest.freeze()
        }))
    }

    fn late(&self, call: &Call) -> Failure {
        let message = format!("the API did not answer within {:?}", self.timeout);
        // The time is up: there is none to try again in.
        Failure::permanent(BackendError::new(
            ErrorKind::Timeout,
            call.operation,
            message,
        ))
    }

    fn lost(&self, call: &Call, error: &hyper::Error) -> BackendError {
        // The cause tells more than the outermost error.
        let cause = error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string);
        let message = format!("the connection to the API broke: {cause}");
        BackendError::new(ErrorKind::Transient, call.operation, message)
    }

    fn too_large(&self, call: &Call) -> Failure {
        let message = format!("the API's answer is longer than {} MB", MAX_VALUE >> 20);
        Failure::permanent(BackendError::new(
            ErrorKind::Permanent,
            call.operation,
            message,
        ))
    }
}

/// The pause before the attempt after this one: doubling, and by chance shorter, so that those who
/// failed together do not come back together.
fn pause(attempt: u32) -> Duration {
    let full = PAUSE.saturating_mul(1 << attempt.min(10)).min(MAX_PAUSE);
    full.mul_f64(half_to_one())
}

/// A number from 0.5 to 1 by chance.
pub(super) fn half_to_one() -> f64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    0.5 + f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX) / 2.0
}
