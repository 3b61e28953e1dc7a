//! What there is: streams, jobs, queries.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use squilla_engine::{CountersSnapshot, Durability, EngineError, JobInfo, QueryInfo, Recovery, StreamInfo};
use utoipa::ToSchema;

use super::Shared;
use crate::server::App;
use crate::server::error::{ApiError, ErrorAnswer};
use crate::server::moment;
use crate::server::socket::message::{Column, columns};

/// Sources and named streams.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Streams {
    streams: Vec<StreamBody>,
}

/// A source or named stream.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamBody {
    name: String,
    /// `source` or `stream`.
    kind: String,
    /// `running`, `paused`, `waiting`, `ended`, `failed: …`; of one whose columns are not known yet: why.
    status: String,
    /// What must be told wherever its rows are shown.
    labels: Vec<String>,
    columns: Vec<Column>,
    /// Of a source.
    connector: Option<String>,
    /// Of a source; secrets are not shown.
    options: BTreeMap<String, String>,
    /// The event-time column and how the watermark follows.
    event_time: String,
    partitions: u32,
    /// RFC 3339; null: none yet, or at the end.
    watermark: Option<String>,
    /// Rows so far.
    rows: u64,
    /// Rows kept to be read again.
    log_rows: u64,
    /// Bytes kept to be read again.
    log_bytes: u64,
    /// `memory`, `buffered` or `durable`.
    #[schema(value_type = String)]
    durability: Durability,
    /// Of a named stream, how it goes on after a restart: `exactly_once` or `live`.
    #[schema(value_type = Option<String>)]
    recovery: Option<Recovery>,
    /// Why it goes on with what comes then, though its log is on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    live_because: Option<String>,
    /// Rows that readers saw and the disk did not take.
    unstored_rows: u64,
    /// Rows on disk that were found damaged.
    damaged_rows: u64,
    /// Of a named stream that rests.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<PausedBody>,
    /// Who reads it.
    users: Vec<String>,
    #[schema(value_type = Object)]
    counters: CountersSnapshot,
}

/// How a named stream rests.
#[derive(Debug, Serialize, ToSchema)]
struct PausedBody {
    /// RFC 3339.
    since: Option<String>,
    /// Rows that have come and wait to be read.
    waiting_rows: u64,
    /// Rows that have come and that retention has removed: they will be counted as dropped.
    lost_rows: u64,
}

/// Running jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Jobs {
    jobs: Vec<JobBody>,
}

/// A running job.
#[derive(Debug, Serialize, ToSchema)]
struct JobBody {
    id: String,
    kind: String,
    description: String,
    /// Jobs whose output it reads.
    inputs: Vec<String>,
    /// The name of its output.
    stream: Option<String>,
    /// Who uses it.
    users: Vec<String>,
    started: Option<String>,
    watermark: Option<String>,
    state_bytes: usize,
    #[schema(value_type = Object)]
    counters: CountersSnapshot,
    /// How often it was started again after it had crashed.
    restarts: u64,
    /// Why it crashed the last time; null: it has not.
    crash: Option<String>,
    status: String,
}

/// Live queries.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queries {
    queries: Vec<QueryBody>,
}

/// A live query.
#[derive(Debug, Serialize, ToSchema)]
struct QueryBody {
    id: String,
    sql: String,
    started: Option<String>,
    /// The source's first.
    jobs: Vec<String>,
    subscriptions: usize,
    /// Rows handed to clients.
    rows: u64,
    /// It rests until it is resumed.
    paused: bool,
}

/// Records that were set aside.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rejects {
    /// The last few, oldest first.
    rejects: Vec<RejectBody>,
}

/// A record that was set aside.
#[derive(Debug, Serialize, ToSchema)]
struct RejectBody {
    /// Why.
    reason: String,
    /// The record or row as text, cut to 2 KiB.
    row: String,
}

/// Sources and named streams, by name.
#[utoipa::path(get, path = "/api/v1/streams", tag = "streams", responses((status = OK, body = Streams)))]
pub(super) async fn streams(State(app): Shared) -> Json<Streams> {
    Json(Streams { streams: all_streams(&app) })
}

/// A source or named stream.
#[utoipa::path(
    get, path = "/api/v1/streams/{name}", tag = "streams", params(("name" = String, Path)),
    responses((status = OK, body = StreamBody), (status = NOT_FOUND, body = ErrorAnswer))
)]
pub(super) async fn stream(State(app): Shared, Path(name): Path<String>) -> Result<Json<StreamBody>, ApiError> {
    let found = all_streams(&app).into_iter().find(|stream| stream.name == name);
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("no stream \"{name}\"")))
}

