//! Events in.

use std::io::Read;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde::Serialize;
use squilla_sources::PublishReport;
use utoipa::ToSchema;

use super::Shared;
use crate::server::error::{ApiError, ErrorAnswer};
use crate::server::limits::{BODY_BYTES, BODY_TIMEOUT};

/// What became of the events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Published {
    /// Rows taken.
    accepted: u64,
    /// Rows not taken.
    rejected: u64,
    /// The first hundred of those.
    errors: Vec<Rejected>,
}

/// An event that was not taken.
#[derive(Debug, Serialize, ToSchema)]
struct Rejected {
    /// Its line from 1; in an array: its place.
    line: u64,
    /// Why.
    reason: String,
}

/// Publishes events to an `http` source: newline-delimited JSON, or a JSON array of objects, as they are or with
/// `content-encoding: gzip`. Events that do not fit the columns are rejected one by one.
#[utoipa::path(
    post, path = "/api/v1/streams/{name}/events", tag = "streams", params(("name" = String, Path)),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = OK, body = Published),
        (status = BAD_REQUEST, body = ErrorAnswer, description = "neither NDJSON nor a JSON array"),
        (status = NOT_FOUND, body = ErrorAnswer, description = "no such http source"),
        (status = PAYLOAD_TOO_LARGE, body = ErrorAnswer, description = "over 16 MiB"),
        (status = TOO_MANY_REQUESTS, body = ErrorAnswer, description = "the queue is full: nothing was taken"),
        (status = INSUFFICIENT_STORAGE, body = ErrorAnswer, description = "not all rows could be stored")
    )
)]
pub(super) async fn publish(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Published>, ApiError> {
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES)).await;
    let body =
        body.map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come in time"))?;
    let body = decoded(&headers, body.map_err(|_| too_large())?).await?;
    let report = app.service.publish(&name, body).await?;
    Ok(Json(Published::from(report)))
}

/// The body without its encoding.
async fn decoded(headers: &HeaderMap, body: Bytes) -> Result<Bytes, ApiError> {
    let encoding = headers.get(CONTENT_ENCODING).map(|encoding| encoding.to_str().unwrap_or("?"));
    match encoding {
        None | Some("identity") => Ok(body),
        Some("gzip" | "x-gzip") => {
            tokio::task::spawn_blocking(move || gunzip(&body)).await.expect("decompression does not panic")
        }
        Some(other) => {
            let message = format!("content-encoding {other} is not understood");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", message).help("use gzip, or none"))
        }
    }
}

fn gunzip(body: &[u8]) -> Result<Bytes, ApiError> {
    let mut plain = Vec::new();
    // One more byte than allowed tells a body that is too large from one that just fits.
    let limit = BODY_BYTES as u64 + 1;
    let read = MultiGzDecoder::new(body).take(limit).read_to_end(&mut plain);
    read.map_err(|error| ApiError::malformed(format!("the body is not gzip: {error}")))?;
    if plain.len() > BODY_BYTES { Err(too_large()) } else { Ok(plain.into()) }
}

fn too_large() -> ApiError {
    let message = format!("the body is over the limit of {BODY_BYTES} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).help("send it in several requests")
}

impl From<PublishReport> for Published {
    fn from(report: PublishReport) -> Self {
        let errors = report.errors.into_iter();
        Self {
            accepted: report.accepted,
            rejected: report.rejected,
            errors: errors.map(|error| Rejected { line: error.line, reason: error.reason }).collect(),
        }
    }
}
