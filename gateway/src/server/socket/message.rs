//! The messages of `squilla.v1.json`.

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};
use squilla_engine::{Gap, GapReason, Notice, Policy, Position, Progress, Stand, SubscriptionInfo};

use utoipa::ToSchema;

use crate::server::error::ErrorBody;
use crate::server::limits::{FRAME_BYTES, MESSAGE_BYTES, SUBSCRIPTIONS};
use crate::server::moment;
use crate::server::stream_query::{JsonParams, Wanted};

/// What clients say.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ClientMessage {
    /// The first message.
    Hello {
        /// Not looked at until there is authentication.
        #[serde(default, rename = "token")]
        _token: Option<String>,
    },
    /// Starts a live query.
    Subscribe(Box<Subscribe>),
    /// Grants more bytes of frames to a subscription that named a credit.
    Credit {
        /// The subscription.
        id: String,
        /// How many.
        bytes: u64,
    },
    /// Lets a replay stand; see [`ServerMessage::Pace`].
    Pause {
        /// The subscription.
        id: String,
    },
    /// Lets a replay go on.
    Continue {
        /// The subscription.
        id: String,
    },
    /// Lets exactly so many further rows of a replay come, and then pauses it; steps that are not done yet add up.
    Step {
        /// The subscription.
        id: String,
        /// How many; absent: one.
        #[serde(default = "one")]
        rows: u64,
    },
    /// Gives parameters of a running query other values: see [`ServerMessage::Params`].
    SetParams {
        /// The subscription.
        id: String,
        /// Values by name; parameters that are not named keep theirs.
        params: JsonParams,
    },
    /// Ends a subscription.
    Unsubscribe {
        /// The subscription.
        id: String,
    },
}

fn one() -> u64 {
    1
}

/// A live query that is wanted.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    /// Chosen by the client; names the subscription on this socket.
    pub(super) id: String,
    /// A `SELECT`; this or `stream`.
    #[serde(default)]
    pub(super) sql: Option<String>,
    /// All rows of a source, stream or view, by name.
    #[serde(default)]
    pub(super) stream: Option<String>,
    /// Values of the statement's parameters (`$name`): numbers, texts, booleans and nulls.
    #[serde(default)]
    pub(super) params: JsonParams,
    /// Where to start; see [`crate::server::start::parse`].
    #[serde(default)]
    pub(super) from: Option<String>,
    /// False: a joiner of running results gets changes only, without the open windows as they stand.
    #[serde(default)]
    pub(super) snapshot: Option<bool>,
    /// Bytes of frames that may come before more are granted; none: no limit. Frames are sent while any credit is
    /// left, so that the last one may overdraw it.
    #[serde(default)]
    pub(super) credit: Option<u64>,
    /// What happens when the client is too slow.
    #[serde(default)]
    pub(super) policy: Option<Policy>,
    /// At most so many deliveries a second.
    #[serde(default)]
    pub(super) max_hz: Option<f64>,
    /// Of a start in the past: rows come at the pace at which they arrived, so many times as fast. Absent: at once.
    #[serde(default)]
    pub(super) speed: Option<f64>,
    /// Of a start in the past: nothing comes until `step` or `continue`.
    #[serde(default)]
    pub(super) paused: bool,
    /// It is complete after so many rows: how many are left for who comes back to a query with LIMIT, which counts anew.
    #[serde(default)]
    pub(super) limit: Option<u64>,
}

impl Subscribe {
    /// The query that is wanted.
    pub(super) fn query(&self) -> Wanted {
        Wanted {
            sql: self.sql.clone(),
            stream: self.stream.clone(),
            params: self.params.clone(),
            from: self.from.clone(),
            policy: self.policy,
            max_hz: self.max_hz,
            speed: self.speed,
            paused: self.paused,
            limit: self.limit,
        }
    }
}

