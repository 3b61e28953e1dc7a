//! Streams and queries that rest and go on.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::whole::to_the_end;
use super::{Body, Shared};
use crate::server::error::{ApiError, ErrorAnswer};
use crate::service::Refusal;

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// In words.
    message: String,
}

/// How to go on.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GoOn {
    /// `latest`: with the rows that come from now on. Absent: from where it was.
    #[serde(default)]
    from: Option<From>,
}

/// A place to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum From {
    /// What came meanwhile is skipped and counted.
    Latest,
}

/// Lets a named stream rest until it is resumed, also over a restart. Its readers stay.
#[utoipa::path(
    post, path = "/api/v1/streams/{name}/pause", tag = "streams", params(("name" = String, Path)),
    responses((status = OK, body = Done), (status = BAD_REQUEST, body = ErrorAnswer))
)]
pub(super) async fn pause_stream(State(app): Shared, Path(name): Path<String>) -> Result<Json<Done>, ApiError> {
    done(to_the_end(async move { app.service.pause_stream(&name, None).await }).await)
}

/// Lets a stream go on that rests.
#[utoipa::path(
    post, path = "/api/v1/streams/{name}/resume", tag = "streams", params(("name" = String, Path)),
    request_body = GoOn,
    responses((status = OK, body = Done), (status = BAD_REQUEST, body = ErrorAnswer))
)]
pub(super) async fn resume_stream(
    State(app): Shared,
    Path(name): Path<String>,
    how: Body<GoOn>,
) -> Result<Json<Done>, ApiError> {
    let Json(how) = how?;
    done(to_the_end(async move { app.service.resume_stream(&name, None, how.from.is_some()).await }).await)
}

/// Lets a live query rest. What its reader does not get waits as long as the logs keep it.
#[utoipa::path(
    post, path = "/api/v1/queries/{id}/pause", tag = "queries", params(("id" = String, Path)),
    responses((status = OK, body = Done), (status = NOT_FOUND, body = ErrorAnswer))
)]
pub(super) async fn pause_query(State(app): Shared, Path(id): Path<String>) -> Result<Json<Done>, ApiError> {
    done(app.service.pause_query(&id))
}

/// Lets a query go on that rests.
#[utoipa::path(
    post, path = "/api/v1/queries/{id}/resume", tag = "queries", params(("id" = String, Path)),
    request_body = GoOn,
    responses((status = OK, body = Done), (status = NOT_FOUND, body = ErrorAnswer))
)]
pub(super) async fn resume_query(
    State(app): Shared,
    Path(id): Path<String>,
    how: Body<GoOn>,
) -> Result<Json<Done>, ApiError> {
    let Json(how) = how?;
    done(app.service.resume_query(&id, how.from.is_some()))
}

/// A name for what a query makes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    /// The stream's.
    name: String,
}

/// Makes a named stream of a live query while it runs, with the state of its jobs.
#[utoipa::path(
    post, path = "/api/v1/queries/{id}/promote", tag = "queries", params(("id" = String, Path)),
    request_body = Name,
    responses((status = OK, body = Done), (status = BAD_REQUEST, body = ErrorAnswer))
)]
pub(super) async fn promote_query(
    State(app): Shared,
    Path(id): Path<String>,
    name: Body<Name>,
) -> Result<Json<Done>, ApiError> {
    let Json(Name { name }) = name?;
    done(to_the_end(async move { app.service.promote_query(&id, &name).await }).await)
}

fn done(told: Result<String, Refusal>) -> Result<Json<Done>, ApiError> {
    Ok(Json(Done { message: told? }))
}
