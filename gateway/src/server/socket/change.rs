//! Other values for the parameters of a subscription that runs.

use std::sync::Arc;

use serde_json::{Map, Value};
use squilla_engine::Subscription;

use super::outlet::Outlet;
use crate::server::App;
use crate::server::error::ApiError;
use crate::server::stream_query::{self, Wanted};

/// A subscription with other values, which goes on where the one before has ended.
pub(super) struct Changed {
    pub(super) subscription: Subscription,
    pub(super) wanted: Wanted,
}

/// Starts the query of an outlet with other values, from behind what the outlet has told last. The jobs of the query as
/// it was are left to those who share them.
pub(super) async fn change(
    app: Arc<App>,
    outlet: Outlet,
    values: Map<String, Value>,
) -> (Outlet, Result<Changed, ApiError>) {
    let mut all = match &outlet.wanted.params {
        Some(Value::Object(params)) => params.clone(),
        _ => Map::new(),
    };
    all.extend(values);
    let other = Some(Value::Object(all));
    let from = Some(outlet.position.to_string());
    let old = Wanted { from: from.clone(), ..outlet.wanted.clone() };
    let started = stream_query::change(&app, old, other.clone()).await;
    let wanted = Wanted { from, params: other, ..outlet.wanted.clone() };
    (outlet, started.map(|subscription| Changed { subscription, wanted }))
}