/// What we say, frames of rows aside.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ServerMessage<'a> {
    /// The answer to `hello`.
    Welcome {
        /// What a client may take.
        limits: Limits,
        /// How often it is pinged.
        heartbeat_ms: u64,
    },
    /// The answer to `subscribe`.
    Subscribed(Box<Subscribed<'a>>),
    /// Rows that the client does not get.
    Gap {
        /// The subscription.
        id: &'a str,
        /// Where the client was: of another incarnation of the stream, perhaps.
        from: String,
        /// Where it goes on.
        to: &'a Position,
        /// How many rows; null: nobody knows.
        rows: Option<u64>,
        /// `slow`, `retention` or `epoch`.
        reason: GapReason,
    },
    /// The answer to `set_params`: the parameters' values from a position on.
    Params(Box<ParamsMessage<'a>>),
    /// The answer to `pause`, `continue` and, behind its last row, to `step`; and behind `subscribed` of what begins
    /// paused.
    Pace(PaceMessage<'a>),
    /// How a subscription stands.
    Progress(ProgressMessage<'a>),
    /// Something was not done; with an id: the subscription has ended.
    Error {
        /// The subscription; absent: about the whole connection.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        /// Why.
        #[serde(flatten)]
        error: &'a ErrorBody,
    },
    /// A subscription has ended; nothing follows for it.
    Complete {
        /// The subscription.
        id: &'a str,
        /// `ended`: all inputs have. `limit`: as many rows came as were asked for. `unsubscribed`: the client wished it.
        reason: &'a str,
    },
}

/// What a client may take.
#[derive(Debug, Serialize)]
pub(crate) struct Limits {
    message_bytes: usize,
    frame_bytes: usize,
    subscriptions: usize,
}

impl Limits {
    /// Those of this server.
    pub(super) const OURS: Self =
        Self { message_bytes: MESSAGE_BYTES, frame_bytes: FRAME_BYTES, subscriptions: SUBSCRIPTIONS };
}

/// A column.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Column {
    name: String,
    /// Arrow's name of the type.
    r#type: String,
    nullable: bool,
}

/// The columns of a schema.
pub(crate) fn columns(schema: &Schema) -> Vec<Column> {
    let column = |field: &std::sync::Arc<arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        nullable: field.is_nullable(),
    };
    schema.fields().iter().map(column).collect()
}

/// What a subscription is.
#[derive(Debug, Serialize)]
pub(crate) struct Subscribed<'a> {
    id: &'a str,
    channel: u64,
    schema: Vec<Column>,
    /// The columns by which rows replace each other; empty: rows are appended.
    key: &'a [String],
    /// Before the first row.
    position: &'a Position,
    /// Whether every row since the position asked for comes; null: none was asked for.
    recovered: Option<bool>,
    /// Windows that start earlier may be partial; null: none is.
    complete_from: Option<String>,
    /// Other users of the query's jobs.
    shared_with: usize,
    /// What must be told wherever the rows are shown.
    labels: &'a [String],
    policy: Policy,
    /// The query's id, for `KILL QUERY`.
    query: &'a str,
    /// It is complete after so many rows; absent: they go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

impl<'a> Subscribed<'a> {
    /// What a subscription is, under a client's name for it and the channel it has on the client's connection.
    pub(crate) fn new(id: &'a str, channel: u64, info: &'a SubscriptionInfo) -> Self {
        Self {
            id,
            channel,
            schema: columns(&info.schema),
            key: &info.key,
            position: &info.position,
            recovered: info.recovered,
            complete_from: info.complete_from.and_then(moment::text),
            shared_with: info.shared_with,
            labels: &info.labels,
            policy: info.policy,
            query: &info.query,
            limit: info.limit,
        }
    }
}

/// The values of parameters.
#[derive(Debug, Serialize)]
pub(crate) struct ParamsMessage<'a> {
    /// The subscription.
    pub(super) id: &'a str,
    /// The channel of the rows that follow.
    pub(super) channel: u64,
    /// Rows up to here were chosen by the values before, those behind it are by these.
    pub(super) position: &'a Position,
    /// All values as they are now.
    pub(super) params: &'a JsonParams,
    /// The query's id, for `KILL QUERY`: with other values it is another query.
    pub(super) query: &'a str,
    /// Why they are still what they were; absent: they have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a ErrorBody>,
}

