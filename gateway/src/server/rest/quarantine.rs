//! Rows at which a job has stopped.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::value::RawValue;
use squilla_engine::Quarantine;
use utoipa::ToSchema;

use super::Shared;
use crate::server::error::{ApiError, ErrorAnswer};
use crate::server::moment;
use crate::server::socket::message::{Column, columns};
use crate::service::rows_as_json;

/// Rows at which a stream's job has stopped, if it has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Quarantined {
    /// Null: it has not stopped.
    quarantine: Option<QuarantineBody>,
}

/// Rows at which a job crashed again and again.
#[derive(Debug, Serialize, ToSchema)]
struct QuarantineBody {
    /// The job's id.
    job: String,
    /// When it stopped, RFC 3339.
    since: Option<String>,
    /// Why it crashed.
    reason: String,
    /// The source or stream that the rows come from.
    input: String,
    /// Their partition there.
    partition: u32,
    /// The offset of the first of them.
    first_offset: u64,
    /// The offset behind the last one.
    next_offset: u64,
    columns: Vec<Column>,
    /// The first few of them: an array a row, in the order of the columns.
    #[schema(value_type = Vec<Vec<Object>>)]
    rows: Box<RawValue>,
}

/// The rows at which a stream's query, or the job of that id, crashed three times and stopped.
#[utoipa::path(
    get, path = "/api/v1/streams/{name}/quarantine", tag = "streams", params(("name" = String, Path)),
    responses((status = OK, body = Quarantined), (status = NOT_FOUND, body = ErrorAnswer))
)]
pub(super) async fn quarantine(State(app): Shared, Path(name): Path<String>) -> Result<Json<Quarantined>, ApiError> {
    let found = app.service.engine().quarantine(&name).map_err(|error| ApiError::from(&error))?;
    let body = |found: &Quarantine| QuarantineBody {
        job: found.job.clone(),
        since: moment::text(found.since),
        reason: found.reason.clone(),
        input: found.input.clone(),
        partition: found.partition,
        first_offset: found.first.0,
        next_offset: found.next.0,
        columns: columns(&found.rows.schema()),
        rows: RawValue::from_string(rows_as_json(&found.rows)).expect("rows are written as JSON"),
    };
    Ok(Json(Quarantined { quarantine: found.as_deref().map(body) }))
}
