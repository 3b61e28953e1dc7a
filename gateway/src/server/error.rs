//! Errors as clients see them: a status, a stable code, a message. Internal detail goes to the log.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use squilla_engine::EngineError;
use squilla_query::Diagnostic;
use squilla_sources::PublishError;
use utoipa::ToSchema;

use super::frame::TooLarge;
use super::limits::LARGEST_FRAME_BYTES;
use crate::service::{PublishRefusal, Refusal};

/// A place in a statement: bytes of UTF-8, half-open.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Place {
    /// First byte.
    start: usize,
    /// One past the last byte.
    end: usize,
}

/// One mistake in a statement.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Mistake {
    /// Stable kind, in snake case.
    code: String,
    /// What is wrong.
    message: String,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<Place>,
    /// Further facts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl Mistake {
    /// Whether it is of this kind.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.code == code
    }
}

impl From<Diagnostic> for Mistake {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            code: diagnostic.code.to_owned(),
            message: diagnostic.message,
            span: diagnostic.span.map(|span| Place { start: span.start, end: span.end }),
            notes: diagnostic.notes,
            help: Some(diagnostic.help),
        }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The error; of several mistakes the first.
    #[serde(flatten)]
    pub(crate) mistake: Mistake,
    /// Whether the same may succeed later.
    pub(crate) retryable: bool,
    /// All mistakes, where there are more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) diagnostics: Vec<Mistake>,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorAnswer {
    /// The error.
    error: ErrorBody,
}

/// An error with its status.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// In a box, since results carry errors by value.
    pub(crate) body: Box<ErrorBody>,
}

/// Where requests are described.
const API: &str = "GET /api/v1/openapi.json describes all requests; SHOW STREAMS and SHOW QUERIES list what there is";

impl ApiError {
    /// An error that a retry does not help.
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let mistake =
            Mistake { code: code.to_owned(), message: message.into(), span: None, notes: Vec::new(), help: None };
        Self { status, body: Box::new(ErrorBody { mistake, retryable: false, diagnostics: Vec::new() }) }
    }

    /// A request that cannot be understood.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message).help(API)
    }

    /// There is nothing of that name.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message).help(API)
    }

    /// What ended a query that ran. While the server lives, only someone's wish stops a query.
    pub(crate) fn of_ended(error: &EngineError) -> Self {
        match error {
            EngineError::Stopped => Self::new(StatusCode::GONE, "killed", "the query was ended")
                .help("by KILL QUERY; start it again if it is still wanted"),
            EngineError::Dropped(_) => Self::new(StatusCode::GONE, "dropped", error.to_string())
                .help("create it again, or ask another stream: SHOW STREAMS lists them"),
            other => Self::from(other),
        }
    }

    /// The same with what to do.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.body.mistake.help = Some(help.into());
        self
    }

    /// The same, which may succeed later.
    #[must_use]
    pub(crate) fn retryable(mut self) -> Self {
        self.body.retryable = true;
        self
    }

    /// The same, of a statement: what has no place in it is about its first line.
    #[must_use]
    pub(crate) fn in_statement(mut self, sql: &str) -> Self {
        let end = sql.find('\n').unwrap_or(sql.len());
        self.body.mistake.span.get_or_insert(Place { start: 0, end });
        self
    }

    /// The same with spans moved, for a statement that stands in a script.
    #[must_use]
    pub(crate) fn shifted(mut self, by: usize) -> Self {
        let body = &mut *self.body;
        let all = body.diagnostics.iter_mut().chain([&mut body.mistake]);
        for span in all.filter_map(|mistake| mistake.span.as_mut()) {
            span.start += by;
            span.end += by;
        }
        self
    }

    fn mistakes(mistakes: Vec<Diagnostic>) -> Self {
        let mut all: Vec<Mistake> = mistakes.into_iter().map(Mistake::from).collect();
        let Some(first) = all.first().cloned() else {
            return Self::new(StatusCode::BAD_REQUEST, "invalid", "the statement is not valid");
        };
        let status = match first.code.as_str() {
            "exists" | "in_use" => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        if all.len() == 1 {
            all.clear();
        }
        Self { status, body: Box::new(ErrorBody { mistake: first, retryable: false, diagnostics: all }) }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Mistakes(mistakes) => Self::mistakes(mistakes),
            Refusal::Engine(error) => Self::from(&error),
            Refusal::Catalog(message) => {
                tracing::error!(message, "the catalog failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "catalog", "the catalog cannot be written").retryable()
            }
        }
    }
}

impl From<&EngineError> for ApiError {
    fn from(error: &EngineError) -> Self {
        let status = match error {
            EngineError::UnknownRelation(_) | EngineError::UnknownQuery(_) => StatusCode::NOT_FOUND,
            EngineError::Exists(_) | EngineError::InUse { .. } | EngineError::NotRunning { .. } => StatusCode::CONFLICT,
            EngineError::Plan(_)
            | EngineError::Position(_)
            | EngineError::Changing(_)
            | EngineError::Replay(_)
            | EngineError::NoReplay
            | EngineError::NoSteps
            | EngineError::Private(_) => StatusCode::BAD_REQUEST,
            EngineError::StateBudget { .. } => StatusCode::INSUFFICIENT_STORAGE,
            EngineError::Source { .. } => StatusCode::BAD_GATEWAY,
            EngineError::Limit { .. } => StatusCode::TOO_MANY_REQUESTS,
            EngineError::Stopped | EngineError::TooSlow { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let chain = chain(error);
        let message = if error.code() == "internal" {
            tracing::error!(error = chain, "internal error");
            "internal error".to_owned()
        } else {
            chain
        };
        let answer = Self::new(status, error.code(), message).help(error.help());
        if error.retryable() { answer.retryable() } else { answer }
    }
}

impl From<TooLarge> for ApiError {
    fn from(too_large: TooLarge) -> Self {
        let message =
            format!("a row of {} bytes is over the frame limit of {LARGEST_FRAME_BYTES} bytes", too_large.bytes);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "row_too_large", message).help("select fewer or shorter columns")
    }
}

impl From<PublishRefusal> for ApiError {
    fn from(refusal: PublishRefusal) -> Self {
        let error = match refusal {
            PublishRefusal::Define(refusal) => return refusal.into(),
            PublishRefusal::Publish(error) => error,
        };
        let message = error.to_string();
        match error {
            PublishError::Unknown(name) => Self::new(StatusCode::NOT_FOUND, "not_found", message)
                .help(format!("create it first: CREATE SOURCE {name} WITH (connector = 'http')")),
            PublishError::Malformed(_) => Self::new(StatusCode::BAD_REQUEST, "malformed", message)
                .help("send one JSON object a line, or one array of objects"),
            PublishError::NotStored(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "not_stored", message)
                .help("send it again when the disk has room: with a sequence its rows are there once; DESCRIBE tells how it fares"),
            PublishError::SequenceGap { expected, .. } => Self::new(StatusCode::CONFLICT, "sequence_gap", message)
                .help(format!("send {expected} first; who has lost count takes another producer_id")),
            PublishError::SequenceForgotten { expected, .. } => {
                let next = expected.map_or_else(String::new, |expected| format!("go on with {expected}, or "));
                Self::new(StatusCode::CONFLICT, "sequence_forgotten", message)
                    .help(format!("{next}take another producer_id: who begins to count anew is another producer"))
            }
            PublishError::Full { .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, "full", message)
                .help("send again in a second: nothing of this request was taken")
                .retryable(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry = self.body.retryable
            && matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let mut response = (self.status, Json(ErrorAnswer { error: *self.body })).into_response();
        if retry {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// An error and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
