//! Whether the server lives, and whether it takes work.

use axum::extract::State;
use axum::http::StatusCode;

use super::Shared;

/// The server lives.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = OK, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The server takes work: its catalog is open, and it does not stop. A second line tells how rows get through it.
#[utoipa::path(
    get, path = "/readyz", tag = "operation",
    responses((status = OK, body = String), (status = SERVICE_UNAVAILABLE, body = String))
)]
pub(super) async fn readyz(State(app): Shared) -> (StatusCode, String) {
    if app.drain.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    let measured = app.canary.measured();
    let canary = if measured.sent == 0 { String::new() } else { format!("{}\n", measured.summary()) };
    (StatusCode::OK, format!("ok\n{canary}"))
}