/// The last records that a source could not decode, or rows on which a stream's query failed.
#[utoipa::path(
    get, path = "/api/v1/streams/{name}/rejects", tag = "streams", params(("name" = String, Path)),
    responses((status = OK, body = Rejects), (status = NOT_FOUND, body = ErrorAnswer))
)]
pub(super) async fn rejects(State(app): Shared, Path(name): Path<String>) -> Result<Json<Rejects>, ApiError> {
    let samples = match app.service.engine().failed_samples(&name) {
        Ok(samples) => samples,
        // Of a source that waits for its first events there are none.
        Err(EngineError::UnknownRelation(_)) if app.service.absent(&name).is_some() => Vec::new(),
        Err(error) => return Err(ApiError::from(&error)),
    };
    let reject = |sample: squilla_engine::FailedSample| RejectBody { reason: sample.reason, row: sample.row };
    Ok(Json(Rejects { rejects: samples.into_iter().map(reject).collect() }))
}

/// Running jobs, sources first, with what they count.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "operation", responses((status = OK, body = Jobs)))]
pub(super) async fn jobs(State(app): Shared) -> Json<Jobs> {
    Json(Jobs { jobs: app.service.jobs().into_iter().map(JobBody::from).collect() })
}

/// Live queries, oldest first.
#[utoipa::path(get, path = "/api/v1/queries", tag = "queries", responses((status = OK, body = Queries)))]
pub(super) async fn queries(State(app): Shared) -> Json<Queries> {
    Json(Queries { queries: app.service.queries().into_iter().map(QueryBody::from).collect() })
}

/// Ends a live query for all who read it.
#[utoipa::path(
    delete, path = "/api/v1/queries/{id}", tag = "queries", params(("id" = String, Path)),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = ErrorAnswer))
)]
pub(super) async fn kill(State(app): Shared, Path(id): Path<String>) -> Result<axum::http::StatusCode, ApiError> {
    app.service.kill_query(&id)?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

fn all_streams(app: &App) -> Vec<StreamBody> {
    let mut streams: Vec<StreamBody> = app.service.streams().into_iter().map(StreamBody::from).collect();
    streams.extend(app.service.all_absent().into_iter().map(|(name, status)| StreamBody::absent(name, status)));
    streams.sort_by(|a, b| a.name.cmp(&b.name));
    streams
}

impl StreamBody {
    /// One that does not run, since its columns are not known or it could not be started again.
    fn absent(name: String, status: String) -> Self {
        Self {
            name,
            kind: "source".to_owned(),
            status,
            labels: Vec::new(),
            columns: Vec::new(),
            connector: None,
            options: BTreeMap::new(),
            event_time: String::new(),
            partitions: 0,
            watermark: None,
            rows: 0,
            log_rows: 0,
            log_bytes: 0,
            durability: Durability::Memory,
            recovery: None,
            live_because: None,
            unstored_rows: 0,
            damaged_rows: 0,
            paused: None,
            users: Vec::new(),
            counters: CountersSnapshot::default(),
        }
    }
}

impl From<StreamInfo> for StreamBody {
    fn from(info: StreamInfo) -> Self {
        Self {
            columns: columns(&info.schema),
            name: info.name,
            kind: info.kind.to_owned(),
            status: info.status,
            labels: info.labels,
            connector: info.connector.map(str::to_owned),
            options: info.options.into_iter().collect(),
            event_time: info.event_time,
            partitions: info.partitions,
            watermark: info.watermark.and_then(moment::text),
            rows: info.rows,
            log_rows: info.log_rows,
            log_bytes: info.log_bytes,
            durability: info.durability,
            recovery: info.recovery,
            live_because: info.live_because,
            unstored_rows: info.unstored_rows,
            damaged_rows: info.damaged_rows,
            paused: info.paused.map(|paused| PausedBody {
                since: moment::text(paused.since),
                waiting_rows: paused.waiting_rows,
                lost_rows: paused.lost_rows,
            }),
            users: info.users,
            counters: info.counters,
        }
    }
}

impl From<JobInfo> for JobBody {
    fn from(info: JobInfo) -> Self {
        Self {
            id: info.id,
            kind: info.kind,
            description: info.description,
            inputs: info.inputs,
            stream: info.stream,
            users: info.users,
            started: moment::text(info.started),
            watermark: info.watermark.and_then(moment::text),
            state_bytes: info.state_bytes,
            counters: info.counters,
            restarts: info.restarts,
            crash: info.crash,
            status: info.status,
        }
    }
}

impl From<QueryInfo> for QueryBody {
    fn from(info: QueryInfo) -> Self {
        Self {
            id: info.id,
            sql: info.sql,
            started: moment::text(info.started),
            jobs: info.jobs,
            subscriptions: info.subscriptions,
            rows: info.rows,
            paused: info.paused,
        }
    }
}
