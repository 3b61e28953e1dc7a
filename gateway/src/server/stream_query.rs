//! Live queries over plain HTTP: server-sent events, or a line of JSON a row.

mod ndjson;
mod sse;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use squilla_engine::{EngineError, Policy, Start, SubscribeOptions, Subscription};
use squilla_query::{ParamValue, Params};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::error::{ApiError, ErrorAnswer};
use super::start;

/// The fastest `max_hz` that is told apart from no limit.
const MAX_HZ: f64 = 1_000.0;
/// The fastest `speed` that is told apart from no limit.
const MAX_SPEED: f64 = 1e6;

/// A live query that a client wants, over any protocol.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) sql: Option<String>,
    pub(crate) stream: Option<String>,
    /// Values of the statement's parameters.
    pub(crate) params: JsonParams,
    pub(crate) from: Option<String>,
    pub(crate) policy: Option<Policy>,
    pub(crate) max_hz: Option<f64>,
    pub(crate) speed: Option<f64>,
    /// Nothing comes until the client lets it.
    pub(crate) paused: bool,
    /// At most so many rows.
    pub(crate) limit: Option<u64>,
}

impl Wanted {
    /// How it is to be read.
    fn options(&self, from: Option<Start>) -> SubscribeOptions {
        let Self { policy, max_hz, speed, paused, limit, .. } = *self;
        SubscribeOptions { from, policy, max_hz, speed, paused, limit }
    }
}

/// How often a query is planned at the most because what it reads has become another before it ran.
const PLANNED: usize = 5;

/// Starts a live query.
pub(crate) async fn subscribe(app: &App, wanted: Wanted) -> Result<Subscription, ApiError> {
    let sql = match (wanted.sql.clone(), wanted.stream.as_ref()) {
        (Some(sql), None) => sql,
        (None, Some(stream)) => {
            if app.service.columns(stream).is_none() {
                return Err(ApiError::not_found(format!("no stream \"{stream}\"")));
            }
            format!("SELECT * FROM \"{}\"", stream.replace('"', "\"\""))
        }
        _ => return Err(ApiError::malformed("say what to read: sql or stream, and only one of them")),
    };
    let from = wanted.from.as_deref().map(start::parse).transpose().map_err(ApiError::malformed)?;
    if let Some(max_hz) = wanted.max_hz
        && !(max_hz > 0.0 && max_hz <= MAX_HZ)
    {
        return Err(ApiError::malformed(format!("max_hz is {max_hz}, not above 0 and at most {MAX_HZ}")));
    }
    let params = read_params(wanted.params.clone())?;
    for _ in 0..PLANNED {
        let names = app.service.names();
        let query = app.service.query(&sql, &params).await?;
        check_speed(wanted.speed, from.is_some() || query.since.is_some())?;
        let started = app.service.engine().subscribe(&query, wanted.options(from.clone())).await;
        let is_now = || async { app.service.query(&sql, &params).await.is_ok_and(|now| now.plan == query.plan) };
        // What the names tell may be a moment behind what the stream is.
        let behind = matches!(started, Err(EngineError::Altered { .. }));
        // A stream whose result changes is read by its text, which may have become another in between.
        if !behind && (Arc::ptr_eq(&names, &app.service.names()) || is_now().await) {
            return started.map_err(|error| ApiError::from(&error).in_statement(&sql));
        }
    }
    Err(altered_meanwhile())
}

/// Starts a live query that runs with the parameters `wanted.params` anew, with others, from `wanted.from`.
pub(crate) async fn change(app: &App, wanted: Wanted, other: JsonParams) -> Result<Subscription, ApiError> {
    let Some(sql) = wanted.sql.clone() else {
        return Err(ApiError::malformed("a stream that is read by its name has no parameters"));
    };
    let from = wanted.from.as_deref().map(start::parse).transpose().map_err(ApiError::malformed)?;
    let (old, new) = (read_params(wanted.params.clone())?, read_params(other)?);
    let names = app.service.names();
    let query = app.service.with_other_params(&sql, &old, &new).await?;
    let options = wanted.options(from);
    let started = app.service.engine().subscribe(&query, options).await;
    if !Arc::ptr_eq(&names, &app.service.names()) && app.service.query(&sql, &new).await?.plan != query.plan {
        return Err(altered_meanwhile());
    }
    started.map_err(|error| ApiError::from(&error).in_statement(&sql))
}

fn altered_meanwhile() -> ApiError {
    let message = "what the query reads was altered while it began";
    ApiError::new(StatusCode::CONFLICT, "altered", message).help("ask again: it is then what it reads by that time")
}

fn check_speed(speed: Option<f64>, has_start: bool) -> Result<(), ApiError> {
    let Some(speed) = speed else { return Ok(()) };
    if !(speed > 0.0 && speed <= MAX_SPEED) {
        let message = format!("speed is {speed}, not above 0 and at most {MAX_SPEED}");
        return Err(ApiError::malformed(message).help("1 is the pace at which rows came, 10 ten times as fast"));
    }
    if !has_start {
        return Err(ApiError::malformed("speed without a start: rows that come have no other pace")
            .help("say from: \"-5m\" or \"earliest\", or SINCE in the statement"));
    }
    Ok(())
}

/// Values by the names of parameters: an object of numbers, texts, booleans and nulls.
pub(crate) type JsonParams = Option<Value>;

