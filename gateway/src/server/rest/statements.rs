//! Statements, carried out or checked.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use squilla_query::{Parameter, ParameterKind, Params, parameters, split_statements};
use squilla_sources::encode::json::write_rows_array;
use utoipa::ToSchema;

use super::whole::to_the_end;
use super::{Body, Shared};
use crate::server::error::{ApiError, ErrorAnswer, ErrorBody, Mistake};
use crate::server::limits::STATEMENTS;
use crate::server::socket::message::{Column, columns};
use crate::server::stream_query::{JsonParams, read_params, write_params};
use crate::service::{Answer, Refusal};

/// One or several statements.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    /// The text; statements end with a semicolon.
    sql: String,
    /// Values of the statements' parameters (`$name`): numbers, texts, booleans and nulls.
    #[serde(default)]
    #[schema(value_type = Object)]
    params: JsonParams,
}

/// What the statements gave.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Results {
    /// One for each statement that was carried out, in order.
    results: Vec<StatementResult>,
    /// Why the next one was not; the rest was not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

/// What a statement gave.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum StatementResult {
    /// It was carried out.
    Done {
        /// What to tell.
        message: String,
    },
    /// Rows that end.
    Table {
        /// The columns.
        columns: Vec<Column>,
        /// An array a row, in the order of the columns.
        #[schema(value_type = Vec<Vec<Object>>)]
        rows: Box<RawValue>,
    },
    /// A live query, which was not started: subscribe to it.
    Live {
        /// Its text, with values in the place of parameters.
        sql: String,
        /// Its columns.
        columns: Vec<Column>,
        /// Of a statement with parameters: subscribe to this to change them while it runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        written: Option<Written>,
    },
    /// A sink that runs now.
    Sink {
        /// Its name.
        name: String,
    },
}

/// A statement with parameters.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Written {
    /// Its text as it was sent.
    sql: String,
    /// The values of its parameters.
    #[schema(value_type = Object)]
    params: JsonParams,
}

/// What is known of a script before it is carried out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Checked {
    /// All mistakes that were found; spans are in the whole text.
    diagnostics: Vec<Mistake>,
    /// The parameters of its statements.
    parameters: Vec<ParameterBody>,
}

/// A parameter, `$name`.
#[derive(Debug, Serialize, ToSchema)]
struct ParameterBody {
    name: String,
    /// What it takes: `text`, `number`, `boolean`, `timestamp`, `interval`; `any` when nothing is known.
    #[schema(value_type = String)]
    kind: ParameterKind,
    /// Only filters depend on it: it can have another value while the query runs.
    changeable: bool,
}

impl From<Parameter> for ParameterBody {
    fn from(parameter: Parameter) -> Self {
        Self { name: parameter.name, kind: parameter.kind, changeable: parameter.changeable }
    }
}

/// Carries out statements one after the other, and stops at the first that is refused.
#[utoipa::path(
    post, path = "/api/v1/statements", request_body = Script, tag = "statements",
    responses((status = OK, body = Results), (status = BAD_REQUEST, body = Results))
)]
pub(super) async fn execute(State(app): Shared, script: Body<Script>) -> Result<Response, ApiError> {
    let Json(script) = script?;
    let statements = split_statements(&script.sql).map_err(|mistakes| ApiError::from(Refusal::Mistakes(mistakes)))?;
    if statements.is_empty() {
        return Err(ApiError::malformed("there is no statement in the text")
            .help("write SELECT … FROM …; a ; ends each statement"));
    }
    if statements.len() > STATEMENTS {
        let message = format!("{} statements are over the limit of {STATEMENTS}", statements.len());
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "limit", message).help("send them in several requests"));
    }
    let params = read_params(script.params)?;
    let known: BTreeSet<String> = statements.iter().flat_map(|statement| parameters(&statement.sql)).collect();
    if let Some(name) = params.keys().find(|name| !known.contains(*name)) {
        let message = format!("a value is given for ${name}, which no statement has");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "parameter", message)
            .help("leave it out, or write the parameter where the value is to stand"));
    }
    let mut results = Vec::new();
    for statement in statements {
        let own = parameters(&statement.sql);
        let params = params.iter().filter(|(name, _)| own.contains(*name));
        let params: Params = params.map(|(name, value)| (name.clone(), value.clone())).collect();
        let (service, sql, values) = (app.service.clone(), statement.sql.clone(), params.clone());
        match to_the_end(async move { service.execute_with(&sql, &values).await }).await {
            Ok(answer) => results.push(StatementResult::of(answer, statement.sql, &params)),
            Err(refusal) => {
                let error = ApiError::from(refusal).in_statement(&statement.sql).shifted(statement.span.start);
                let answer = Results { results, error: Some(*error.body) };
                return Ok((error.status, Json(answer)).into_response());
            }
        }
    }
    Ok(Json(Results { results, error: None }).into_response())
}

/// Reads and plans a script without carrying it out.
#[utoipa::path(
    post, path = "/api/v1/check", request_body = Script, tag = "statements",
    responses((status = OK, body = Checked), (status = BAD_REQUEST, body = ErrorAnswer))
)]
pub(super) async fn check(State(app): Shared, script: Body<Script>) -> Result<Json<Checked>, ApiError> {
    let Json(script) = script?;
    let checked = app.service.check(script.sql).await.map_err(ApiError::from)?;
    Ok(Json(Checked {
        diagnostics: checked.mistakes.into_iter().map(Mistake::from).collect(),
        parameters: checked.parameters.into_iter().map(ParameterBody::from).collect(),
    }))
}

impl StatementResult {
    /// What the statement `written` gave with these values.
    fn of(answer: Answer, written: String, params: &Params) -> Self {
        match answer {
            Answer::Done(message) => Self::Done { message },
            Answer::Table(batch) => {
                let mut rows = Vec::new();
                write_rows_array(&batch, 0..batch.num_rows(), &mut rows);
                let rows = String::from_utf8(rows).expect("JSON is written as UTF-8");
                let rows = RawValue::from_string(rows).expect("rows are written as JSON");
                Self::Table { columns: columns(&batch.schema()), rows }
            }
            Answer::Live(query) => {
                let written = Written { sql: written, params: Some(write_params(params)) };
                let written = (!params.is_empty()).then_some(written);
                Self::Live { columns: columns(query.plan.schema()), sql: query.sql, written }
            }
            Answer::Sink(name) => Self::Sink { name },
        }
    }
}
