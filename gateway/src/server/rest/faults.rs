//! Faults of `generator` sources, set while they run.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use squilla_sources::Fault;
use utoipa::ToSchema;

use super::{Body, Shared};
use crate::server::App;
use crate::server::error::{ApiError, ErrorAnswer};

/// Faults that one source may have.
const FAULTS: usize = 64;

/// The faults of a source.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Faults {
    faults: Vec<FaultBody>,
}

/// Plays that fail more often than others. What is absent matches all.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FaultBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    /// How many of the plays that match fail: from 0 to 1.
    failure_rate: f64,
}

/// The faults of a generator.
#[utoipa::path(
    get, path = "/api/v1/streams/{name}/faults", tag = "streams", params(("name" = String, Path)),
    responses((status = OK, body = Faults), (status = NOT_FOUND, body = ErrorAnswer))
)]
pub(super) async fn read(State(app): Shared, Path(name): Path<String>) -> Result<Json<Faults>, ApiError> {
    let faults = app.service.sources().faults.get(&name).ok_or_else(|| unknown(&name))?;
    Ok(Json(Faults { faults: faults.into_iter().map(FaultBody::from).collect() }))
}

/// Replaces the faults of a generator, from its next row on.
#[utoipa::path(
    post, path = "/api/v1/streams/{name}/faults", tag = "streams", params(("name" = String, Path)),
    request_body = Faults,
    responses((status = OK, body = Faults), (status = BAD_REQUEST, body = ErrorAnswer), (status = NOT_FOUND, body = ErrorAnswer))
)]
pub(super) async fn set(
    State(app): Shared,
    Path(name): Path<String>,
    faults: Body<Faults>,
) -> Result<Json<Faults>, ApiError> {
    let Json(faults) = faults?;
    if faults.faults.len() > FAULTS {
        let message = format!("{} faults are over the limit of {FAULTS}", faults.faults.len());
        return Err(ApiError::malformed(message));
    }
    if let Some(wrong) = faults.faults.iter().find(|fault| !(0.0..=1.0).contains(&fault.failure_rate)) {
        return Err(ApiError::malformed(format!("failure_rate is {}, not from 0 to 1", wrong.failure_rate)));
    }
    replace(&app, &name, faults.faults.iter().map(Fault::from).collect())?;
    Ok(Json(faults))
}

/// Clears the faults of a generator.
#[utoipa::path(
    delete, path = "/api/v1/streams/{name}/faults", tag = "streams", params(("name" = String, Path)),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = ErrorAnswer))
)]
pub(super) async fn clear(State(app): Shared, Path(name): Path<String>) -> Result<axum::http::StatusCode, ApiError> {
    replace(&app, &name, Vec::new())?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

fn replace(app: &App, name: &str, faults: Vec<Fault>) -> Result<(), ApiError> {
    if app.service.sources().faults.set(name, faults) { Ok(()) } else { Err(unknown(name)) }
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("no generator source \"{name}\""))
}

impl From<Fault> for FaultBody {
    fn from(fault: Fault) -> Self {
        let Fault { title, device, country, failure_rate } = fault;
        Self { title, device, country, failure_rate }
    }
}

impl From<&FaultBody> for Fault {
    fn from(body: &FaultBody) -> Self {
        Self {
            title: body.title.clone(),
            device: body.device.clone(),
            country: body.country.clone(),
            failure_rate: body.failure_rate,
        }
    }
}
