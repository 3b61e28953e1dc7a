//! A client's bounded view of a query's output.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::stream::{Gap, Position};

/// What happens when a client reads more slowly than rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The oldest rows are skipped, and told as a gap. Default for appended rows.
    DropOldest,
    /// Only the latest row of each key is told. Default for keyed updates.
    Conflate,
    /// Nothing is skipped while the log holds it; what retention takes is told as a gap.
    Block,
    /// The subscription ends.
    Disconnect,
}

/// What a subscription is.
#[derive(Debug, Clone)]
pub struct SubscriptionInfo {
    /// Id of the query, as `SHOW QUERIES` prints it.
    pub query: String,
    /// Names the output: subscriptions with the same channel get the same batches (and may share what is encoded
    /// of them in [`StreamBatch::memo`]).
    pub channel: u64,
    /// The visible fields.
    pub schema: SchemaRef,
    /// The fields by which updates replace each other; empty for appended rows.
    pub key: Vec<String>,
    /// Before the first row that comes.
    pub position: Position,
    /// `Some(true)`: every row since the position asked for will come. `Some(false)`: not, a gap comes first. `None`:
    /// no position was asked for.
    pub recovered: Option<bool>,
    /// Windows that start before this moment may be partial; `None`: none is.
    pub complete_from: Option<EventTime>,
    /// How many other users the query's jobs have.
    pub shared_with: usize,
    /// What must be told wherever the rows are shown: that a source is a replay, or synthetic.
    pub labels: Vec<String>,
    /// The policy in force.
    pub policy: Policy,
}

/// What a client gets.
#[derive(Debug)]
pub enum SubscriptionEvent {
    /// Rows. They are `batch.rows` less the first `skip` ones.
    Rows {
        /// The batch, shared by all subscriptions of the channel.
        batch: Arc<StreamBatch>,
        /// Rows of the batch that come before the position that the client resumed from; nearly always zero.
        skip: usize,
        /// Behind the batch.
        position: Position,
        /// Part of the snapshot that a joiner of running results gets first.
        snapshot: bool,
    },
    /// Rows that the client does not get.
    Gap(Gap),
    /// How things stand; at most once a second and only when something changed.
    Progress(Progress),
    /// All inputs have ended and all rows were told; nothing follows.
    Complete,
    /// The query has failed or was killed; nothing follows.
    Failed(Arc<EngineError>),
}

/// How a query stands. Counts are of the query's whole chain of jobs, since their start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// The output's watermark; `None` while there is none.
    pub watermark: Option<EventTime>,
    /// Where the subscription is.
    pub position: Position,
    /// Wall clock less the arrival of the last row read from the source, in milliseconds; of a replay as well.
    pub lag_ms: u64,
    /// Rows that came too late for all their windows.
    pub late: u64,
    /// Rows lost on the way, undecodable, without event time or failed.
    pub dropped: u64,
    /// Share of rows seen of those that came, 1.0 when none was lost.
    pub completeness: f64,
}

/// How often a progress event comes at the most.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A running subscription. Dropping it takes its query's users down by one; its jobs linger and are then released.
pub struct Subscription {
    info: SubscriptionInfo,
}

impl Subscription {
    /// What it is.
    pub fn info(&self) -> &SubscriptionInfo {
        &self.info
    }

    /// The next event; waits for it. Cancel safe. After [`SubscriptionEvent::Complete`] or
    /// [`SubscriptionEvent::Failed`] it waits for ever.
    pub async fn next(&mut self) -> SubscriptionEvent {
        unreachable!("in work")
    }

    /// The next event if it is there: to fill a socket's buffer without waiting.
    pub fn try_next(&mut self) -> Option<SubscriptionEvent> {
        unreachable!("in work")
    }

    /// Ends the subscription at the client's wish: its jobs linger for two seconds instead of a minute.
    pub fn unsubscribe(self) {}
}
