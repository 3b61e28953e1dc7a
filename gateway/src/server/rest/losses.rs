//! What was lost, by whom and why.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use squilla_engine::Loss;
use utoipa::ToSchema;

use super::Shared;
use crate::server::moment;

/// All losses.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Losses {
    /// Of what runs, sources first; at the end those of all that has ended.
    losses: Vec<LossBody>,
}

/// What somebody has lost for one reason.
#[derive(Debug, Serialize, ToSchema)]
struct LossBody {
    /// `source`, `stream`, `job`, `query` or `sink`; `ended`: all jobs, queries and sinks that have ended.
    kind: &'static str,
    /// Its name or id.
    name: String,
    /// `late`, `idle`, `rejected`, `no_event_time`, `failed`, `retention`, `skipped`, `slow`, `epoch`, `damaged`, `restart`,
    /// `not_stored`, `forgotten` or `sampled`.
    reason: &'static str,
    /// The reason in a sentence about the rows.
    meaning: &'static str,
    /// Rows.
    rows: u64,
    /// Gaps of which nobody knows how many rows they had.
    unknown_gaps: u64,
    /// Since when it is counted.
    since: Option<String>,
    /// Who used it, and so lacks the rows.
    users: Vec<String>,
}

/// Rows that did not come to where they were wanted, with the reason.
#[utoipa::path(get, path = "/api/v1/losses", tag = "operation", responses((status = OK, body = Losses)))]
pub(super) async fn losses(State(app): Shared) -> Json<Losses> {
    Json(Losses { losses: app.service.losses().into_iter().map(LossBody::from).collect() })
}

impl From<Loss> for LossBody {
    fn from(loss: Loss) -> Self {
        Self {
            kind: loss.kind.word(),
            name: loss.name,
            reason: loss.reason.word(),
            meaning: loss.reason.meaning(),
            rows: loss.lost.rows,
            unknown_gaps: loss.lost.gaps,
            since: moment::text(loss.since),
            users: loss.users,
        }
    }
}
