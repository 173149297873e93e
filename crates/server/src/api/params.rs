//! What requests say in headers and JSON.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use serde_json::Value;

use super::error::ApiError;
use super::{MAX_TTL, body};
use crate::api::Asked;

pub(super) const TTL: HeaderName = HeaderName::from_static("x-cachekit-ttl");
const OLD_TTL: HeaderName = HeaderName::from_static("x-ttl");
const STALE_TTL: HeaderName = HeaderName::from_static("x-cachekit-stale-ttl");
pub(super) const FRESHNESS: HeaderName = HeaderName::from_static("x-cachekit-freshness");
pub(super) const LOCK_ID: HeaderName = HeaderName::from_static("x-cachekit-lock-id");
/// The largest JSON body.
const MAX_JSON: usize = 4096;

/// A header's text, or a 400 when it is not text.
pub(super) fn text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, ApiError> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| ApiError::bad("bad_header", format!("the header {name} is not ASCII text")))?;
    Ok(Some(text.trim()))
}

/// A member of the query, as it was sent.
pub(super) fn query<'a>(asked: &'a Asked<'_>, name: &str) -> Option<&'a str> {
    let mut pairs = asked.query.as_deref()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The TTL that the headers name: `X-CacheKit-TTL`, else `X-TTL`.
pub(super) fn ttl(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    for name in [TTL, OLD_TTL] {
        if let Some(text) = text(headers, &name)? {
            let seconds = whole(text).filter(|seconds| (1..=MAX_TTL).contains(seconds));
            return seconds
                .map(|seconds| Some(Duration::from_secs(seconds)))
                .ok_or_else(|| bad_ttl(&name));
        }
    }
    Ok(None)
}

fn bad_ttl(what: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad(
        "bad_ttl",
        format!("{what} must be a whole number of seconds from 1 to {MAX_TTL}"),
    )
}

/// The time past the TTL during which the entry is served as stale.
pub(super) fn stale_ttl(headers: &HeaderMap) -> Result<Duration, ApiError> {
    let Some(text) = text(headers, &STALE_TTL)? else {
        return Ok(Duration::ZERO);
    };
    let seconds = whole(text).filter(|seconds| *seconds <= MAX_TTL);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        ApiError::bad(
            "bad_stale_ttl",
            format!("{STALE_TTL} must be a whole number of seconds from 0 to {MAX_TTL}"),
        )
    })
}

/// Digits, and nothing else.
pub(super) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Refuses a body of another type than `application/octet-stream` or one of `also`.
pub(super) fn content_type(headers: &HeaderMap, also: &[&str]) -> Result<(), ApiError> {
    let unsupported = |reason| {
        ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            reason,
        )
    };
    if let Some(coding) = text(headers, &header::CONTENT_ENCODING)?
        && !coding.eq_ignore_ascii_case("identity")
    {
        return Err(unsupported(
            "values are stored as they are; send them without Content-Encoding".to_owned(),
        ));
    }
    let Some(found) = text(headers, &header::CONTENT_TYPE)? else {
        return Ok(());
    };
    let kind = found.split(';').next().unwrap_or_default().trim();
    let good = |wanted: &&str| kind.eq_ignore_ascii_case(wanted);
    if good(&"application/octet-stream") || also.iter().any(good) {
        return Ok(());
    }
    let first = also.first().unwrap_or(&"application/octet-stream");
    Err(unsupported(format!("send Content-Type: {first}")))
}

/// The JSON object in the body. The published clients say `application/octet-stream` with it.
pub(super) async fn json(asked: &mut Asked<'_>) -> Result<Value, ApiError> {
    content_type(&asked.headers, &["application/json"])?;
    let (bytes, _room) = body::read(asked.app, &asked.headers, asked.body, MAX_JSON).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad("bad_json", format!("the body is not JSON: {error}")))
}

/// The TTL in a JSON object's member `ttl`.
pub(super) fn json_ttl(object: &Value) -> Result<Duration, ApiError> {
    let seconds = object.get("ttl").and_then(Value::as_u64);
    seconds
        .filter(|seconds| (1..=MAX_TTL).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| bad_ttl(&"ttl"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&HeaderName, &[u8])]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).clone(), HeaderValue::from_bytes(value).unwrap()))
            .collect()
    }

    #[test]
    fn the_newer_ttl_header_wins() {
        let both = headers(&[(&OLD_TTL, b"5"), (&TTL, b"9")]);
        assert_eq!(ttl(&both).unwrap(), Some(Duration::from_secs(9)));
        let old = headers(&[(&OLD_TTL, b"5")]);
        assert_eq!(ttl(&old).unwrap(), Some(Duration::from_secs(5)));
        assert_eq!(ttl(&HeaderMap::new()).unwrap(), None);
        let wrong = headers(&[(&OLD_TTL, b"5"), (&TTL, b"0")]);
        assert!(ttl(&wrong).is_err());
    }

    #[test]
    fn ttls_are_whole_and_in_range() {
        for wrong in [
            "0",
            "-1",
            "2592001",
            "1.5",
            "1e3",
            "",
            "+5",
            "99999999999999999999",
            "x",
        ] {
            assert!(
                ttl(&headers(&[(&TTL, wrong.as_bytes())])).is_err(),
                "{wrong}"
            );
        }
        assert!(ttl(&headers(&[(&TTL, b"\xff")])).is_err());
        assert!(ttl(&headers(&[(&TTL, b"2592000")])).is_ok());
        for wrong in ["0", "2592001", "1.0", "\"1\"", "null", "true", "-1", "[1]"] {
            let object = serde_json::from_str(&format!("{{\"ttl\":{wrong}}}")).unwrap();
            assert!(json_ttl(&object).is_err(), "{wrong}");
        }
        assert!(json_ttl(&Value::Null).is_err());
        assert_eq!(stale_ttl(&HeaderMap::new()).unwrap(), Duration::ZERO);
        assert!(stale_ttl(&headers(&[(&STALE_TTL, b"0")])).is_ok());
        assert!(stale_ttl(&headers(&[(&STALE_TTL, b"-1")])).is_err());
    }

    #[test]
    fn types_of_bodies() {
        let of = |kind: &str| headers(&[(&header::CONTENT_TYPE, kind.as_bytes())]);
        assert!(content_type(&HeaderMap::new(), &[]).is_ok());
        assert!(content_type(&of("Application/Octet-Stream"), &[]).is_ok());
        assert!(
            content_type(
                &of("application/json; charset=utf-8"),
                &["application/json"]
            )
            .is_ok()
        );
        assert!(content_type(&of("application/json"), &[]).is_err());
        assert!(content_type(&of("text/html"), &["application/json"]).is_err());
        let coded = headers(&[(&header::CONTENT_ENCODING, b"gzip")]);
        assert!(content_type(&coded, &[]).is_err());
    }

    proptest! {
        #[test]
        fn no_header_panics_or_leaves_the_range(value in proptest::collection::vec(any::<u8>(), 0..24)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let headers = HeaderMap::from_iter([(TTL, value.clone()), (STALE_TTL, value)]);
                if let Ok(Some(found)) = ttl(&headers) {
                    prop_assert!((1..=MAX_TTL).contains(&found.as_secs()));
                }
                if let Ok(found) = stale_ttl(&headers) {
                    prop_assert!(found.as_secs() <= MAX_TTL);
                }
            }
        }
    }
}