/// The values as literals.
pub(crate) fn read_params(params: JsonParams) -> Result<Params, ApiError> {
    let params = match params {
        None | Some(Value::Null) => return Ok(Params::new()),
        Some(Value::Object(params)) => params,
        Some(_) => {
            let mistake = ApiError::malformed("params is not an object");
            return Err(mistake.help("give values by name: {\"name\": 1}"));
        }
    };
    let read = |(name, value): (String, Value)| {
        let value = match value {
            Value::Null => ParamValue::Null,
            Value::Bool(value) => ParamValue::Boolean(value),
            Value::Number(number) => ParamValue::Number(number.to_string()),
            Value::String(text) => ParamValue::Text(text),
            Value::Array(_) | Value::Object(_) => {
                let mistake = ApiError::malformed(format!("the value of parameter {name} is not a single one"));
                return Err(mistake.help("give numbers, texts, booleans or nulls"));
            }
        };
        Ok((name.trim_start_matches('$').to_owned(), value))
    };
    params.into_iter().map(read).collect()
}

/// The literals as values.
pub(crate) fn write_params(params: &Params) -> Value {
    let write = |(name, value): (&String, &ParamValue)| {
        let value = match value {
            ParamValue::Null => Value::Null,
            ParamValue::Boolean(value) => Value::Bool(*value),
            // As it was read: of numbers that JSON has.
            ParamValue::Number(number) => number.parse().map_or(Value::Null, Value::Number),
            ParamValue::Text(text) => Value::String(text.clone()),
        };
        (name.clone(), value)
    };
    Value::Object(params.iter().map(write).collect())
}

/// A live query in a URL.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiveParams {
    /// A `SELECT`; this or `stream`.
    sql: Option<String>,
    /// All rows of a source, stream or view.
    stream: Option<String>,
    /// Values of the statement's parameters, a JSON object.
    params: Option<String>,
    /// `latest`, `earliest`, a position, a moment, or `-5m`.
    from: Option<String>,
    /// `drop_oldest`, `conflate`, `block` or `disconnect`.
    #[param(value_type = Option<String>)]
    policy: Option<Policy>,
    /// At most so many deliveries a second.
    max_hz: Option<f64>,
    /// It is complete after so many rows.
    limit: Option<u64>,
}

/// A live query in a body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiveRequest {
    /// A `SELECT`; this or `stream`.
    sql: Option<String>,
    /// All rows of a source, stream or view.
    stream: Option<String>,
    /// Values of the statement's parameters (`$name`): numbers, texts, booleans and nulls.
    #[serde(default)]
    #[schema(value_type = Object)]
    params: JsonParams,
    /// `latest`, `earliest`, a position, a moment, or `-5m`.
    from: Option<String>,
    /// `drop_oldest`, `conflate`, `block` or `disconnect`.
    #[schema(value_type = Option<String>)]
    policy: Option<Policy>,
    /// At most so many deliveries a second.
    max_hz: Option<f64>,
    /// Of a start in the past: rows come at the pace at which they arrived, so many times as fast.
    #[serde(default)]
    speed: Option<f64>,
    /// The answer ends after so many rows.
    limit: Option<u64>,
    /// Lines about the query are mixed in, as `{"_squilla": …}`: what it is, and how it stands. Gaps are always told.
    #[serde(default)]
    meta: bool,
}

/// Server-sent events: `subscribed`, then `rows`, `gap`, `progress`, and `error` or `complete` at the end. The id of
/// a `rows` event is its position, and with a limit how many rows are left: `Last-Event-ID` resumes there.
#[utoipa::path(
    get, path = "/api/v1/query", params(LiveParams), tag = "queries",
    responses((status = OK, content_type = "text/event-stream", body = String), (status = BAD_REQUEST, body = ErrorAnswer))
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Result<Query<LiveParams>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = params.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
    if !["text/event-stream", "text/*", "*/*"].iter().any(|kind| accept.contains(kind)) {
        return Err(ApiError::new(
            axum::http::StatusCode::NOT_ACCEPTABLE,
            "not_acceptable",
            "this answers with text/event-stream",
        )
        .help("for lines of JSON send POST /api/v1/query"));
    }
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(sse::read_id);
    let (from, left) = resumed.map_or((asked.from, None), |(from, left)| (Some(from), left));
    let params = asked.params.as_deref().map(serde_json::from_str).transpose();
    let params = params.map_err(|error| ApiError::malformed(format!("params are not a JSON object: {error}")))?;
    let wanted = Wanted {
        sql: asked.sql,
        stream: asked.stream,
        from: from.clone(),
        policy: asked.policy,
        max_hz: asked.max_hz,
        speed: None,
        paused: false,
        limit: left.or(asked.limit),
        params,
    };
    let subscription = subscribe(&app, wanted).await?;
    Ok(sse::answer(app, subscription, from))
}

/// A line of JSON a row, for as long as the query runs and the client reads. What a slow client misses is told in a
/// line `{"_squilla": {"type": "gap", …}}`.
#[utoipa::path(
    post, path = "/api/v1/query", request_body = LiveRequest, tag = "queries",
    responses((status = OK, content_type = "application/x-ndjson", body = String), (status = BAD_REQUEST, body = ErrorAnswer))
)]
pub(crate) async fn lines(
    State(app): State<Arc<App>>,
    request: Result<Json<LiveRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(request) = request.map_err(ApiError::from)?;
    let wanted = Wanted {
        sql: request.sql,
        stream: request.stream,
        from: request.from.clone(),
        policy: request.policy,
        max_hz: request.max_hz,
        speed: request.speed,
        paused: false,
        limit: None,
        params: request.params,
    };
    let subscription = subscribe(&app, wanted).await?;
    Ok(ndjson::answer(app, subscription, request.from, request.limit, request.meta))
}
