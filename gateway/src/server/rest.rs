//! The routes.

mod completion;
mod faults;
mod health;
mod info;
mod losses;
mod metrics;
pub(super) mod params;
mod pause;
mod publish;
mod quarantine;
mod statements;
mod whole;

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router, middleware};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::{App, console, guard, socket, stream_query};

/// Where WebSocket clients connect.
pub(super) const SOCKET_PATH: &str = "/api/v1/ws";

/// Bytes of a JSON body: the longest script and some room.
const JSON_BYTES: usize = 1 << 20;

#[derive(OpenApi)]
#[openapi(
    info(title = "Squilla", description = "Continuous SQL over live streams"),
    tags(
        (name = "statements", description = "SQL, carried out or checked"),
        (name = "queries", description = "Live queries; over WebSocket see /api/v1/ws"),
        (name = "streams", description = "Sources and named streams"),
        (name = "operation", description = "For those who run the server")
    )
)]
struct Api;

/// All routes, behind the guard.
pub(super) fn router(app: Arc<App>) -> Router {
    let (router, openapi) = OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(statements::execute))
        .routes(routes!(statements::check))
        .routes(routes!(completion::completion))
        .routes(routes!(stream_query::events, stream_query::lines))
        .routes(routes!(info::queries))
        .routes(routes!(info::kill, params::change))
        .routes(routes!(pause::pause_query))
        .routes(routes!(pause::resume_query))
        .routes(routes!(pause::promote_query))
        .routes(routes!(info::jobs))
        .routes(routes!(info::streams))
        .routes(routes!(info::stream))
        .routes(routes!(info::rejects))
        .routes(routes!(losses::losses))
        .routes(routes!(quarantine::quarantine))
        .routes(routes!(pause::pause_stream))
        .routes(routes!(pause::resume_stream))
        .routes(routes!(publish::publish))
        .routes(routes!(faults::read, faults::set, faults::clear))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        // Of JSON bodies; events are read with a limit of their own.
        .layer(DefaultBodyLimit::max(JSON_BYTES))
        .split_for_parts();
    let openapi = openapi.to_json().expect("the document is made of strings");
    router
        .route("/api/v1/openapi.json", get(move || async move { document(openapi) }))
        .route(SOCKET_PATH, get(socket::upgrade))
        .with_state(app.clone())
        .merge(console::router())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(app, guard::check))
}

fn document(openapi: String) -> Response {
    let mut response = Response::new(openapi.into());
    let json = axum::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(axum::http::header::CONTENT_TYPE, json);
    response
}

async fn no_route(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
        .help("GET /api/v1/openapi.json lists what there is")
}

async fn no_method(uri: Uri) -> ApiError {
    let message = format!("{} does not take this method", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
        .help("GET /api/v1/openapi.json lists what there is")
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            _ => "malformed",
        };
        Self::new(rejection.status(), code, rejection.body_text())
            .help("GET /api/v1/openapi.json describes all requests")
    }
}

/// What every handler gets.
type Shared = State<Arc<App>>;
/// A body of JSON, or why it is none.
type Body<T> = Result<Json<T>, JsonRejection>;