/// Whether a replay stands, and where.
#[derive(Debug, Serialize)]
pub(crate) struct PaceMessage<'a> {
    /// The subscription.
    pub(super) id: &'a str,
    /// No row comes until `step` or `continue`.
    pub(super) paused: bool,
    /// Behind the last row that was told.
    pub(super) position: &'a Position,
    /// Event time of that row; null: there was none.
    pub(super) event_time: Option<String>,
    /// Why it goes on as before; absent: it does as it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a ErrorBody>,
}

/// How a subscription stands.
#[derive(Debug, Serialize)]
pub(crate) struct ProgressMessage<'a> {
    channel: u64,
    watermark: Option<String>,
    position: &'a Position,
    lag_ms: u64,
    late: u64,
    dropped: u64,
    completeness: f64,
    /// What holds rows back: that a stream is paused, say; absent: nothing.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notices: &'a [Notice],
}

impl<'a> ServerMessage<'a> {
    /// How a subscription stands.
    pub(crate) fn progress(channel: u64, progress: &'a Progress) -> Self {
        Self::Progress(ProgressMessage {
            channel,
            watermark: progress.watermark.and_then(moment::text),
            position: &progress.position,
            lag_ms: progress.lag_ms,
            late: progress.late,
            dropped: progress.dropped,
            completeness: progress.completeness,
            notices: &progress.notices,
        })
    }

    /// Where a replay stands. `error`: why it goes on as before.
    pub(crate) fn pace(id: &'a str, stand: &'a Stand, error: Option<&'a ErrorBody>) -> Self {
        let Stand { paused, position, event_time } = stand;
        let event_time = event_time.and_then(moment::text);
        Self::Pace(PaceMessage { id, paused: *paused, position, event_time, error })
    }

    /// A gap. `asked`: the start that the client asked for, in case the stream does not know where that was.
    pub(crate) fn gap(id: &'a str, asked: Option<&str>, gap: &'a Gap) -> Self {
        let from = match &gap.from {
            Some(position) => position.to_string(),
            None => asked.unwrap_or_default().to_owned(),
        };
        Self::Gap { id, from, to: &gap.to, rows: gap.rows, reason: gap.reason }
    }

    /// The message as it travels.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("messages hold nothing that JSON cannot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ClientMessage, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn what_clients_may_say() {
        assert_eq!(read(r#"{"type":"hello"}"#).expect("reads"), ClientMessage::Hello { _token: None });
        let subscribe = read(r#"{"type":"subscribe","id":"1","sql":"SELECT 1","policy":"drop_oldest","max_hz":2}"#);
        let ClientMessage::Subscribe(subscribe) = subscribe.expect("reads") else { panic!("not a subscribe") };
        assert_eq!((subscribe.policy, subscribe.max_hz), (Some(Policy::DropOldest), Some(2.0)));
        assert!(read(r#"{"type":"credit","id":"1","bytes":5}"#).is_ok());
        let one = ClientMessage::Step { id: "1".to_owned(), rows: 1 };
        assert_eq!(read(r#"{"type":"step","id":"1"}"#).expect("reads"), one);
        assert!(read(r#"{"type":"pause","id":"1"}"#).is_ok() && read(r#"{"type":"continue","id":"1"}"#).is_ok());
        assert!(read(r#"{"type":"set_params","id":"1","params":{"least":5}}"#).is_ok());
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        for text in [
            r#"{"type":"subscribe","id":"1","sql":"SELECT 1","polcy":"block"}"#,
            r#"{"type":"subscribe","id":1,"sql":"SELECT 1"}"#,
            r#"{"type":"subscribe","id":"1","policy":"never"}"#,
            r#"{"type":"hullo"}"#,
            r#"{"type":"step","id":"1","rows":-1}"#,
            r#"{"id":"1"}"#,
            "[]",
            "",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
