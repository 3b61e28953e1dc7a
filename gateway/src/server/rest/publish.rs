//! Events in.

use std::io::Read;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use squilla_engine::failpoint::Failpoint;
use squilla_sources::{Numbered, NumberedReport, PublishReport};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::whole::to_the_end;
use crate::catalog::StoredKind;
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
    /// Of a request with a sequence: it was taken before, and not again. The counts are those of the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
}

/// How a publisher numbers its requests, so that one that is sent again is not taken twice.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Numbering {
    /// A name that the publisher gives itself, of up to 128 bytes; also as the header `Producer-Id`.
    producer_id: Option<String>,
    /// One more than that of the publisher's request before; the first may be any. Also as the header `Producer-Seq`.
    sequence: Option<u64>,
}

/// Bytes of a producer's name.
const PRODUCER_ID_BYTES: usize = 128;
const PRODUCER_ID: &str = "producer-id";
const SEQUENCE: &str = "producer-seq";

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
///
/// A request with `producer_id` and `sequence` is taken once, however often it is sent: a second time the answer says
/// `duplicate`. In a stream that is durable this holds over crashes. Of each stream the last 1,000 producers are known,
/// and of each of them the last five requests.
#[utoipa::path(
    post, path = "/api/v1/streams/{name}/events", tag = "streams", params(("name" = String, Path), Numbering),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = OK, body = Published),
        (status = BAD_REQUEST, body = ErrorAnswer, description = "neither NDJSON nor a JSON array"),
        (status = NOT_FOUND, body = ErrorAnswer, description = "no such http source"),
        (status = CONFLICT, body = ErrorAnswer, description = "the producer's requests are not in order: some are missing before this one, or it is older than what is remembered"),
        (status = PAYLOAD_TOO_LARGE, body = ErrorAnswer, description = "over 16 MiB"),
        (status = TOO_MANY_REQUESTS, body = ErrorAnswer, description = "the queue is full: nothing was taken"),
        (status = INSUFFICIENT_STORAGE, body = ErrorAnswer, description = "not all rows could be stored")
    )
)]
pub(super) async fn publish(
    State(app): Shared,
    Path(name): Path<String>,
    numbering: Result<Query<Numbering>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Published>, ApiError> {
    let Query(numbering) = numbering.map_err(|rejection| {
        ApiError::malformed(rejection.body_text()).help("?producer_id=NAME&sequence=NUMBER is all that can be said")
    })?;
    let numbered = numbering.or_of(&headers)?;
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES)).await;
    let body = body.map_err(|_| {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come in time")
            .help("send fewer rows at once")
    })?;
    let body = decoded(&headers, body.map_err(|_| too_large())?).await?;
    let service = app.service.clone();
    if let Some(there) = app.service.names().get(&name)
        && there.kind() != StoredKind::Source
    {
        let message = format!("\"{name}\" is a {}: no events are published to it", there.kind().word());
        return Err(ApiError::not_found(message)
            .help("publish to a source with connector = 'http'; SHOW SOURCES lists the sources"));
    }
    let Some(numbered) = numbered else {
        let report = if service.is_pending(&name) {
            to_the_end(async move { service.publish(&name, body).await }).await?
        } else {
            service.publish(&name, body).await?
        };
        return Ok(Json(Published::from(report)));
    };
    let report = if service.is_pending(&name) {
        to_the_end(async move { service.publish_numbered(&name, body, numbered).await }).await?
    } else {
        service.publish_numbered(&name, body, numbered).await?
    };
    Failpoint::AnswerBegins.pass();
    Ok(Json(match report {
        NumberedReport::Taken(report) => Published { duplicate: Some(false), ..report.into() },
        NumberedReport::Before(mark) => {
            Published { accepted: mark.accepted, rejected: mark.rejected, errors: Vec::new(), duplicate: Some(true) }
        }
    }))
}

impl Numbering {
    /// What it says, or the headers do; `None`: the request is not numbered.
    fn or_of(self, headers: &HeaderMap) -> Result<Option<Numbered>, ApiError> {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default().to_owned());
        let producer = self.producer_id.or_else(|| header(PRODUCER_ID));
        let told = match (self.sequence, header(SEQUENCE)) {
            (None, Some(text)) => Some(text.parse().map_err(|_| {
                ApiError::malformed(format!("{SEQUENCE}: \"{text}\" is no number"))
                    .help("number the requests 0, 1, 2 and so on")
            })?),
            (told, _) => told,
        };
        match (producer, told) {
            (None, None) => Ok(None),
            (Some(producer), Some(_)) if producer.is_empty() || producer.len() > PRODUCER_ID_BYTES => {
                let message = format!("producer_id has {} bytes", producer.len());
                Err(ApiError::malformed(message).help(format!("it has 1 to {PRODUCER_ID_BYTES} bytes of text")))
            }
            (Some(producer), Some(sequence)) => Ok(Some(Numbered { producer, sequence })),
            (Some(_), None) => Err(ApiError::malformed("producer_id without sequence")
                .help("number the producer's requests: sequence=0, 1, 2 and so on")),
            (None, Some(_)) => Err(ApiError::malformed("sequence without producer_id")
                .help("say who counts: producer_id=NAME, which no other publisher of the stream uses")),
        }
    }
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
            duplicate: None,
        }
    }
}
