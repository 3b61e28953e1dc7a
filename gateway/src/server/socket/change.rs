//! Other values for the parameters of a subscription that runs.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value};
use squilla_engine::{Going, Subscription};

use super::outlet::{Outlet, Wish};
use crate::server::App;
use crate::server::error::ApiError;
use crate::server::limits::CHANGE_TIMEOUT;
use crate::server::rest::params::Reader;
use crate::server::stream_query::{self, Wanted};

/// A subscription with other values, which goes on where the one before has ended.
pub(super) struct Changed {
    pub(super) subscription: Subscription,
    pub(super) wanted: Wanted,
}

/// Starts the query of an outlet with other values, from behind what the outlet has told last; amid a batch, from its
/// start. The jobs of the query as it was are left to those who share them.
pub(super) async fn change(
    app: Arc<App>,
    outlet: Box<Outlet>,
    wish: Wish,
) -> (Box<Outlet>, Wish, Result<Box<Changed>, ApiError>) {
    let mut all = match &outlet.wanted.params {
        Some(Value::Object(params)) => params.clone(),
        _ => Map::new(),
    };
    all.extend(wish.values.clone());
    let other = Some(Value::Object(all));
    let from = Some(outlet.position.before_batches().to_string());
    let paused = outlet.subscription.going() != Going::On;
    let limit = outlet.subscription.left();
    let old = Wanted { from: from.clone(), paused, limit, ..outlet.wanted.clone() };
    let started = stream_query::change(&app, old, other.clone()).await;
    let wanted = Wanted { from, params: other, paused, limit, ..outlet.wanted.clone() };
    (outlet, wish, started.map(|subscription| Box::new(Changed { subscription, wanted })))
}

/// Gives the reader of a query over a socket other values; `None`: there is no such reader.
///
/// # Errors
/// Why it keeps those that it has.
pub(in crate::server) async fn change_query(
    app: &App,
    query: &str,
    values: Map<String, Value>,
) -> Result<Option<Reader>, ApiError> {
    let Some(told) = app.running.of(query).map(|control| control.ask_params(values)) else { return Ok(None) };
    match tokio::time::timeout(CHANGE_TIMEOUT, told).await {
        Ok(Ok(Ok(reader))) => Ok(Some(reader)),
        Ok(Ok(Err(mut refused))) => {
            if refused.body.mistake.is("parameter") {
                refused.status = StatusCode::CONFLICT;
            }
            Err(refused)
        }
        // It has ended meanwhile.
        Ok(Err(_)) => Ok(None),
        Err(_) => {
            let message =
                format!("the reader of query \"{query}\" has not changed within {} s", CHANGE_TIMEOUT.as_secs());
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
                .help("its client takes no rows now; it changes before its next ones")
                .retryable())
        }
    }
}
