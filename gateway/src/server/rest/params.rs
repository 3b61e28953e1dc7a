//! Other values for the parameters of a query that runs.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Body, Shared};
use crate::server::error::{ApiError, ErrorAnswer};
use crate::server::socket::change_query;
use crate::server::stream_query::{JsonParams, read_params};

/// Other values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// Values by name; parameters that are not named keep theirs.
    #[schema(value_type = Object)]
    params: JsonParams,
}

/// A query with other values.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Reader {
    /// Its id now.
    pub(crate) query: String,
    /// Rows up to here were chosen by the values before, those behind it are by these.
    pub(crate) position: String,
    /// All values as they are now.
    #[schema(value_type = Object)]
    pub(crate) params: JsonParams,
}

/// Gives parameters other values while the query runs; filters alone may depend on them. Whoever reads it over a
/// WebSocket is told `params`. With other values it is another query, which is found by its first id as well.
#[utoipa::path(
    patch, path = "/api/v1/queries/{id}", tag = "queries", params(("id" = String, Path)), request_body = Change,
    responses(
        (status = OK, body = Reader),
        (status = NOT_FOUND, body = ErrorAnswer),
        (status = CONFLICT, description = "it keeps the values that it has", body = ErrorAnswer)
    )
)]
pub(super) async fn change(
    State(app): Shared,
    Path(id): Path<String>,
    change: Body<Change>,
) -> Result<Json<Reader>, ApiError> {
    let Json(change) = change?;
    read_params(change.params.clone())?;
    let values = match change.params {
        Some(Value::Object(values)) if !values.is_empty() => values,
        _ => {
            return Err(
                ApiError::malformed("no values are given").help("give them by name: {\"params\": {\"name\": 1}}")
            );
        }
    };
    if let Some(reader) = change_query(&app, &id, values).await? {
        return Ok(Json(reader));
    }
    if app.service.engine().queries().iter().any(|query| query.id == id) {
        let message = format!("nobody reads query \"{id}\" over a WebSocket");
        return Err(ApiError::new(StatusCode::CONFLICT, "parameter", message)
            .help("other readers give the values when they ask, and keep them: ask again with the other values"));
    }
    Err(ApiError::not_found(format!("no query \"{id}\"")).help("GET /api/v1/queries lists those that run"))
}
